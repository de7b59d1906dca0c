"""Arrivals: readers at the end of their logs wait here, and one look at the database now and then serves them all.

Nothing is looked up while nobody waits, and a look is one primary key per endpoint that is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from relay.domain.errors import Unavailable

Reached = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]
"""The newest number of each of these endpoints."""

MOST_WAITING = 1000
"""Readers that wait at a time; more are answered at once, as if they had not asked to wait."""


@dataclass
class Arrivals:
    """Who waits for which number. `every` is the seconds between two looks."""

    reached: Reached
    every: float = 0.5
    _waiting: dict[asyncio.Future[None], tuple[str, int]] = field(default_factory=dict)
    _looking: asyncio.Task[None] | None = None

    async def beyond(self, endpoint_id: str, number: int, seconds: float) -> None:
        """Return when the endpoint has an event after `number`, or the time is over."""
        if seconds <= 0 or len(self._waiting) >= MOST_WAITING:
            return
        arrived = asyncio.get_running_loop().create_future()
        self._waiting[arrived] = (endpoint_id, number)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([arrived], timeout=seconds)
        finally:
            del self._waiting[arrived]

    async def _look(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self.every)
                await self._look_once()
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        try:
            reached = await self.reached({endpoint_id for endpoint_id, _ in self._waiting.values()})
        except Unavailable:
            return  # those who wait are told when they ask for their page
        for arrived, (endpoint_id, number) in self._waiting.items():
            if reached.get(endpoint_id, 0) > number and not arrived.done():
                arrived.set_result(None)
