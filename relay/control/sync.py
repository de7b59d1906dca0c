"""Sync: orders read beside the polls, as people ask for it."""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from relay.control.at_hand import AtHand
from relay.control.connection_views import ReadingView
from relay.control.schedules import announce_given, begin_given
from relay.domain.connections import ConnectionState
from relay.domain.errors import UserError
from relay.domain.syncs import Announce, SyncKind
from relay.store.syncs import SyncList

if TYPE_CHECKING:
    from relay.domain.connections import Connection

MOST = 100
LONGEST_WAIT = timedelta(seconds=60)
LOOK_EVERY = 0.05
"""Seconds between looks at what somebody waits for."""


class SyncView(ReadingView):
    """A sync: how far it is, and what it came to."""

    customer: str
    connection: str
    connection_id: str
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class SyncOperations(AtHand):
    """What people do to have orders read."""

    async def resync(
        self, name: str, *, history: timedelta | None = None, announce: str = Announce.CHANGES
    ) -> SyncView:
        """Begin to read all orders again, or those of the last `history`, beside the polls.

        Raises:
            NotFound: no such connection.
            AlreadyThere: it is being read already.
            UserError: a value cannot be used, or the connection is not active.
        """
        subject: Connection = (await self.registry.connection(name)).subject
        told, begin = announce_given(announce), begin_given(history)
        _active(subject)
        sync_id = new_sync_id()
        await self._syncs.start(sync_id, subject.id, SyncKind.RESYNC, told, begin)
        return await self.sync(sync_id)

    async def poll_now(self, name: str, *, wait: timedelta = timedelta(0)) -> SyncView:
        """Have what changed read now, and answer when that is done, or after `wait` as it is then.

        Raises:
            NotFound: no such connection.
            UserError: the connection is not active, or its ERP may not be asked now.
        """
        if wait > LONGEST_WAIT:
            raise UserError(f"wait is {wait.total_seconds():g} s: give {LONGEST_WAIT.total_seconds():g} s at most")
        subject: Connection = (await self.registry.connection(name)).subject
        _active(subject)
        now = datetime.now(UTC)
        if not subject.schedule.hours.is_open(now):
            opens = subject.schedule.hours.next_open(now)
            raise UserError(f"{subject.name} may not be asked now, but from {opens:%Y-%m-%d %H:%M} UTC on: its hours")
        sync_id = await self._syncs.ask(new_sync_id(), subject.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                while (await self.sync(sync_id)).ended_at is None:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(LOOK_EVERY)
        return await self.sync(sync_id)

    async def syncs(
        self, name: str | None = None, *, after: tuple[datetime, str] | None = None, most: int = MOST
    ) -> list[SyncView]:
        """The latest syncs, newest first, from behind the one made `after` with this id on. Raises NotFound."""
        connection_id = (await self.registry.connection(name)).subject.id if name else None
        return [SyncView.of(row) for row in await self._syncs.syncs(connection_id, after, most)]

    async def sync(self, sync_id: str) -> SyncView:
        """One sync. Raises NotFound."""
        return SyncView.of(await self._syncs.sync(sync_id))

    async def cancel_sync(self, sync_id: str) -> SyncView:
        """End a sync; what it told stays told. Raises NotFound, UserError."""
        await self._syncs.cancel(sync_id)
        return await self.sync(sync_id)

    @property
    def _syncs(self) -> SyncList:
        return SyncList(self.registry.database)


def _active(subject: "Connection") -> None:
    if subject.state is not ConnectionState.ACTIVE:
        raise UserError(f"{subject.name} is {subject.state}: its ERP is not asked before it is resumed")


def new_sync_id() -> str:
    """An id for a new sync."""
    return f"syn_{secrets.token_hex(12)}"
