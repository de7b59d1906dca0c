"""Watch: the safety net under lost wake-ups, with one question for all that this worker holds.

    (now and then) -> which of mine have something due? -> their runners are woken

A runner that has nothing to do asks the store nothing, however many there are: it sleeps until it is woken, by NOTIFY
or from here. What was published and did not come back is found here, too.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from relay.domain.errors import Transient
from relay.ports import Watching

log = structlog.get_logger()


@dataclass
class Watch:
    """One worker's look at one kind of subject, `every` so often."""

    kind: str
    owner: str
    store: Watching
    wake: Callable[[Sequence[str]], None]
    every: timedelta
    _now: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def ring(self) -> None:
        """Look now: something may have been said that nobody heard."""
        self._now.set()

    async def run(self) -> None:
        """Look until cancelled; a store that does not answer is asked again."""
        while True:
            self._now.clear()
            try:
                await self.run_once()
            except Transient as error:
                log.warning("watch.blind", kind=self.kind, problem=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every.total_seconds()):
                    await self._now.wait()

    async def run_once(self) -> int:
        """Wake the runners of what has something due; how many. Raises Transient."""
        found = await self.store.with_work(self.owner)
        self.wake(found)
        return len(found)
