"""Sync: orders read beside the polls, as people ask for it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from relay.control.at_hand import AtHand
from relay.control.views import View
from relay.domain.connections import ConnectionState
from relay.domain.errors import UserError
from relay.domain.syncs import Announce, Pace, SyncKind, SyncState, pace
from relay.store.syncs import SyncList

if TYPE_CHECKING:
    from relay.domain.connections import Connection

LONGEST_HISTORY = timedelta(days=36_500)


class SyncView(View):
    """A sync: how far it is, and what it came to."""

    id: str
    customer: str
    connection: str
    connection_id: str
    kind: SyncKind
    announce: Announce
    begin_on: date | None
    """The first day of its window; None: everything."""
    state: SyncState
    read: int
    total: int | None
    """About how many orders there are to read, if the ERP could say."""
    told: int
    rejected: int
    problem: str | None
    """Why its next page could not be read yet; it is tried again."""
    created_at: datetime
    started_at: datetime | None
    moved_at: datetime | None
    """When its last page was stored."""
    ended_at: datetime | None
    per_second: float | None
    """Orders read per second since it began."""
    ends_about: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the store."""
        at: Pace = pace(row["read"], row["total"], row["started_at"], row["ended_at"] or row["seen_at"])
        ends = at.ends_about if row["ended_at"] is None else None
        return cls.model_validate({**row, "per_second": at.per_second, "ends_about": ends})


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
        if announce not in set(Announce):
            raise UserError(f"unknown announce {announce!r}: the known ones are {', '.join(Announce)}")
        begin = begin_given(history)
        if subject.state is not ConnectionState.ACTIVE:
            raise UserError(f"{subject.name} is {subject.state}: its ERP is not asked before it is resumed")
        sync_id = new_sync_id()
        await self._syncs.start(sync_id, subject.id, SyncKind.RESYNC, Announce(announce), begin)
        return await self.sync(sync_id)

    async def syncs(self, name: str | None = None) -> list[SyncView]:
        """The latest syncs, newest first. Raises NotFound."""
        connection_id = (await self.registry.connection(name)).subject.id if name else None
        return [SyncView.of(row) for row in await self._syncs.syncs(connection_id)]

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


def new_sync_id() -> str:
    """An id for a new sync."""
    return f"syn_{secrets.token_hex(12)}"


def begin_given(history: timedelta | None) -> date | None:
    """The first day of the window that reaches so far back from now; None: everything. Raises UserError."""
    if history is None:
        return None
    if not timedelta(0) <= history <= LONGEST_HISTORY:
        raise UserError(f"history is {history.days} days: give 0 to {LONGEST_HISTORY.days} days, or all")
    return (datetime.now(UTC) - history).date()
