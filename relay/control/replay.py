"""Replay: events sent again to one endpoint, as people ask for it."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from relay.control import given
from relay.control.views import View
from relay.domain.endpoints import Endpoint, EndpointState
from relay.domain.errors import NotFound, UserError
from relay.domain.replays import Criteria, Past, ReplayState
from relay.store.explain import ExplainStore
from relay.store.registry import Registry
from relay.store.replays import ReplayList

PER_SECOND, SLOWEST, FASTEST = 20.0, 0.01, 1000.0


class EventSeen(View):
    """One event that matches."""

    event_id: str
    type: str
    connection_id: str
    remote_id: str
    sequence: int
    occurred_at: datetime


class ReplayFound(View):
    """What would be sent again. `at_most`: the endpoint's condition is asked only when an event's turn comes."""

    endpoint: str
    events: int
    at_most: bool
    first: EventSeen | None
    last: EventSeen | None


class ReplayView(View):
    """A replay. Of the events `found` at its start, `done` are in line or through; `waiting` have still to be sent."""

    id: str
    customer: str
    endpoint: str
    endpoint_id: str
    endpoint_state: EndpointState
    state: ReplayState
    criteria: Criteria
    per_second: float
    found: int
    done: int
    waiting: int
    delivered: int
    dead: int
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the store."""
        return cls.model_validate(dict(row))


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events, in the words of a person: an order may be a number, a connection a name."""

    since: datetime | None = None
    until: datetime | None = None
    order: str | None = None
    event_types: Iterable[str] = ()
    connection: str | None = None
    statuses: Iterable[str] = ()


@dataclass(frozen=True, slots=True)
class Replaying:
    """What `relay replay` does."""

    registry: Registry
    store: ReplayList
    orders: ExplainStore

    async def found(self, endpoint: str, asked: Asked) -> ReplayFound:
        """How many events a replay would send now, the first and the last. Raises NotFound, UserError."""
        subject: Endpoint = (await self.registry.endpoint(endpoint)).subject
        found = await self.store.found(subject, await self._criteria(subject, asked))
        return ReplayFound(
            endpoint=subject.name,
            events=found.events,
            at_most=found.at_most,
            first=found.first and EventSeen.model_validate(found.first),
            last=found.last and EventSeen.model_validate(found.last),
        )

    async def start(self, endpoint: str, asked: Asked, per_second: float = PER_SECOND) -> ReplayView:
        """Begin to send again, about `per_second` events a second, beside what is new.

        Raises:
            NotFound: no such endpoint, order or connection.
            UserError: the endpoint is disabled, or a value cannot be used.
        """
        subject: Endpoint = (await self.registry.endpoint(endpoint)).subject
        if subject.state is EndpointState.DISABLED:
            raise UserError(f"{subject.name} is disabled, nothing is sent to it: `relay endpoints enable` first")
        if not SLOWEST <= per_second <= FASTEST:
            raise UserError(f"events per second must be from {SLOWEST:g} to {FASTEST:g}")
        replay_id = f"rpl_{secrets.token_hex(12)}"
        await self.store.start(replay_id, subject, await self._criteria(subject, asked), per_second)
        return await self.replay(replay_id)

    async def replays(self, endpoint: str | None = None) -> list[ReplayView]:
        """The latest replays, newest first. Raises NotFound."""
        endpoint_id = (await self.registry.endpoint(endpoint)).subject.id if endpoint else None
        return [ReplayView.of(row) for row in await self.store.replays(endpoint_id)]

    async def replay(self, replay_id: str) -> ReplayView:
        """One replay. Raises NotFound."""
        return ReplayView.of(await self.store.replay(replay_id))

    async def pause(self, replay_id: str) -> ReplayView:
        """Put nothing more in line until it is resumed; what is in line is sent. Raises NotFound, UserError."""
        return await self._changed(replay_id, ReplayState.PAUSED, ReplayState.RUNNING)

    async def resume(self, replay_id: str) -> ReplayView:
        """Go on where it was paused. Raises NotFound, UserError."""
        return await self._changed(replay_id, ReplayState.RUNNING, ReplayState.PAUSED)

    async def cancel(self, replay_id: str) -> ReplayView:
        """End it; what is in line and not being sent becomes what it was before. Raises NotFound, UserError."""
        return await self._changed(
            replay_id, ReplayState.CANCELLED, ReplayState.RUNNING, ReplayState.PAUSED, ReplayState.DONE
        )

    async def _changed(self, replay_id: str, state: ReplayState, *only: ReplayState) -> ReplayView:
        await self.store.change(replay_id, state, only)
        return await self.replay(replay_id)

    async def _criteria(self, subject: Endpoint, asked: Asked) -> Criteria:
        if asked.since and asked.until and asked.since >= asked.until:
            raise UserError("`since` must be before `until`")
        connection = await self._connection_id(subject, asked.connection) if asked.connection else None
        order, connection = await self._order(subject, asked.order, connection)
        statuses = tuple(asked.statuses)
        if unknown := set(statuses) - set(Past):
            raise UserError(f"unknown status {min(unknown)!r}: the known ones are {', '.join(Past)}")
        return Criteria(
            since=asked.since,
            until=asked.until,
            order=order,
            event_types=given.event_types_given(asked.event_types),
            connection=connection,
            statuses=tuple(map(Past, statuses)) or tuple(Past),
        )

    async def _connection_id(self, subject: Endpoint, name: str) -> str:
        try:
            found = (await self.registry.connection(f"{subject.customer_id}/{name}")).subject
        except NotFound:
            found = (await self.registry.connection(name)).subject
        if found.customer_id != subject.customer_id:
            raise NotFound(f"{subject.customer_id} has no connection {name!r}: see `relay connections list`")
        return str(found.id)

    async def _order(
        self, subject: Endpoint, order: str | None, connection: str | None
    ) -> tuple[str | None, str | None]:
        """The order's remote id and its connection."""
        if order is None:
            return None, connection
        theirs = {each.subject.id for each in await self.registry.connections() if _is_of(each.subject, subject)}
        found = [each for each in await self.orders.find(order, connection) if each[0] in theirs]
        if len(found) > 1:
            names = ", ".join(f"{remote_id!r} of {id_}" for id_, remote_id in found)
            raise UserError(f"several orders are called {order!r}; say which, with --connection: {names}")
        if not found:
            raise NotFound(f"{subject.customer_id} has no order {order!r}: see `relay explain`")
        return found[0][1], found[0][0]


def _is_of(connection: Any, endpoint: Endpoint) -> bool:
    return bool(connection.customer_id == endpoint.customer_id)
