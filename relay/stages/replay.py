"""Replay: put events in line again for one endpoint, a bite at a time, beside the delivering of what is new.

    look -> (few enough wait) -> bite: into their lanes -> delivered as any other -> look again

It runs only while there is something to put in line: whoever starts, resumes or cancels a replay has the endpoint's
runner begin anew. What was in line when a worker died still is.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import structlog

from relay.domain.connections import Lease
from relay.domain.deliveries import DeliveryId
from relay.domain.endpoints import Endpoint
from relay.domain.errors import Transient
from relay.ports import ReplayLook, Replays

log = structlog.get_logger()

MOST_WAITING = 300
"""Deliveries of a replay in line: more would only lengthen the lanes of what is new."""
MOST_AT_ONCE = 100
"""Events of a bite, or all of one order: while it is taken nothing is admitted for this endpoint."""
AGAIN = 1.0
"""Seconds until another look, when nothing could be put in line."""
PATIENCE = 10.0
"""Seconds until another look, when the store did not answer."""


@dataclass
class Replay:
    """One endpoint's replays, from `run` until `stop` or until there are none."""

    endpoint: Endpoint
    lease: Lease
    store: Replays
    still: Callable[[], AbstractAsyncContextManager[Collection[DeliveryId]]]
    """While this block runs, nothing is read or recorded for the endpoint; what its runner holds."""
    wake: Callable[[], None]
    """There are new heads."""
    patience: float = PATIENCE
    _stopped: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def stop(self) -> None:
        """Put nothing more in line."""
        self._stopped.set()

    async def run(self) -> None:
        """Go on until nothing is left. Raises LeaseLost; a store that does not answer is asked again."""
        while not self._stopped.is_set() and (pause := await self._attempt()) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopped.wait()

    async def run_once(self) -> float | None:
        """Put a bite in line, or take back what was cancelled; seconds until the next, None when nothing is left."""
        look = await self.store.look(self.endpoint, MOST_WAITING)
        if look is None:
            return None
        if look.cancelled:
            return await self._take_back(look)
        return AGAIN if look.waiting >= MOST_WAITING else await self._put(look)

    async def _attempt(self) -> float | None:
        try:
            return await self.run_once()
        except Transient as error:
            # A look through a long outbox may take too long: what is new goes on being delivered.
            log.warning("replay.waits", endpoint=self.endpoint.id, problem=str(error))
            return self.patience

    async def _take_back(self, look: ReplayLook) -> float:
        async with self.still() as held:
            back = await self.store.take_back(self.lease, look.id, held)
        log.info("replay.cancelled", endpoint=self.endpoint.id, replay=look.id, deliveries=back)
        self.wake()
        return 0.0 if back else AGAIN

    async def _put(self, look: ReplayLook) -> float:
        most = max(1, min(MOST_AT_ONCE, int(look.per_second)))
        async with self.still() as held:
            bite = await self.store.bite(self.lease, self.endpoint, look, held, most)
        if bite.put:
            log.debug("replay.moved", endpoint=self.endpoint.id, replay=look.id, deliveries=bite.put)
            self.wake()
        if bite.ended:
            log.info("replay.done", endpoint=self.endpoint.id, replay=look.id)
            return 0.0
        if bite.put:
            return bite.put / look.per_second
        return 0.0 if bite.moved else AGAIN
