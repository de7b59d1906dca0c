"""Observe: orders as they are now, against the last told state: new snapshots and the events that tell of it."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection
from relay.domain.events import ChangeEvent, Origin, Snapshot, change_event, noted, snapshot_event
from relay.domain.orders import PurchaseOrder
from relay.domain.syncs import Announce, first_kind, within
from relay.ports import OutboxEntry


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of what is read: see `relay.domain.syncs`. `begin` is the first day of a window.

    Of a sync that tells snapshots it is its own; otherwise that of the connection's first sync.
    """

    announce: Announce = Announce.CHANGES
    begin: dt.date | None = None


def observed(
    connection: Connection,
    orders: Iterable[PurchaseOrder],
    before: Mapping[str, Snapshot],
    *,
    now: dt.datetime,
    telling: Telling,
) -> tuple[list[Snapshot], list[OutboxEntry]]:
    """New snapshots and events, in the orders' order; nothing for an order of which there is nothing new to tell."""
    origin = Origin(connection.customer_id, connection.id, connection.connector)
    after: dict[str, Snapshot] = {}
    entries: list[OutboxEntry] = []
    for order in orders:
        last = after.get(order.remote_id) or before.get(order.remote_id)
        event, snapshot = _told(origin, last, order, now, telling)
        if snapshot:
            after[order.remote_id] = snapshot
        if event:
            entries.append(_entry(event))
    return list(after.values()), entries


def _told(
    origin: Origin, last: Snapshot | None, order: PurchaseOrder, now: dt.datetime, telling: Telling
) -> tuple[ChangeEvent | None, Snapshot | None]:
    snapshots = telling.announce is Announce.SNAPSHOT
    inside = within(order, telling.begin)
    if telling.announce is Announce.SILENT or (snapshots and last is None and not inside):
        return None, noted(last, order, now=now)
    first = ChangeKind.SNAPSHOT if snapshots else first_kind(order, telling.begin)
    if made := change_event(origin, last, order, now=now, first=first):
        return made
    if snapshots and inside and last and not order.remote_was_deleted:
        return snapshot_event(origin, last, order, now=now)
    return None, None


def _entry(event: ChangeEvent) -> OutboxEntry:
    return OutboxEntry(
        event_id=event.data.event_id,
        stream="changes",
        remote_id=event.data.remote_id,
        sequence=event.data.sequence,
        type=event.type,
        occurred_at=event.timestamp,
        body=event.model_dump_json().encode(),
    )
