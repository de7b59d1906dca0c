"""Execute: one connection's commands: in sequence per order, a few orders at once, beside its polls.

    heads of lanes -> (the gate) -> carried -> over: concluded | not yet: due again

Trouble of the ERP holds up all of them, longer each time; a wish of the ERP is obeyed. While it may not be asked, only
what ran out of time is told. A refused login ends it.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from relay.domain.commands import Create
from relay.domain.connections import Connection, Lease
from relay.domain.errors import CredentialsRefused
from relay.domain.pace import going_first
from relay.ports import Clock, Commands, Dice, OpenCommand
from relay.stages.carry import Carry
from relay.stages.conclude import Conclude
from relay.stages.doubts import Doubts
from relay.stages.gate import NEW, Gate
from relay.stages.poll import Patience
from relay.stages.receipts import Again, Receipt

log = structlog.get_logger()

MOST: Final = 100
"""Commands that are asked for at a time."""
FIRST_LOOK, LAST_LOOK = timedelta(seconds=1), timedelta(seconds=30)
"""The first wait before a command is gone on with, doubled each time, and the longest."""
LOOK_AGAIN: Final = timedelta(days=1)
"""Before a schedule that is never open is looked at again."""


@dataclass
class Execute:
    """Executes until stopped."""

    connection: Connection
    lease: Lease
    store: Commands
    carry: Carry
    conclude: Conclude
    gate: Gate
    doubts: Doubts
    clock: Clock
    dice: Dice
    patience: Patience
    at_once: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Nothing new is begun."""
    _rung: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stale: bool = field(default=True, init=False)
    """The store may know more than `_heads`."""
    _heads: list[OpenCommand] = field(default_factory=list, init=False)
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)
    _not_before: datetime | None = field(default=None, init=False)
    _looks: Counter[str] = field(default_factory=Counter, init=False)
    _refused: CredentialsRefused | None = field(default=None, init=False)

    def ring(self) -> None:
        """There may be new commands."""
        self._stale = True
        self._rung.set()

    def stop(self) -> None:
        """Take nothing new; `run` ends when what is being done is."""
        self.stopping.set()
        self._rung.set()

    async def look(self) -> None:
        """Know what is in doubt before anything is read: a poll may see what those commands did. Raises Unavailable."""
        for each in await self.store.in_doubt(self.connection.id):
            self.doubts.note(each)

    async def run(self) -> CredentialsRefused | None:
        """Execute until stopped, or until the ERP refuses the login. Raises LeaseLost, and the store's Unavailable."""
        async with asyncio.TaskGroup() as tasks:
            while not self.stopping.is_set():
                self._rung.clear()
                for each in await self._ready():
                    task = self._running[each.id] = tasks.create_task(self._one(each))
                    task.add_done_callback(partial(self._done, each.id))
                await self._wait()
        return self._refused

    async def _ready(self) -> list[OpenCommand]:
        """What is to be done now, and can be."""
        free = self.at_once - len(self._running)
        ready = self._due()[: max(0, free)]
        if self._stale and len(ready) < free:
            busy = set(self._running)
            self._stale = False
            heads = await self.store.heads(self.connection.id, MOST + len(busy))
            # One that ends while the store is asked may still stand in the answer.
            self._heads = [each for each in heads if each.id not in busy]
            ready = self._due()[:free]
        chosen = {each.id for each in ready}
        self._heads = [each for each in self._heads if each.id not in chosen]
        return ready

    def _due(self) -> list[OpenCommand]:
        now = self.clock()
        opens = self._opens(now)
        return [each for each in self._heads if self._time_of(each, opens) <= now]

    def _opens(self, now: datetime) -> datetime:
        """When the ERP may be asked."""
        at = max(now, self._not_before or now)
        return self.connection.schedule.hours.next_open(at) or now + LOOK_AGAIN

    def _time_of(self, each: OpenCommand, opens: datetime) -> datetime:
        at = max(each.due_at, opens)
        # What ran out of time needs no ERP, unless it is open whether it was done.
        return at if each.sent_at or each.written else min(at, each.expires_at)

    async def _wait(self) -> None:
        left = None
        if len(self._running) < self.at_once and self._heads:
            now = self.clock()
            opens = self._opens(now)
            left = max(0.0, (min(self._time_of(each, opens) for each in self._heads) - now).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._rung.wait()

    def _done(self, id: str, _: asyncio.Task[None]) -> None:  # noqa: A002 - the port's name
        del self._running[id]
        self.ring()

    async def _one(self, each: OpenCommand) -> None:
        going_first.set(True)
        async with self.gate.command(NEW if isinstance(each.command, Create) else each.command.remote_id):
            if self.stopping.is_set():
                return
            work, came = await self.carry.run_once(each)
            if isinstance(came, Receipt):
                await self._over(work, came)
            else:
                await self._again(work, came)

    async def _over(self, work: OpenCommand, receipt: Receipt) -> None:
        await self.conclude.run_once(work, receipt)
        if receipt.remote_id:
            self.gate.told(receipt.remote_id)
        self._looks.pop(work.id, None)
        if receipt.refused:
            self._refuse(receipt.refused)
        elif receipt.well:
            self._failures, self._not_before = 0, None

    async def _again(self, work: OpenCommand, again: Again) -> None:
        self._trouble(again)
        due_at = max(self._look_at(work), self._not_before or self.clock())
        if again.written:
            await self.store.save_written(self.lease, work.id, again.written, due_at)
            self.doubts.note(replace(work, written=again.written))
        else:
            await self.store.save_waiting(self.lease, work.id, due_at, again.problem, doubt=again.doubt)
            if not again.doubt:
                self.doubts.clear(work.id)
        log.warning(
            "command.delayed",
            connection=self.connection.id,
            command=work.id,
            type=work.command.type,
            attempts=work.attempts,
            doubt=again.doubt,
            problem=again.problem,
            due_at=due_at.isoformat(),
        )

    def _trouble(self, again: Again) -> None:
        if again.error is None:
            return
        if isinstance(again.error, CredentialsRefused):
            self._refuse(again.error)
            return
        now = self.clock()
        if self._not_before is None or now >= self._not_before:
            # What was under way when the trouble began is no further trouble.
            self._failures += 1
        wait = self.patience.wait(self._failures, again.error, self.dice())
        self._not_before = max(now + wait, self._not_before or now)

    def _look_at(self, work: OpenCommand) -> datetime:
        """When it goes on: soon, then later and later, and as soon as the ERP of one in doubt must have settled."""
        now, settled = self.clock(), self.carry.settled(work)
        at = now + min(FIRST_LOOK * 2 ** min(self._looks[work.id], 16), LAST_LOOK)
        self._looks[work.id] += 1
        return settled if now < settled < at else at

    def _refuse(self, error: CredentialsRefused) -> None:
        self._refused = self._refused or error
        self.stop()
