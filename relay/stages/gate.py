"""Gate: commands, and pages of what is read, never at the same time; commands first.

    commands  several at once      page  alone: read and stored before anything is written

A page that was read before a write and stored after it would turn the order back. A command waits for one page at most;
a page that waits has its turn after a batch of commands, so polling never stands still.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

BATCH: Final = 20
"""Commands that go before a page that waits."""


@dataclass
class Gate:
    """One connection's."""

    _inside: int = field(default=0, init=False)
    """Commands that are being done."""
    _page: bool = field(default=False, init=False)
    _commands: int = field(default=0, init=False)
    """Commands that wait."""
    _pages: int = field(default=0, init=False)
    """Pages that wait."""
    _passed: int = field(default=0, init=False)
    """Commands that went before the page that waits."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @asynccontextmanager
    async def command(self) -> AsyncIterator[None]:
        """While a command is done."""
        self._commands += 1
        try:
            await self._until(lambda: not self._page and (not self._pages or self._passed < BATCH))
        finally:
            self._commands -= 1
            self._move()
        self._inside += 1
        self._passed += 1 if self._pages else 0
        try:
            yield
        finally:
            self._inside -= 1
            self._move()

    @asynccontextmanager
    async def page(self) -> AsyncIterator[None]:
        """While a page is read and stored."""
        self._pages += 1
        try:
            await self._until(
                lambda: not self._page and not self._inside and (not self._commands or self._passed >= BATCH)
            )
        finally:
            self._pages -= 1
            self._passed = 0
            self._move()
        self._page = True
        try:
            yield
        finally:
            self._page = False
            self._move()

    async def _until(self, may: Callable[[], bool]) -> None:
        while not may():
            await self._moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
