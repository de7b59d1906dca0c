"""Lease: hold a fair share of the connections or endpoints, and keep a runner going for each.

    free -> claimed -> runner -> (its end, a change, too many held) -> released
                              -> (lost) cancelled at once

All workers are alike: start more, and they share. A worker that cannot renew in time stops its runners by its own
clock, so a subject never has two.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from relay import metrics
from relay.domain.errors import LeaseLost, RelayError, Transient
from relay.ports import Claimed, Leasing

log = structlog.get_logger()

RENEWALS = 3
"""Renewals in a lease's length: two may fail before it runs out."""


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
class _Held:
    claimed: Claimed
    runner: Runner
    task: asyncio.Task[None]


@dataclass
class KeepLeases:
    """One worker's leases over one kind of subject. Times are seconds."""

    kind: str
    owner: str
    store: Leasing
    start: Callable[[Claimed], Runner]
    ttl: float
    tick: float
    drain: float
    held: dict[str, _Held] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _look: bool = field(default=False, init=False)
    _renewed: float = field(default=float("-inf"), init=False)

    def ring(self, subjects: str) -> None:
        """Something was said of these subjects (ids by comma; "" for all): wake their runners, look for free ones."""
        for subject in subjects.split(",") if subjects else list(self.held):
            if held := self.held.get(subject):
                held.runner.ring()
        if not subjects:
            self._look = True
            self._wake.set()

    def stop(self) -> None:
        """Give everything back; `run` ends when it is done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Hold a fair share until stopped."""
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    await self.run_once()
                except Transient as error:
                    log.warning("leases.unreachable", kind=self.kind, problem=str(error))
                    self._expire()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.tick):
                        await self._wake.wait()
            await self._give_back(list(self.held.values()))
            await self.store.leave(self.owner)
        finally:
            for held in self.held.values():
                held.task.cancel()

    async def run_once(self) -> int:
        """Renew, end what ended or changed, level with the other workers, claim; how many are held.

        Raises Unavailable when the store is not there.
        """
        await self._bury()
        await self._renew()
        share = await self.store.share(self.owner)
        await self._give_back(list(self.held.values())[share:])
        if len(self.held) < share:
            for claimed in await self.store.claim(self.owner, share - len(self.held)):
                self._begin(claimed)
        metrics.LEASES.labels(self.kind).set(len(self.held))
        return len(self.held)

    def _begin(self, claimed: Claimed) -> None:
        runner = self.start(claimed)
        task = asyncio.create_task(runner.run(), name=f"{self.kind} {claimed.lease.subject}")
        task.add_done_callback(lambda _: self._wake.set())
        self.held[claimed.lease.subject] = _Held(claimed, runner, task)
        log.info("lease.taken", kind=self.kind, subject=claimed.lease.subject, epoch=claimed.lease.epoch)

    async def _bury(self) -> None:
        """Let go of runners that ended by themselves."""
        for held in [each for each in self.held.values() if each.task.done()]:
            subject = held.claimed.lease.subject
            del self.held[subject]
            error = None if held.task.cancelled() else held.task.exception()
            if error is None:
                await self.store.release(held.claimed.lease)
                log.info("lease.released", kind=self.kind, subject=subject)
            else:
                # Not given back: it is free again when its time is up, so a bug or a lost database never spins.
                _tell(self.kind, subject, error)

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed < self.ttl / RENEWALS and not self._look:
            return
        self._look = False
        renewed = await self.store.renew([held.claimed for held in self.held.values()])
        self._renewed = now
        for subject in self.held.keys() - renewed.held - renewed.changed:
            await self._cancel(self.held.pop(subject))
        await self._give_back([self.held[subject] for subject in renewed.changed])

    def _expire(self) -> None:
        """The store is away: stop before others may take over."""
        if asyncio.get_running_loop().time() - self._renewed > self.ttl:
            for held in self.held.values():
                held.task.cancel()

    async def _give_back(self, some: Sequence[_Held]) -> None:
        for held in some:
            held.runner.stop()
        if some:
            await asyncio.wait([held.task for held in some], timeout=self.drain)
        for held in some:
            held.task.cancel()
        await self._bury()

    async def _cancel(self, held: _Held) -> None:
        held.task.cancel()
        await asyncio.wait([held.task])
        log.warning("lease.lost", kind=self.kind, subject=held.claimed.lease.subject)


def _tell(kind: str, subject: str, error: BaseException) -> None:
    causes = list(_leaves(error))
    if all(isinstance(cause, LeaseLost) for cause in causes):
        log.warning("lease.lost", kind=kind, subject=subject)
    elif all(isinstance(cause, RelayError) for cause in causes):
        log.warning("runner.ended", kind=kind, subject=subject, problem=str(causes[0]))
    else:
        log.error("runner.died", kind=kind, subject=subject, exc_info=error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
