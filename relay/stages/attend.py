"""Attend: one connection's ERP, asked one thing after the other: polls, full passes, pages of syncs.

what is due -> one turn -> what is due ...      until the connection needs a person; nothing while it is closed
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from relay.domain.connections import ConnectionState, Polled
from relay.domain.turns import Due, Turn, next_time, next_turn
from relay.ports import Clock
from relay.stages.poll import Poll
from relay.stages.reconcile import Reconcile
from relay.stages.sync import Sync

LOOK_AGAIN = timedelta(days=1)
"""Before a schedule that is never open is looked at again."""


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
    _state: ConnectionState = field(default=ConnectionState.ACTIVE, init=False)
    _well: bool = field(default=False, init=False)
    """The last poll went well: only then is a full pass worth its calls."""
    _rung: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        connection, now = self.poll.connection, self.clock()
        self._poll_at, self._pass_at = connection.due_at or now, connection.reconcile_due_at or now
        self.sync.synced = self.poll.begin_at

    def ring(self) -> None:
        """Somebody asked for something."""
        self._rung.set()

    async def run(self) -> None:
        """Attend until credentials are refused. Raises LeaseLost, and Unavailable when the store is not there."""
        await self.sync.look()
        if self.poll.failures and self.sync.holds_polls:
            self.sync.due_at = self._poll_at
        turn = Turn.WAIT
        while self._state is ConnectionState.ACTIVE:
            if self._rung.is_set():
                self._rung.clear()
                await self.sync.look()
            due = self._due()
            turn = next_turn(due, self.clock(), turn)
            await self._do(turn, due)

    async def _do(self, turn: Turn, due: Due) -> None:
        match turn:
            case Turn.POLL:
                asked = self.sync.asked
                self._note(polled := await self.poll.run_once())
                if asked:
                    await self.sync.answer(asked, polled)
            case Turn.PASS:
                await self._pass()
            case Turn.SYNC:
                await self._page()
            case _:
                await self._wait(next_time(due))

    def _due(self) -> Due:
        now, hours = self.clock(), self.poll.connection.schedule.hours
        opens = hours.next_open(now) or now + LOOK_AGAIN
        if self.sync.holds_polls:
            return Due(None, None, self.sync.due_at).not_before(opens)
        poll_at = now if self.sync.asked else self._poll_at
        return Due(poll_at, self._pass_at if self._well else None, self.sync.due_at).not_before(opens)

    def _note(self, polled: Polled) -> None:
        self._poll_at, self._well, self._state = polled.due_at, not polled.failures, polled.state

    async def _pass(self) -> None:
        await self.reconcile.run_once()
        self.saved()
        self._pass_at = self.clock() + self.poll.connection.reconcile_every

    async def _page(self) -> None:
        held = self.sync.holds_polls
        if error := await self.sync.run_once():
            self._note(polled := await self.poll.failed(error))
            if held:
                self.sync.due_at = polled.due_at
        elif held and self.poll.failures:
            await self.poll.recovered()

    async def _wait(self, until: datetime | None) -> None:
        left = None if until is None else max(0.0, (until - self.clock()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._rung.wait()
