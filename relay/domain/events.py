"""Events: frozen at creation, the same bytes on the topic and in the webhook.

    {"type": "purchase_order.approved", "timestamp": "...", "data": {...}}     Standard Webhooks payload
    ce_id, ce_source, ce_type, ce_subject, ce_time                             CloudEvents 1.0, binary mode, on Kafka

Ids are derived, never random, so that doing a step twice gives the same event.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import AwareDatetime, Field

from relay.domain.changes import Change, ChangeKind, diff, headline
from relay.domain.mapping import Edition
from relay.domain.orders import OrderDocument, PurchaseOrder, Text, Tree, Value, content_hash, order_id

EVENT_PREFIX = "purchase_order."
EVENT_TYPES = tuple(
    EVENT_PREFIX + kind
    for kind in (
        ChangeKind.CREATED,
        ChangeKind.UPDATED,
        ChangeKind.STATUS_CHANGED,
        ChangeKind.APPROVED,
        ChangeKind.REJECTED,
        ChangeKind.QUANTITY_RECEIVED,
        ChangeKind.QUANTITY_INVOICED,
        ChangeKind.CANCELLED,
        ChangeKind.CLOSED,
        ChangeKind.REOPENED,
        ChangeKind.DELETED,
        ChangeKind.RESTORED,
        ChangeKind.SNAPSHOT,
        ChangeKind.MAPPING_CHANGED,
    )
)
"""Every type of change event there is."""


class ChangeData(Value):
    """What happened to one purchase order between two looks at it."""

    event_id: Text = Field(description="Derived from order, sequence and content: a replay has the same id.")
    customer_id: Text
    connection_id: Text
    connector: Text
    order_id: Text
    remote_id: Text
    number: Text | None = None
    sequence: int = Field(ge=1, description="Number of this event among the order's events, without gaps from 1.")
    kinds: tuple[ChangeKind, ...] = Field(description="Every kind among `changes`, sorted.")
    changes: tuple[Change, ...] = Field(
        description="What turns the order's last state into this one; empty in a snapshot and when relay saw the order "
        "for the first time: `order` says all."
    )
    caused_by: tuple[Text, ...] = Field(
        default=(), description="`command_id` of each command of yours that asked for this; empty when nobody did."
    )
    before_hash: Text | None = None
    after_hash: Text
    occurred_at: AwareDatetime | None = Field(default=None, description="The ERP's own time of the change, if it says.")
    observed_at: AwareDatetime
    order: OrderDocument = Field(description="The whole order after the change.")


class ChangeEvent(Value):
    """The body of a change event."""

    type: Text
    timestamp: AwareDatetime
    data: ChangeData


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last state of an order that events have told of."""

    remote_id: str
    tree: Tree
    hash: str
    sequence: int
    first_seen_at: datetime
    edition: Edition = field(default_factory=Edition)
    """The mapping that it was read with."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where orders come from."""

    customer_id: str
    connection_id: str
    connector: str


def event_id(connection_id: str, remote_id: str, sequence: int, after_hash: str) -> str:
    """The event's id; the sequence is in it because an order may return to an earlier state (A, B, A)."""
    seed = "\n".join((connection_id, remote_id, str(sequence), after_hash))
    return "evt_" + hashlib.sha256(seed.encode()).hexdigest()[:32]


def change_event(  # noqa: PLR0913 - what is seen, and what is told of it
    origin: Origin,
    before: Snapshot | None,
    order: PurchaseOrder,
    *,
    now: datetime,
    first: ChangeKind,
    caused_by: tuple[str, ...] = (),
) -> tuple[ChangeEvent, Snapshot] | None:
    """The event for one observed order and its new snapshot; None when there is nothing to tell.

    `first` is the kind of an order seen for the first time: created, or snapshot during a first sync. `caused_by` are
    the commands that asked for what is seen.
    """
    tree = order.tree()
    digest = content_hash(tree)
    if before and before.hash == digest:
        return None
    if before is None and order.remote_was_deleted:
        # Nobody was ever told of it: an ERP that keeps its deleted orders would tell of years of them.
        return None
    changes = diff(before.tree if before else None, tree, first=first)
    after = _after(before, order, tree, digest, now)
    return _event(origin, before, after, order, now, changes, caused_by), after


def snapshot_event(
    origin: Origin, before: Snapshot, order: PurchaseOrder, *, now: datetime
) -> tuple[ChangeEvent, Snapshot]:
    """The event that tells an order again that is as it was told before, and its snapshot, one number further."""
    after = replace(before, sequence=before.sequence + 1)
    changes = (Change(kind=ChangeKind.SNAPSHOT, op="add", path="", after=before.tree),)
    return _event(origin, before, after, order, now, changes), after


def mapping_event(
    origin: Origin, before: Snapshot, order: PurchaseOrder, *, now: datetime
) -> tuple[ChangeEvent, Snapshot] | None:
    """The event for an order that differs because it is mapped otherwise, and its snapshot; None when it is the same.

    Nothing happened in the ERP, so the event bears no time of it, and all its changes are of one kind.
    """
    tree = order.tree()
    digest = content_hash(tree)
    if before.hash == digest:
        return None
    kind = ChangeKind.MAPPING_CHANGED
    changes = tuple(each.model_copy(update={"kind": kind}) for each in diff(before.tree, tree))
    after = _after(before, order, tree, digest, now)
    event = _event(origin, before, after, order, now, changes)
    return event.model_copy(
        update={"timestamp": now, "data": event.data.model_copy(update={"occurred_at": None})}
    ), after


def noted(before: Snapshot | None, order: PurchaseOrder, *, now: datetime) -> Snapshot | None:
    """The new snapshot of an order of which nothing is told; None when it is the one before.

    Its number stays, so the next change is told with the next one: with 1 when nothing was ever told.
    """
    tree = order.tree()
    digest = content_hash(tree)
    if (before and before.hash == digest) or (before is None and order.remote_was_deleted):
        return None
    after = _after(before, order, tree, digest, now)
    return replace(after, sequence=after.sequence - 1)


def gone(last: Snapshot, unreadable: tuple[str, ...]) -> PurchaseOrder:
    """An order that its system does not show any more, as it was last told. `unreadable` is its `field_presence`."""
    # The last told state keeps no list of what its system cannot give.
    return PurchaseOrder.model_validate({**last.tree, "field_presence": unreadable}).deleted()


def document(origin: Origin, after: Snapshot, order: PurchaseOrder, now: datetime) -> OrderDocument:
    """The order as it is told, with the number of its latest event."""
    return OrderDocument.model_construct(
        **{name: getattr(order, name) for name in PurchaseOrder.model_fields},
        id=order_id(origin.connection_id, order.remote_id),
        connection_id=origin.connection_id,
        customer_id=origin.customer_id,
        sequence=after.sequence,
        content_hash=after.hash,
        first_seen_at=after.first_seen_at,
        observed_at=now,
    )


def _after(before: Snapshot | None, order: PurchaseOrder, tree: Tree, digest: str, now: datetime) -> Snapshot:
    return Snapshot(
        remote_id=order.remote_id,
        tree=tree,
        hash=digest,
        sequence=before.sequence + 1 if before else 1,
        first_seen_at=before.first_seen_at if before else now,
        edition=before.edition if before else Edition(),
    )


def _event(  # noqa: PLR0913, PLR0917 - what an event is made of
    origin: Origin,
    before: Snapshot | None,
    after: Snapshot,
    order: PurchaseOrder,
    now: datetime,
    changes: tuple[Change, ...],
    caused_by: tuple[str, ...] = (),
) -> ChangeEvent:
    data = _data(document(origin, after, order, now), origin.connector, before, changes, caused_by)
    return ChangeEvent(type=EVENT_PREFIX + headline(changes), timestamp=data.occurred_at or now, data=data)


def _data(
    order: OrderDocument,
    connector: str,
    before: Snapshot | None,
    changes: tuple[Change, ...],
    caused_by: tuple[str, ...],
) -> ChangeData:
    return ChangeData(
        event_id=event_id(order.connection_id, order.remote_id, order.sequence, order.content_hash),
        customer_id=order.customer_id,
        connection_id=order.connection_id,
        connector=connector,
        order_id=order.id,
        remote_id=order.remote_id,
        number=order.number,
        sequence=order.sequence,
        # The whole order in `order` already says what a snapshot or a first sight brought.
        changes=tuple(change for change in changes if change.path),
        kinds=tuple(sorted({change.kind for change in changes})),
        caused_by=caused_by,
        before_hash=before.hash if before else None,
        after_hash=order.content_hash,
        occurred_at=order.remote_updated_at,
        observed_at=order.observed_at,
        order=order,
    )
