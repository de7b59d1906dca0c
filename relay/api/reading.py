"""Reading: how much of the database the HTTP side may have, so that receivers who read never slow down delivering."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Path

from relay.domain.errors import Unavailable

EndpointId = Annotated[str, Path(pattern="^[A-Za-z0-9_.-]{1,80}$", description="The endpoint's id, `end_...`.")]

READS = 2
"""Reads at a time; others wait their turn."""
PATIENCE = 10.0
"""Seconds for a read, its turn included."""


class Reading:
    """Reads of one process, a few at a time."""

    def __init__(self, reads: int = READS, patience: float = PATIENCE) -> None:
        self._turns, self._patience = asyncio.Semaphore(reads), patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Read in the block. Raises Unavailable when that takes too long."""
        try:
            async with asyncio.timeout(self._patience), self._turns:
                yield
        except TimeoutError:
            raise Unavailable(f"the database was busy for {self._patience:g} s") from None
