"""Syncs: as their connection's runner works them off, and as people start, look at and cancel them."""

import secrets
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from relay.domain.connections import Connection, Cursor, Lease, Polled
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.events import Snapshot
from relay.domain.syncs import Announce, Moved, OpenSync, SyncKind, SyncState
from relay.ports import OutboxEntry
from relay.store.database import Database, guard
from relay.store.named import NOTIFY
from relay.store.orders import write_page
from relay.store.trouble import storable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

OPEN = """
    SELECT id, kind, announce, begin_on, cursor, started_at IS NOT NULL AS started, failures
    FROM syncs WHERE connection_id = $1 AND ended_at IS NULL
"""
BEGIN = """
    UPDATE syncs SET state = 'running', total = $2, started_at = now(), moved_at = now()
    WHERE id = $1 AND ended_at IS NULL
"""
MOVE = """
    UPDATE syncs SET cursor = $2, read = read + $3, told = told + $4, rejected = rejected + $5, failures = 0,
        problem = NULL, moved_at = now()
    WHERE id = $1 AND ended_at IS NULL RETURNING 1
"""
NOTICES = """
    UPDATE connections
    SET notices = ARRAY(SELECT notice FROM unnest($2::text[] || notices) WITH ORDINALITY AS row(notice, place)
                        GROUP BY notice ORDER BY min(place) LIMIT 20)
    WHERE id = $1
"""
FAIL = "UPDATE syncs SET failures = $2, problem = $3 WHERE id = $1 AND ended_at IS NULL"
END = """
    UPDATE syncs SET state = 'done', ended_at = now(), failures = 0, problem = NULL
    WHERE id = $1 AND ended_at IS NULL RETURNING kind, cursor
"""
SYNCED = """
    UPDATE connections SET cursor = $2, synced_at = now(), failures = 0, problem = NULL, due_at = now() WHERE id = $1
"""
POLLED = """
    UPDATE syncs SET state = $2, read = $3, told = $4, problem = $5, started_at = coalesce(started_at, now()),
        moved_at = now(), ended_at = now()
    WHERE id = $1 AND ended_at IS NULL
"""
COMPARE = """
    INSERT INTO syncs (id, connection_id, kind, announce) VALUES ($1, $2, 'compare', 'changes') ON CONFLICT DO NOTHING
"""
COMPARE_AGAIN = "UPDATE connections SET compare_due_at = $2 WHERE id = $1"
ASK = """
    INSERT INTO syncs (id, connection_id, kind, announce) VALUES ($1, $2, 'poll', 'changes') ON CONFLICT DO NOTHING
"""
ASKED_BEFORE = "SELECT id FROM syncs WHERE connection_id = $1 AND kind = 'poll' AND ended_at IS NULL"
ADD = "INSERT INTO syncs (id, connection_id, kind, announce, begin_on) VALUES ($1, $2, $3, $4, $5)"
CANCEL = """
    UPDATE syncs SET state = 'cancelled', ended_at = now() WHERE id = $1 AND ended_at IS NULL AND kind <> 'first'
    RETURNING connection_id
"""
GIVE_WAY = """
    UPDATE syncs SET state = 'cancelled', ended_at = now(), problem = 'the mapping changed: all is read anew'
    WHERE connection_id = $1 AND ended_at IS NULL AND kind = ANY($2::text[])
"""
YIELDING = (SyncKind.RESYNC, SyncKind.COMPARE, SyncKind.MAPPING)
"""Kinds that end when the mapping changes under them."""
ASKED = "relay_syncs"
"""The channel on which connections are named that somebody asked something of."""
SHOWN = """
    SELECT s.*, c.customer_id AS customer, c.name AS connection, now() AS seen_at
    FROM syncs AS s JOIN connections AS c ON c.id = s.connection_id
    WHERE ($1::text IS NULL OR s.connection_id = $1) AND ($2::text IS NULL OR s.id = $2)
      AND ($4::timestamptz IS NULL OR (s.created_at, s.id) < ($4, $5))
    ORDER BY s.created_at DESC, s.id DESC LIMIT $3
"""
MOST = 100


class SyncStore:
    """Syncs of one connection, for its runner. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_syncs(self, connection_id: str) -> list[OpenSync]:
        """The syncs that have not ended: one that reads orders at most, and one poll that was asked for at most."""
        async with self._database.session() as connection:
            return [_open(row) for row in await connection.fetch(OPEN, connection_id)]

    async def begin_sync(self, lease: Lease, sync_id: str, total: int | None) -> None:
        """It runs now; so many orders are to be read, if that is known."""
        await self._write(lease, BEGIN, sync_id, total)

    async def save_sync_page(
        self,
        lease: Lease,
        origin: Connection,
        snapshots: Sequence[Snapshot],
        entries: Sequence[OutboxEntry],
        moved: Moved,
    ) -> bool:
        """New snapshots, their events and how far the sync is, all or nothing; False: it was cancelled meanwhile."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
            await guard(connection, "connections", lease)
            counts = (moved.read, moved.told, moved.rejected)
            if await connection.fetchval(MOVE, moved.sync_id, moved.cursor, *counts) is None:
                return False
            await write_page(connection, origin, snapshots, entries)
            if moved.notices:
                await connection.execute(NOTICES, origin.id, [storable(each) for each in moved.notices])
            return True

        return await self._database.transact(work)

    async def save_sync_failure(self, lease: Lease, sync_id: str, failures: int, problem: str) -> None:
        """A page could not be read; it will be tried again."""
        await self._write(lease, FAIL, sync_id, failures, storable(problem))

    async def end_sync(self, lease: Lease, sync_id: str) -> None:
        """All of it was read. After the first sync polls begin where that has come to."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            row = await connection.fetchrow(END, sync_id)
            if row is not None and row["kind"] == SyncKind.FIRST:
                await connection.execute(SYNCED, lease.subject, row["cursor"])

        await self._database.transact(work)

    async def start_compare(self, lease: Lease, due_at: datetime) -> None:
        """Begin to compare all orders, unless they are being read already; it is due again at `due_at`."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(COMPARE, f"syn_{secrets.token_hex(12)}", lease.subject)
            await connection.execute(COMPARE_AGAIN, lease.subject, due_at)

        await self._database.transact(work)

    async def save_poll_asked(self, lease: Lease, sync_id: str, polled: Polled) -> None:
        """What came of a poll that was asked for."""
        state = SyncState.FAILED if polled.failures else SyncState.DONE
        problem = None if polled.problem is None else storable(polled.problem)
        await self._write(lease, POLLED, sync_id, state, polled.read, polled.told, problem)

    async def _write(self, lease: Lease, statement: str, *values: object) -> None:
        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(statement, *values)

        await self._database.transact(work)


class SyncList:
    """Syncs of all connections, as people see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self, sync_id: str, connection_id: str, kind: SyncKind, announce: Announce, begin: date | None
    ) -> None:
        """Begin a sync; the connection's runner is woken. Raises AlreadyThere when one has not ended."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await add_sync(connection, sync_id, connection_id, kind, announce, begin)
            await connection.execute(NOTIFY, ASKED, connection_id)

        await self._database.transact(work)

    async def ask(self, sync_id: str, connection_id: str) -> str:
        """Have what changed read now: the id of what was begun, or of the one that waits already."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> str:
            await connection.execute(ASK, sync_id, connection_id)
            await connection.execute(NOTIFY, ASKED, connection_id)
            return str(await connection.fetchval(ASKED_BEFORE, connection_id) or sync_id)

        return await self._database.transact(work)

    async def cancel(self, sync_id: str) -> None:
        """End a sync; what it has told stays told. Raises NotFound, and UserError when it has ended or is the first."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
            found = await connection.fetchval(CANCEL, sync_id)
            if found is not None:
                await connection.execute(NOTIFY, ASKED, found)
            return found is not None

        before = await self.sync(sync_id)
        if not await self._database.transact(work):
            if before["kind"] == SyncKind.FIRST and before["ended_at"] is None:
                raise UserError("the first sync cannot be cancelled: polls begin where it ends. Pause the connection")
            raise UserError(f"sync {sync_id} is {before['state']} already")

    async def syncs(
        self, connection_id: str | None = None, after: tuple[datetime, str] | None = None, most: int = MOST
    ) -> list[dict[str, Any]]:
        """The latest syncs, newest first, from behind the one that was made `after` with this id on."""
        begin = after or (None, None)
        async with self._database.session() as connection:
            return [dict(row) for row in await connection.fetch(SHOWN, connection_id, None, most, *begin)]

    async def sync(self, sync_id: str) -> dict[str, Any]:
        """One sync. Raises NotFound."""
        async with self._database.session() as connection:
            rows = await connection.fetch(SHOWN, None, sync_id, 1, None, None)
        if not rows:
            raise NotFound(f"there is no sync {sync_id!r}: see `relay connections syncs`")
        return dict(rows[0])


async def add_sync(  # noqa: PLR0913, PLR0917 - what a sync is
    connection: "PoolConnectionProxy[asyncpg.Record]",
    sync_id: str,
    connection_id: str,
    kind: SyncKind,
    announce: Announce,
    begin: date | None = None,
) -> None:
    """Begin a sync in the caller's transaction, which also wakes the runner.

    One of the kind `mapping` takes the place of a re-sync that runs. Raises AlreadyThere when another has not ended.
    """
    if kind is SyncKind.MAPPING:
        await connection.execute(GIVE_WAY, connection_id, list(YIELDING))
    try:
        async with connection.transaction():
            await connection.execute(ADD, sync_id, connection_id, kind, announce, begin)
    except asyncpg.UniqueViolationError:
        raise AlreadyThere(
            "this connection is being read already: wait for the end (`relay connections syncs`), or cancel that"
        ) from None


def _open(row: "asyncpg.Record") -> OpenSync:
    return OpenSync(
        id=row["id"],
        kind=SyncKind(row["kind"]),
        announce=Announce(row["announce"]),
        begin=row["begin_on"],
        cursor=None if row["cursor"] is None else Cursor(row["cursor"]),
        started=row["started"],
        failures=row["failures"],
    )
