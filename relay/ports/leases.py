"""Who works on what: leases, and what of it has something due."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relay.domain.connections import Lease


@dataclass(frozen=True, slots=True)
class Claimed:
    """A subject under a new lease. `version` counts its changes by people: a runner ends when it moves."""

    lease: Lease
    version: int
    subject: Any


@dataclass(frozen=True, slots=True)
class Renewed:
    """Subjects still held, and those of them that people changed: their runners end and start anew."""

    held: frozenset[str]
    changed: frozenset[str]


class Leasing(Protocol):
    """Leases over connections or endpoints. Times are the store's own."""

    async def share(self, owner: str) -> int:
        """Say that `owner` lives; how many subjects are its fair share, rounded up."""
        ...

    async def claim(self, owner: str, most: int, without: Collection[str] = ()) -> list[Claimed]:
        """Up to `most` free subjects, now held by `owner`; none of `without`."""
        ...

    async def renew(self, held: Sequence[Claimed]) -> Renewed:
        """Keep these for another term; what is in neither set has been lost."""
        ...

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give leases back; nothing happens to those that are no longer ours."""
        ...

    async def leave(self, owner: str) -> None:
        """Forget a worker that ends."""
        ...


class Watching(Protocol):
    """What there is to do, for all subjects of a kind at once."""

    async def with_work(self, owner: str) -> Sequence[str]:
        """Ids of the subjects that `owner` holds and that have something due."""
        ...
