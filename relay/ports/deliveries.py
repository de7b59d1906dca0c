"""Deliveries of endpoints: their heads, what is recorded, verification, replays."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt, Delivery, DeliveryId
from relay.domain.endpoints import Endpoint
from relay.domain.health import Verdict
from relay.domain.replays import Criteria, Match


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of lanes that are due, and when the next one will be (None: nothing waits for a time)."""

    due: tuple[Delivery, ...]
    next_due: datetime | None = None
    more: bool = False
    """Whether more are due than these."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What recording goes by: whether only an order's newest event waits, bytes to come back, and the new health."""

    latest_only: bool
    bytes: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """What a runner has room for: heads, how many of them attempted before, and bytes; and what it holds already."""

    heads: int
    repeated: int
    bytes: int
    held: frozenset[DeliveryId] = frozenset()


class Verifying(Protocol):
    """What a verification comes to. Every write names a lease and raises LeaseLost without it."""

    async def save_problem(self, lease: Lease, problem: str | None) -> None:
        """What keeps this endpoint from being sent anything; None: nothing does."""
        ...

    async def save_verified(self, lease: Lease, proof: str, per_minute: int | None) -> None:
        """What the endpoint has proved, and the most webhooks that it wants per minute (None: it sets no limit)."""
        ...

    async def disable(self, lease: Lease, url: str, problem: str) -> None:
        """Send nothing more to this endpoint until a person enables it, unless its URL is another by now."""
        ...


class Deliveries(Verifying, Protocol):
    """Deliveries of endpoints. Every write names a lease and raises LeaseLost without it."""

    async def heads(self, endpoint_id: str, space: Space) -> Heads:
        """Heads that are due and not held, longest due first, as many as there is space for, and one at least."""
        ...

    async def record(self, lease: Lease, attempts: Sequence[Attempt], rules: Rules) -> Heads:
        """Store attempts and what follows from them; the next heads of the lanes that may go on."""
        ...

    async def supersede(self, lease: Lease, held: Collection[DeliveryId]) -> None:
        """Leave out what a newer event of its order has made old, in lanes whose refused head is due and not held."""
        ...


@dataclass(frozen=True, slots=True)
class ReplayLook:
    """The replay to go on with: what it goes by, how far it came, and the next events by position.

    `waiting` of its deliveries are in line already; of a `cancelled` one they are to be taken back.
    """

    id: str
    criteria: Criteria
    per_second: float
    reached: int
    until: int
    waiting: int
    cancelled: bool
    matches: tuple[Match, ...]
    end: int
    """The position up to which these are all."""
    last: bool
    """Whether nothing can follow that."""


@dataclass(frozen=True, slots=True)
class Bite:
    """How many deliveries were put in line again, whether it went forward, and whether it is through."""

    put: int
    moved: bool
    ended: bool


class Replays(Protocol):
    """Replays of an endpoint. Every write names a lease and raises LeaseLost without it."""

    async def look(self, endpoint: Endpoint, most_waiting: int) -> ReplayLook | None:
        """What there is to do; None: nothing. Of what waits, `most_waiting` are counted at most."""
        ...

    async def bite(
        self, lease: Lease, endpoint: Endpoint, look: ReplayLook, held: Collection[DeliveryId], most: int
    ) -> Bite:
        """Put about `most` of what was seen in line, except in lanes of which the runner holds something."""
        ...

    async def take_back(self, lease: Lease, replay_id: str, held: Collection[DeliveryId]) -> int:
        """What a cancelled replay put in line and was not sent becomes what it was; how many."""
        ...
