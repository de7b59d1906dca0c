"""Slots: so many calls at once, and of those that wait the ones that go first, then whoever came first."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeAlias

_Waiting: TypeAlias = tuple[bool, int, asyncio.Future[None]]


class Slots:
    """The calls of one connection."""

    def __init__(self, many: int) -> None:
        self._free = many
        self._waiting: list[_Waiting] = []
        self._numbers = count()

    @asynccontextmanager
    async def one(self, *, first: bool) -> AsyncIterator[None]:
        """One slot for as long as the block lasts."""
        await self._take(first=first)
        try:
            yield
        finally:
            self._give()

    async def _take(self, *, first: bool) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not first, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
