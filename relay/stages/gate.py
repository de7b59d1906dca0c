"""Gate: commands and pages of what is read, side by side, but never at the same order.

    command   -> its order is free -> read, written, read back, told          several at once
    page      -> read -> its orders are held -> what commands told meanwhile is read again -> stored -> let go

A page that was read before a write and stored after its read-back would turn the order back. An order is held only from
when its page has been read until that is stored, so neither waits for the other for long. New orders count as one:
which command made which is known once it is over.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

NEW: Final = ""
"""Stands for all orders that are not there yet."""


@dataclass
class Gate:
    """One connection's, of which one page is read at a time."""

    _inside: Counter[str] = field(default_factory=Counter, init=False)
    """Commands that are being done, by order."""
    _held: frozenset[str] = field(default=frozenset(), init=False)
    _told: set[str] = field(default_factory=set, init=False)
    """Orders that commands told of since the page was begun."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def making(self) -> bool:
        """Whether new orders are being made."""
        return self._inside[NEW] > 0

    @asynccontextmanager
    async def command(self, remote_id: str) -> AsyncIterator[None]:
        """While a command to this order (`NEW`: to none that is there) is done and told."""
        await self._until(lambda: remote_id not in self._held)
        self._inside[remote_id] += 1
        try:
            yield
        finally:
            self._inside[remote_id] -= 1
            if not self._inside[remote_id]:
                del self._inside[remote_id]
            self._move()

    def told(self, remote_id: str) -> None:
        """A command has told this order as it read it back."""
        self._told.add(remote_id)

    @asynccontextmanager
    async def page(self) -> AsyncIterator[None]:
        """While a page is read and stored; what it holds is let go at the end."""
        self._told.clear()
        try:
            yield
        finally:
            self._held = frozenset()
            self._move()

    async def hold(self, remote_ids: Collection[str]) -> set[str]:
        """Hold these orders, once commands to them are over; those that commands told of since the page was begun."""
        self._held = frozenset(remote_ids)
        await self._until(lambda: not any(each in self._inside for each in self._held))
        return self._told & self._held

    async def _until(self, may: Callable[[], bool]) -> None:
        while not may():
            await self._moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
