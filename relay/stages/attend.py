"""Attend: one connection's ERP, asked one thing after the other: polls, full passes, pages of syncs.

what is due -> one turn -> what is due ...      until the connection needs a person
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from relay.domain.connections import ConnectionState, Polled
from relay.domain.turns import Due, Turn, next_time, next_turn
from relay.ports import Clock
from relay.stages.poll import Poll
from relay.stages.reconcile import Reconcile
from relay.stages.sync import Sync


@dataclass
class Attend:
    """One connection while it is active."""

    poll: Poll
    reconcile: Reconcile
    sync: Sync
    clock: Clock
    saved: Callable[[], None]
    _poll_at: datetime = field(init=False)
    _pass_at: datetime = field(init=False)
    _well: bool = field(default=False, init=False)
    """The last poll went well: only then is a full pass worth its calls."""
    _rung: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        connection, now = self.poll.connection, self.clock()
        self._poll_at, self._pass_at = connection.due_at or now, connection.reconcile_due_at or now

    def ring(self) -> None:
        """Somebody asked for something."""
        self._rung.set()

    async def run(self) -> None:
        """Attend until credentials are refused. Raises LeaseLost, and Unavailable when the store is not there."""
        await self.sync.look()
        state, turn = ConnectionState.ACTIVE, Turn.WAIT
        while state is ConnectionState.ACTIVE:
            if self._rung.is_set():
                self._rung.clear()
                await self.sync.look()
            due = self._due()
            turn = next_turn(due, self.clock(), turn)
            match turn:
                case Turn.POLL:
                    state = self._noted(await self.poll.run_once())
                case Turn.PASS:
                    await self._pass()
                case Turn.SYNC:
                    if refused := await self.sync.run_once():
                        state = self._noted(await self.poll.refused(refused))
                case Turn.WAIT:
                    await self._wait(next_time(due))

    def _due(self) -> Due:
        if self.sync.holds_polls:
            return Due(None, None, self.sync.due_at)
        return Due(self._poll_at, self._pass_at if self._well else None, self.sync.due_at)

    def _noted(self, polled: Polled) -> ConnectionState:
        self._poll_at, self._well = polled.due_at, not polled.failures
        return polled.state

    async def _pass(self) -> None:
        await self.reconcile.run_once()
        self.saved()
        self._pass_at = self.clock() + self.poll.connection.reconcile_every

    async def _wait(self, until: datetime | None) -> None:
        left = None if until is None else max(0.0, (until - self.clock()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._rung.wait()
