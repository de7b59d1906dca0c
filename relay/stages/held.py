"""Held: one subject's runner from claimed to ended, and one step at a time at the store; neither is waited for forever.

asked to end -> (patience) -> cancelled -> (patience) -> cancelled again and told, again and again -> Stuck
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from relay.domain.errors import Stuck
from relay.ports import Claimed

log = structlog.get_logger()

TIMES = 6
"""How often the patience ends with what does not end, before the worker gives up."""


class Runner(Protocol):
    """The work on one subject."""

    async def run(self) -> None:
        """Work until there is nothing left to do here, or `stop` was called."""
        ...

    def stop(self) -> None:
        """End soon: finish what is in flight, take nothing new."""
        ...

    def ring(self) -> None:
        """There may be something to do."""
        ...


@dataclass
class Held:
    """A runner at work."""

    claimed: Claimed
    runner: Runner
    task: asyncio.Task[None]
    cancel_at: float | None = None
    """Asked to stop, and when patience ends."""
    cancelled_at: float | None = None
    _pressed: int = field(default=0, init=False)

    def cancel(self) -> None:
        """End it now."""
        if self.cancelled_at is None:
            self.cancelled_at = asyncio.get_running_loop().time()
            self.task.cancel()

    def press(self, kind: str, patience: float) -> None:
        """Cancel again, and tell, what does not end although it was cancelled. Raises Stuck when that did not help."""
        if self.cancelled_at is None or self.task.done():
            return
        seconds, subject = asyncio.get_running_loop().time() - self.cancelled_at, self.claimed.lease.subject
        if seconds >= (self._pressed + 1) * patience:
            self._pressed += 1
            log.error("runner.stuck", kind=kind, subject=subject, seconds=round(seconds))
            if self._pressed == TIMES:
                raise Stuck(f"work on {subject} does not end although it was cancelled: start this worker again")
            self.task.cancel()


@dataclass
class Steps:
    """One step after the other, each within its time.

    One that takes too long is cancelled and not waited for, because to tidy up after a lost connection takes time, too.
    As long as it goes on, no other begins.
    """

    name: str
    task: asyncio.Task[object] | None = field(default=None, init=False)
    _late_at: float | None = field(default=None, init=False)

    async def take(self, step: Callable[[], Coroutine[object, object, object]], seconds: float) -> None:
        """Take it, or wait for the one that is late. Raises TimeoutError, and what the step raises."""
        task = self.task = self.task or asyncio.create_task(step(), name=self.name)
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            task.cancel()
            self._late_at = self._late_at or asyncio.get_running_loop().time()
            raise TimeoutError
        self.task = self._late_at = None
        if task.cancelled():
            raise TimeoutError
        task.result()

    def press(self, patience: float) -> None:
        """Raise Stuck when a step has gone on for very long although it was cancelled."""
        if self._late_at is not None and asyncio.get_running_loop().time() - self._late_at >= TIMES * patience:
            raise Stuck(f"{self.name}: the store neither answers nor lets go; start this worker again")
