"""Admission: which events that came back from Kafka become deliveries, and for whom.

Events of one purchase order are admitted in sequence, without a gap. One that arrives before its predecessor waits: it
will be published again after it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay.domain.orders import order_key

OrderRef = tuple[str, str]
"""(connection id, remote id)"""


@dataclass(frozen=True, slots=True)
class Told:
    """One change event as the outbox holds it."""

    position: int
    event_id: str
    customer_id: str
    connection_id: str
    remote_id: str
    sequence: int
    type: str

    @property
    def order(self) -> OrderRef:
        """The purchase order it tells of."""
        return self.connection_id, self.remote_id


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one endpoint wants: of its customer only, and every type and connection unless some are named."""

    endpoint_id: str
    customer_id: str
    event_types: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()

    def wants(self, event: Told) -> bool:
        """Whether this endpoint hears of `event`."""
        return (
            event.customer_id == self.customer_id
            and (not self.event_types or event.type in self.event_types)
            and (not self.connections or event.connection_id in self.connections)
        )


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One event for one endpoint, in the lane of its purchase order."""

    id: str
    endpoint_id: str
    position: int
    lane: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of one batch: `early` wait for their predecessors, `unknown` are event ids that relay never made."""

    events: int
    deliveries: int
    early: int
    unknown: tuple[str, ...]


def contiguous(
    events: Iterable[Told], last: Mapping[OrderRef, int]
) -> tuple[list[Told], list[Told], dict[OrderRef, int]]:
    """(ready, early, last sequence per order after it): ready events follow the last admitted one without a gap.

    `last` holds the last admitted sequence of each order; of one that is not in it, nothing was admitted.

    Events at or before the last admitted one were admitted before: they are in neither list.
    """
    reached = dict(last)
    ready: list[Told] = []
    early: list[Told] = []
    for event in sorted(events, key=lambda each: each.position):
        step = event.sequence - reached.get(event.order, 0)
        if step == 1:
            ready.append(event)
            reached[event.order] = event.sequence
        elif step > 1:
            early.append(event)
    return ready, early, reached


def wanted(events: Iterable[Told], subscriptions: Sequence[Subscription]) -> list[NewDelivery]:
    """A delivery for each event and each endpoint that wants it."""
    return [
        NewDelivery(
            delivery_id(each.endpoint_id, event.event_id), each.endpoint_id, event.position, order_key(*event.order)
        )
        for event in events
        for each in subscriptions
        if each.wants(event)
    ]


def delivery_id(endpoint_id: str, event_id: str) -> str:
    """The delivery's id, derived: admitting twice gives the same delivery."""
    return "dlv_" + hashlib.sha256(f"{endpoint_id}\n{event_id}".encode()).hexdigest()[:32]
