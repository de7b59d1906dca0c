"""Admission: which events that came back from Kafka become deliveries, and for whom.

    contiguous(events) -> ready -> asked(ready), whose bodies decide -> wanted(ready, bodies) -> deliveries

Events of one purchase order are admitted in sequence, without a gap. One that arrives before its predecessor waits: it
will be published again after it. Where a condition cannot be asked the event is delivered: losing nothing wins.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson

from relay.domain.endpoints import Ordering
from relay.domain.filters import Condition
from relay.domain.orders import order_key

OrderRef = tuple[str, str]
"""(connection id, remote id)"""

Bodies: TypeAlias = Mapping[int, bytes]
"""Bodies of events, by position."""


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
    """What one endpoint wants: of its customer only, and every type and connection unless some are named.

    `where` is asked last; None: every event.
    """

    endpoint_id: str
    customer_id: str
    event_types: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    where: Condition | None = None
    ordering: Ordering = Ordering.STRICT

    def wants(self, event: Told, body: Mapping[str, Any] | None = None) -> bool:
        """Whether this endpoint hears of `event`; without a body the condition is not asked."""
        return (
            event.customer_id == self.customer_id
            and (not self.event_types or event.type in self.event_types)
            and (not self.connections or event.connection_id in self.connections)
            and (self.where is None or body is None or self.where.holds(body))
        )

    def delivery(self, event: Told) -> "NewDelivery":
        """The delivery of `event`: in the lane of its order, or in one of its own where nothing waits."""
        name = delivery_id(self.endpoint_id, event.event_id)
        lane = name if self.ordering is Ordering.UNORDERED else order_key(*event.order)
        return NewDelivery(name, self.endpoint_id, event.position, lane)


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One event for one endpoint."""

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


def asked(events: Iterable[Told], subscriptions: Iterable[Subscription]) -> list[Told]:
    """The events whose bodies decide whether somebody wants them."""
    curious = [each for each in subscriptions if each.where]
    return [event for event in events if any(each.wants(event) for each in curious)] if curious else []


def wanted(
    events: Iterable[Told], subscriptions: Iterable[Subscription], bodies: Bodies = MappingProxyType({})
) -> list[NewDelivery]:
    """A delivery for each event and each endpoint that wants it. `bodies` are those of the `asked` ones."""
    theirs: defaultdict[str, list[Subscription]] = defaultdict(list)
    for each in subscriptions:
        theirs[each.customer_id].append(each)
    made: list[NewDelivery] = []
    for event in events:
        body = _read(bodies.get(event.position))
        made += [each.delivery(event) for each in theirs[event.customer_id] if each.wants(event, body)]
    return made


def delivery_id(endpoint_id: str, event_id: str) -> str:
    """The delivery's id, derived: admitting twice gives the same delivery."""
    return "dlv_" + hashlib.sha256(f"{endpoint_id}\n{event_id}".encode()).hexdigest()[:32]


def _read(body: bytes | None) -> dict[str, Any] | None:
    if body is None:
        return None
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return read if isinstance(read, dict) else None
