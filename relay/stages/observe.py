"""Observe: orders as they are now, against the last told state: new snapshots and the events that tell of it."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection
from relay.domain.events import Origin, Snapshot, change_event
from relay.domain.orders import PurchaseOrder
from relay.ports import OutboxEntry


def observed(
    connection: Connection,
    orders: Iterable[PurchaseOrder],
    before: Mapping[str, Snapshot],
    *,
    now: datetime,
    first: ChangeKind,
) -> tuple[list[Snapshot], list[OutboxEntry]]:
    """New snapshots and events, in the orders' order; nothing for an order that did not change.

    `first` is the kind of an order that was never seen: created, or snapshot during a first sync.
    """
    origin = Origin(connection.customer_id, connection.id, connection.connector)
    after: dict[str, Snapshot] = {}
    entries: list[OutboxEntry] = []
    for order in orders:
        last = after.get(order.remote_id) or before.get(order.remote_id)
        if made := change_event(origin, last, order, now=now, first=first):
            event, after[order.remote_id] = made
            entries.append(
                OutboxEntry(
                    event_id=event.data.event_id,
                    stream="changes",
                    remote_id=order.remote_id,
                    sequence=event.data.sequence,
                    type=event.type,
                    occurred_at=event.timestamp,
                    body=event.model_dump_json().encode(),
                )
            )
    return list(after.values()), entries
