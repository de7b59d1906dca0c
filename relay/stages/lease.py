"""Lease: hold a fair share of the connections or endpoints, and keep a runner going for each.

    free -> claimed -> runner -> (its end, a change, too many held) -> released
                              -> (lost) cancelled at once

All workers are alike: start more, and they share. A worker that cannot renew in time stops its runners by its own
clock, so a subject never has two. Nothing here is waited for without end: what does not end although it was cancelled
is left out, told, and in the end the reason why the worker ends with an error.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from relay import metrics
from relay.domain.errors import LeaseLost, RelayError, Transient, causes
from relay.ports import Claimed, Leasing
from relay.stages.held import Held, Runner, Steps

if TYPE_CHECKING:
    from relay.domain.connections import Lease

log = structlog.get_logger()

RENEWALS = 3
"""Renewals in a lease's length: two may fail before it runs out."""


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
    held: dict[str, Held] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _changed: set[str] = field(default_factory=set, init=False)
    _renewed: float = field(default=float("-inf"), init=False)
    _steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self._steps = Steps(f"leases of {self.kind}")

    def ring(self, subjects: Iterable[str]) -> None:
        """There may be something to do for these: wake their runners."""
        for subject in subjects:
            if held := self.held.get(subject):
                held.runner.ring()

    def look(self, subjects: Collection[str] = ()) -> None:
        """People added, changed or removed these, or nobody knows which: see what became of them, find free ones."""
        self._changed.update(subjects or self.held)
        self._wake.set()

    def stop(self) -> None:
        """Give everything back; `run` ends when it is done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Hold a fair share until stopped; then let the runners end within `drain` and give everything back.

        A store that is away ends nothing here: what cannot be given back is free again when its time is up.

        Raises:
            Stuck: something does not end that was cancelled long ago.
        """
        try:
            while not self._stopping:
                await self._attempt(self.run_once)
                await self._rest()
            self._let_go(self.held.values())
            while (settled := await self._attempt(self._settle)) and self.held:
                await self._rest()
            if settled:
                await self._attempt(lambda: self.store.leave(self.owner))
        finally:
            await self._abandon()

    async def run_once(self) -> int:
        """Renew, end what ended or changed, level with the other workers, claim; how many are held.

        Never waits for a runner, or the leases of the others would run out meanwhile. Raises Unavailable when the store
        is not there.
        """
        await self._settle()
        share = await self.store.share(self.owner)
        working = [each for each in self.held.values() if each.cancelled_at is None]
        self._let_go([each for each in working if each.cancel_at is None][share:])
        if len(working) < share:
            # What is held may be free by the store's clock, when it was lost or this machine slept: a subject never has
            # two runners.
            for claimed in await self.store.claim(self.owner, share - len(working), self.held.keys()):
                self._begin(claimed)
        metrics.LEASES.labels(self.kind).set(len(self.held))
        return len(self.held)

    async def _attempt(self, step: Callable[[], Coroutine[object, object, object]]) -> bool:
        """Whether the store did its part; before the leases could be others', their runners are cancelled."""
        self._expire()
        left = self._time_left()
        try:
            await self._steps.take(step, left if self.held and left > 0 else self.ttl)
        except (Transient, TimeoutError) as error:
            log.warning("leases.unreachable", kind=self.kind, problem=str(error) or "the store does not answer in time")
            self._expire()
            return False
        return True

    def _expire(self) -> None:
        if self._time_left() <= 0:
            self._cancel(self.held.values())

    async def _rest(self) -> None:
        self._press()
        left = self._time_left()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self.tick, left) if self.held and left > 0 else self.tick):
                await self._wake.wait()
        self._wake.clear()

    def _time_left(self) -> float:
        """Until what is held may be others'."""
        return self._renewed + self.ttl - asyncio.get_running_loop().time()

    def _begin(self, claimed: Claimed) -> None:
        runner = self.start(claimed)
        task = asyncio.create_task(runner.run(), name=f"{self.kind} {claimed.lease.subject}")
        task.add_done_callback(lambda _: self._wake.set())
        self.held[claimed.lease.subject] = Held(claimed, runner, task)
        log.info("lease.taken", kind=self.kind, subject=claimed.lease.subject, epoch=claimed.lease.epoch)

    async def _settle(self) -> None:
        """Renew what goes on, hurry what does not end, give back what ended."""
        await self._renew()
        now = asyncio.get_running_loop().time()
        self._cancel([each for each in self.held.values() if each.cancel_at is not None and each.cancel_at <= now])
        await self._bury([each for each in self.held.values() if each.task.done()])

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        changed, self._changed = self._changed, set()
        due = now - self._renewed >= self.ttl / RENEWALS
        # Only those that were changed, when it is not time for all: thousands may be held.
        live = {
            subject: held for subject, held in self.held.items() if not held.task.done() and (due or subject in changed)
        }
        if not (due or live):
            return
        renewed = await self.store.renew([held.claimed for held in live.values()])
        if due:
            self._renewed = now
        self._let_go([live[subject] for subject in renewed.changed])
        lost = [live[subject] for subject in live.keys() - renewed.held - renewed.changed]
        for held in lost:
            if held.cancelled_at is None:
                log.warning("lease.lost", kind=self.kind, subject=held.claimed.lease.subject)
        self._cancel(lost)

    def _let_go(self, some: Iterable[Held]) -> None:
        """Ask them to end; they are held until they have."""
        until = asyncio.get_running_loop().time() + self.drain
        for held in some:
            if held.cancel_at is None:
                held.cancel_at = until
                held.runner.stop()

    def _cancel(self, some: Iterable[Held]) -> None:
        for held in some:
            held.cancel()

    def _press(self) -> None:
        """Hurry what was cancelled and goes on. Raises Stuck."""
        patience = max(self.ttl, self.drain)
        self._steps.press(patience)
        for held in self.held.values():
            held.press(self.kind, patience)

    async def _bury(self, ended: Sequence[Held]) -> None:
        """Let go of runners that ended, and give back what ended well."""
        free: list[Lease] = []
        for held in ended:
            lease = held.claimed.lease
            del self.held[lease.subject]
            error = None if held.task.cancelled() else held.task.exception()
            if error is None:
                free.append(lease)
            else:
                # Not given back: it is free again when its time is up, so a bug or a lost database never spins.
                _tell(self.kind, lease.subject, error)
        if free:
            await self.store.release(free)
        for lease in free:
            log.info("lease.released", kind=self.kind, subject=lease.subject)

    async def _abandon(self) -> None:
        """End what is left, without the store."""
        left = list(self.held.values())
        self.held.clear()
        tasks = [held.task for held in left] + ([self._steps.task] if self._steps.task else [])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self.drain)
        for held in left:
            if held.task.done() and not held.task.cancelled() and (error := held.task.exception()):
                _tell(self.kind, held.claimed.lease.subject, error)
        metrics.LEASES.labels(self.kind).set(0)


def _tell(kind: str, subject: str, error: BaseException) -> None:
    found = list(causes(error))
    if all(isinstance(cause, LeaseLost) for cause in found):
        log.warning("lease.lost", kind=kind, subject=subject)
    elif all(isinstance(cause, RelayError) for cause in found):
        log.warning("runner.ended", kind=kind, subject=subject, problem=str(found[0]))
    else:
        log.error("runner.died", kind=kind, subject=subject, exc_info=error)
