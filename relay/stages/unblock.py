"""Unblock: what a process that stands still has locked is let go, because whoever took over needs it.

    (now and then) -> sessions that wait in a transaction for a process that does not go on -> ended

A worker that was stopped or suspended may hold its rows for as long as it stands still, and the lease that ran out is
then claimed by nobody. Every worker looks, since the one that stands still cannot.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from relay.domain.errors import Transient

log = structlog.get_logger()


class Standing(Protocol):
    """Sessions of processes that stand still."""

    async def end(self) -> int:
        """End them; how many."""
        ...


@dataclass
class Unblock:
    """One worker's look, `every` so often."""

    store: Standing
    every: timedelta

    async def run(self) -> None:
        """Look until cancelled; a store that does not answer is asked again."""
        while True:
            try:
                await self.run_once()
            except Transient as error:
                log.warning("sessions.unseen", problem=str(error))
            await asyncio.sleep(self.every.total_seconds())

    async def run_once(self) -> int:
        """End the sessions that stand still; how many. Raises Transient."""
        if ended := await self.store.end():
            log.warning("sessions.ended", count=ended)
        return ended
