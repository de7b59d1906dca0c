"""Observe: orders as they are now, against the last told state: new snapshots and the events that tell of it."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection
from relay.domain.events import (
    ChangeEvent,
    Origin,
    Snapshot,
    change_event,
    mapping_event,
    noted,
    snapshot_event,
)
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.domain.remapping import Remapping, Under
from relay.domain.syncs import Announce, first_kind, within
from relay.ports import OutboxEntry


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of what is read: see `relay.domain.syncs`. `begin` is the first day of a window.

    Of a sync that tells snapshots it is its own; otherwise that of the connection's first sync.
    """

    announce: Announce = Announce.CHANGES
    begin: dt.date | None = None
    known_only: bool = False
    """Orders that were not seen before are left alone."""


Causes = Callable[[Snapshot | None, PurchaseOrder], tuple[str, ...]]
"""The commands that asked for what differs between the last told state of an order and this one."""


def nobody(_last: Snapshot | None, _order: PurchaseOrder) -> tuple[str, ...]:
    """No command asked for it."""
    return ()


def _none_under(_: MappingOverrides) -> Mapping[str, PurchaseOrder]:
    return {}


def observed(  # noqa: PLR0913 - what is seen, what is known, and how it is told
    connection: Connection,
    orders: Iterable[PurchaseOrder],
    before: Mapping[str, Snapshot],
    *,
    now: dt.datetime,
    telling: Telling,
    remapping: Remapping | None = None,
    under: Under = _none_under,
    causes: Causes = nobody,
) -> tuple[list[Snapshot], list[OutboxEntry]]:
    """New snapshots and events, in the orders' order; nothing for an order of which there is nothing new to tell.

    Without `remapping` orders are taken to be mapped as their snapshots are. `under` maps the same records otherwise.
    """
    observing = _Observing(Origin(connection.customer_id, connection.id, connection.connector), now, telling, causes)
    after: dict[str, Snapshot] = {}
    entries: list[OutboxEntry] = []
    for order in orders:
        last = after.get(order.remote_id) or before.get(order.remote_id)
        if last is None and telling.known_only:
            continue
        events, snapshot = observing.told(last, order, remapping, under)
        if snapshot:
            after[order.remote_id] = snapshot
        entries += map(_entry, events)
    return list(after.values()), entries


@dataclass(frozen=True, slots=True)
class _Observing:
    origin: Origin
    now: dt.datetime
    telling: Telling
    causes: Causes

    def told(
        self, last: Snapshot | None, order: PurchaseOrder, remapping: Remapping | None, under: Under
    ) -> tuple[list[ChangeEvent], Snapshot | None]:
        """The events of one order, and its new snapshot; None: the old one stands."""
        snapshot: Snapshot | None
        if remapping and last and last.edition != remapping.edition:
            events, snapshot = self._remapped(last, order, remapping, under)
        else:
            event, snapshot = self._changed(last, order)
            events = [event] if event else []
        if snapshot and remapping:
            snapshot = replace(snapshot, edition=remapping.edition)
        return events, snapshot

    def _changed(self, last: Snapshot | None, order: PurchaseOrder) -> tuple[ChangeEvent | None, Snapshot | None]:
        telling = self.telling
        snapshots = telling.announce is Announce.SNAPSHOT
        inside = within(order, telling.begin)
        if telling.announce is Announce.SILENT or (snapshots and last is None and not inside):
            return None, noted(last, order, now=self.now)
        first = ChangeKind.SNAPSHOT if snapshots else first_kind(order, telling.begin)
        causes = self.causes(last, order)
        if made := change_event(self.origin, last, order, now=self.now, first=first, caused_by=causes):
            return made
        if snapshots and inside and last and not order.remote_was_deleted:
            return snapshot_event(self.origin, last, order, now=self.now)
        return None, None

    def _remapped(
        self, last: Snapshot, order: PurchaseOrder, remapping: Remapping, under: Under
    ) -> tuple[list[ChangeEvent], Snapshot]:
        """What happened to an order that is known under another mapping, then what the mapping shows otherwise."""
        former = remapping.former(last, order, under)
        if former is None and last.tree["remote_was_deleted"] != order.remote_was_deleted:
            former = order  # it went or came back, whatever else cannot be told apart
        event, changed = self._changed(last, former) if former else (None, None)
        events, between = [event] if event else [], changed or last
        if between.sequence and self.telling.announce is not Announce.SILENT:
            apart = former is not None and not remapping.tells(last)
            made = None if apart else mapping_event(self.origin, between, order, now=self.now)
            if made:
                return [*events, made[0]], made[1]
        return events, noted(between, order, now=self.now) or between


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
