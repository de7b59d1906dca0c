"""Explain: where an order's change is now, and why, from the ERP's poll to each receiver's answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from relay.control import telling
from relay.control.views import View
from relay.domain.errors import NotFound, UserError
from relay.domain.orders import order_id
from relay.store.explain import EndpointFacts, EventFacts, ExplainStore, OrderFacts
from relay.store.registry import Registry


class DeliveryTold(View):
    """Where one event stands with one endpoint. `delivery_id` is None when there is no delivery.

    `state` is waiting, blocked, delivered, dead, superseded, "not wanted" or "not yet"; `next_at` when the next attempt
    is due, if one is.
    """

    endpoint: str
    endpoint_id: str
    delivery_id: str | None
    state: str
    says: str
    attempts: int = 0
    next_at: datetime | None = None


class EventTold(View):
    """One event of the order. `state` is stored, published, early, admitted or rejected."""

    event_id: str
    sequence: int
    type: str
    occurred_at: datetime
    state: str
    says: str
    publishes: int
    deliveries: tuple[DeliveryTold, ...]
    caused_by: tuple[str, ...] = ()
    """Ids, as their senders gave them, of the commands that asked for this change."""


class ConnectionTold(View):
    """How the ERP is being read."""

    id: str
    customer: str
    name: str
    state: str
    says: str
    polled_at: datetime | None
    next_poll_at: datetime | None
    problem: str | None


class SnapshotTold(View):
    """The order as relay knows it; without a sequence when it was never read well."""

    state: str
    says: str
    sequence: int | None = None
    hash: str | None = None
    changed_at: datetime | None = None
    missing_passes: int = 0


class Explanation(View):
    """One order, from poll to answer. `events` are its newest, the last first."""

    order: str
    order_id: str
    number: str | None
    says: str
    connection: ConnectionTold
    snapshot: SnapshotTold
    events: tuple[EventTold, ...]


@dataclass(frozen=True, slots=True)
class Explaining:
    """What `relay explain` asks."""

    registry: Registry
    store: ExplainStore

    async def order(self, order: str, connection: str | None = None) -> Explanation:
        """Explain one order, by its remote id, its number, its id in relay or the id of one of its events.

        Raises:
            NotFound: no such order or connection.
            UserError: several orders are called so; the message names them.
        """
        given = connection and (await self.registry.connection(connection)).subject.id
        found = await self.store.find(order, given or None)
        if len(found) > 1:
            choices = ", ".join(repr(remote_id) for _, remote_id in found) if given else await self._choices(found)
            raise UserError(f"several orders are called {order!r}; say which: {choices}")
        facts = await self.store.facts(*found[0]) if found else None
        if facts is None:
            raise NotFound(
                f"relay has not read an order {order!r}: `relay connections list` tells when each was polled"
            )
        return explained(facts)

    async def _choices(self, found: Iterable[tuple[str, str]]) -> str:
        names = {each.subject.id: each.subject for each in await self.registry.connections()}
        return ", ".join(
            f"{remote_id!r} --connection {names[id_].customer_id}/{names[id_].name}"
            for id_, remote_id in found
            if id_ in names
        )


def explained(facts: OrderFacts) -> Explanation:
    """What the facts say."""
    connection, snapshot = facts.connection, facts.snapshot
    read, known = telling.connection(connection), telling.snapshot(snapshot, connection.now)
    events = tuple(_event(each, facts) for each in facts.events)
    return Explanation(
        order=facts.remote_id,
        order_id=order_id(connection.id, facts.remote_id),
        number=snapshot and snapshot.tree.get("number"),
        says=_summary(events),
        connection=ConnectionTold(
            id=connection.id,
            customer=connection.customer_id,
            name=connection.name,
            state=read.state,
            says=read.sentence,
            polled_at=connection.polled_at,
            next_poll_at=read.next_at,
            problem=connection.problem,
        ),
        snapshot=SnapshotTold(state=known.state, says=known.sentence)
        if snapshot is None
        else SnapshotTold(
            state=known.state,
            says=known.sentence,
            sequence=snapshot.sequence,
            hash=snapshot.hash,
            changed_at=snapshot.changed_at,
            missing_passes=snapshot.missing_passes,
        ),
        events=events,
    )


def _event(event: EventFacts, facts: OrderFacts) -> EventTold:
    said = telling.event(event, facts)
    return EventTold(
        event_id=event.event_id,
        sequence=event.sequence,
        type=event.type,
        occurred_at=event.occurred_at,
        state=said.state,
        says=said.sentence,
        publishes=event.publishes,
        caused_by=event.caused_by,
        deliveries=() if said.state == "rejected" else tuple(_delivery(event, each, facts) for each in facts.endpoints),
    )


def _delivery(event: EventFacts, endpoint: EndpointFacts, facts: OrderFacts) -> DeliveryTold:
    said = telling.delivery(event, endpoint, facts)
    found = facts.deliveries.get((endpoint.id, event.position))
    return DeliveryTold(
        endpoint=endpoint.name,
        endpoint_id=endpoint.id,
        delivery_id=found and found.id,
        state=said.state,
        says=said.sentence,
        attempts=found.attempts if found else 0,
        next_at=said.next_at,
    )


def _summary(events: tuple[EventTold, ...]) -> str:
    if not events:
        return "No event of it is stored any more: all were delivered and forgotten, or nothing has changed yet."
    last = events[0]
    name = f"Its last event, sequence {last.sequence} ({last.type.rpartition('.')[2]}),"
    if last.state == "rejected":
        return f"Its last record could not be read. {last.says}"
    if last.state != "admitted":
        return f"{name} is not yet with any endpoint. {last.says}"
    wanting = [each for each in last.deliveries if each.state not in {telling.NOT_WANTED, telling.NOT_YET}]
    if not wanting:
        return f"{name} is wanted by no endpoint."
    done = [each for each in wanting if each.state == "delivered"]
    if len(done) == len(wanting):
        return (
            f"{name} was delivered to all {len(done)} endpoints that want it."
            if len(done) > 1
            else (f"{name} was delivered to {done[0].endpoint}.")
        )
    behind = next(each for each in wanting if each.state != "delivered")
    return f"{name} is with {len(done)} of {len(wanting)} endpoints; {behind.endpoint}: {behind.says}."
