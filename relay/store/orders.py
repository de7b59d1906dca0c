"""What a connection runner reads and writes: snapshots, the outbox and the cursor, one transaction per page."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from relay.domain.connections import Connection, ConnectionState, Cursor, Lease, Polled
from relay.domain.events import Snapshot
from relay.domain.mapping import Edition
from relay.domain.notices import NoticeType
from relay.ports import OutboxEntry
from relay.store.database import Database, guard
from relay.store.notices import add_connection_notice
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

SNAPSHOTS = """
    SELECT remote_id, tree, hash, sequence, first_seen_at, rules, mapping_version
    FROM snapshots WHERE connection_id = $1 AND remote_id = ANY($2::text[])
"""
SAVE_SNAPSHOTS = """
    INSERT INTO snapshots (connection_id, remote_id, tree, hash, sequence, deleted, first_seen_at, changed_at, rules,
                           mapping_version, number)
    SELECT $1, * FROM unnest(
        $2::text[], $3::bytea[], $4::text[], $5::int[], $6::boolean[], $7::timestamptz[], $8::timestamptz[], $9::int[],
        $10::int[], $11::text[])
    ON CONFLICT (connection_id, remote_id) DO UPDATE SET
        tree = excluded.tree, hash = excluded.hash, sequence = excluded.sequence, deleted = excluded.deleted,
        changed_at = CASE WHEN excluded.sequence > snapshots.sequence THEN excluded.changed_at
                          ELSE snapshots.changed_at END,
        missing_passes = 0, rules = excluded.rules, mapping_version = excluded.mapping_version,
        number = excluded.number
"""
SAVE_OUTBOX = """
    INSERT INTO outbox (event_id, stream, customer_id, connection_id, remote_id, sequence, type, occurred_at, body,
                        problem, origin)
    SELECT event_id, stream, $1, $2, remote_id, sequence, type, occurred_at, body, problem, origin
    FROM unnest($3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::timestamptz[], $9::bytea[], $10::text[],
                $11::bytea[])
         WITH ORDINALITY AS row(event_id, stream, remote_id, sequence, type, occurred_at, body, problem, origin,
                                ordinal)
    ORDER BY ordinal ON CONFLICT (event_id) DO NOTHING
"""
SAVE_CURSOR = "UPDATE connections SET cursor = $2 WHERE id = $1"
# A person who pauses a connection while it is polled has the last word. A good poll clears the problem of a failed one,
# not that of a full pass; and as it reads only what changed, the notices of earlier ones stand until a person resumes.
POLLED = """
    UPDATE connections SET state = CASE state WHEN 'active' THEN $2 ELSE state END,
        token_digest = CASE $2 WHEN 'needs_reconnect' THEN NULL ELSE token_digest END,
        problem = CASE WHEN $4 > 0 OR failures > 0 THEN $3 ELSE problem END, failures = $4, due_at = $5,
        notices = ARRAY(SELECT notice FROM unnest($6::text[] || notices) WITH ORDINALITY AS row(notice, place)
                        GROUP BY notice ORDER BY min(place) LIMIT 20),
        polled_at = CASE WHEN $4 = 0 THEN now() ELSE polled_at END, due_why = $7, quiet = $8
    WHERE id = $1
"""
RECONCILED = """
    UPDATE connections SET reconcile_due_at = $2,
        problem = CASE WHEN failures > 0 THEN coalesce($3, problem) ELSE $3 END WHERE id = $1
"""
ALIVE = "SELECT remote_id FROM snapshots WHERE connection_id = $1 AND NOT deleted"
MISSED = """
    UPDATE snapshots SET missing_passes = CASE WHEN remote_id = ANY($2::text[]) THEN missing_passes + 1 ELSE 0 END
    WHERE connection_id = $1 AND (missing_passes > 0 OR remote_id = ANY($2::text[]))
    RETURNING remote_id, missing_passes
"""

LONGEST_NUMBER = 200
"""Characters by which an order is found: what a system calls a number can be longer than an index takes."""


class OrderStore:
    """Snapshots, outbox and cursor of connections. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snapshots(self, connection_id: str, remote_ids: Sequence[str]) -> dict[str, Snapshot]:
        """The last told states of these orders, by remote id."""
        async with self._database.session() as connection:
            rows = await connection.fetch(SNAPSHOTS, connection_id, list(remote_ids))
        return {row["remote_id"]: _snapshot(row) for row in rows}

    async def save_page(
        self,
        lease: Lease,
        origin: Connection,
        snapshots: Sequence[Snapshot],
        entries: Sequence[OutboxEntry],
        cursor: Cursor | None,
    ) -> None:
        """New snapshots, their events and the cursor (None: unchanged), all or nothing."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await write_page(connection, origin, snapshots, entries)
            if cursor is not None:
                await connection.execute(SAVE_CURSOR, origin.id, cursor)

        await self._database.transact(work)

    async def save_polled(self, lease: Lease, polled: Polled) -> None:
        """How a poll ended and when the next is due. Notices are added to those that stand, newest first."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            if polled.state is ConnectionState.NEEDS_RECONNECT:
                await add_connection_notice(
                    connection,
                    NoticeType.CONNECTION_NEEDS_RECONNECT,
                    lease.subject,
                    leaving=ConnectionState.ACTIVE,
                    reason=polled.problem or "",
                )
            await connection.execute(
                POLLED,
                lease.subject,
                polled.state,
                _text(polled.problem),
                polled.failures,
                polled.due_at,
                [storable(notice) for notice in polled.notices],
                polled.why,
                polled.quiet,
            )

        await self._database.transact(work)

    async def alive(self, connection_id: str) -> set[str]:
        """Remote ids of all orders that are not known to be deleted."""
        async with self._database.session() as connection:
            return {row["remote_id"] for row in await connection.fetch(ALIVE, connection_id)}

    async def save_missing(self, lease: Lease, remote_ids: Sequence[str]) -> dict[str, int]:
        """Count one more full pass without these orders, and none for all others; passes missed so far, by id."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> dict[str, int]:
            await guard(connection, "connections", lease)
            rows = await connection.fetch(MISSED, lease.subject, list(remote_ids))
            return {row["remote_id"]: row["missing_passes"] for row in rows if row["missing_passes"]}

        return await self._database.transact(work)

    async def save_reconciled(self, lease: Lease, *, problem: str | None, due_at: datetime) -> None:
        """A full pass ended: when the next is due, and what people should know (None: nothing)."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(RECONCILED, lease.subject, due_at, _text(problem))

        await self._database.transact(work)


async def write_page(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    origin: Connection,
    snapshots: Sequence[Snapshot],
    entries: Sequence[OutboxEntry],
) -> None:
    """New snapshots and their events, in the caller's transaction, which holds the lease."""
    if snapshots:
        # Sorted, so that two transactions over the same orders never wait for each other in a ring.
        await connection.execute(SAVE_SNAPSHOTS, origin.id, *_snapshot_columns(snapshots, entries))
    if entries:
        await connection.execute(SAVE_OUTBOX, origin.customer_id, origin.id, *outbox_columns(entries))


def called(number: str | None) -> str | None:
    """An order's number as the column holds it, by which the order is found."""
    return None if number is None else storable(number)[:LONGEST_NUMBER]


def _text(problem: str | None) -> str | None:
    return None if problem is None else storable(problem)


def _snapshot(row: "asyncpg.Record") -> Snapshot:
    return Snapshot(
        remote_id=row["remote_id"],
        tree=orjson.loads(row["tree"]),
        hash=row["hash"],
        sequence=row["sequence"],
        first_seen_at=row["first_seen_at"],
        edition=Edition(row["rules"], row["mapping_version"]),
    )


def _snapshot_columns(snapshots: Sequence[Snapshot], entries: Sequence[OutboxEntry]) -> tuple[list[object], ...]:
    changed = {entry.remote_id: entry.occurred_at for entry in entries}
    # A page may hold an order twice, when the ERP's pages shift under the reader: the later one stands.
    rows = sorted({each.remote_id: each for each in snapshots}.values(), key=lambda each: each.remote_id)
    return (
        [each.remote_id for each in rows],
        [orjson.dumps(each.tree) for each in rows],
        [each.hash for each in rows],
        [each.sequence for each in rows],
        [each.tree["remote_was_deleted"] for each in rows],
        [each.first_seen_at for each in rows],
        [changed.get(each.remote_id, each.first_seen_at) for each in rows],
        [each.edition.rules for each in rows],
        [each.edition.version for each in rows],
        [called(each.tree.get("number")) for each in rows],
    )


def outbox_columns(entries: Sequence[OutboxEntry]) -> tuple[list[object], ...]:
    """The entries as the columns that SAVE_OUTBOX takes after customer and connection."""
    return (
        [each.event_id for each in entries],
        [each.stream for each in entries],
        [storable(each.remote_id) for each in entries],
        [each.sequence for each in entries],
        [each.type for each in entries],
        [each.occurred_at for each in entries],
        [each.body for each in entries],
        [_text(each.problem) for each in entries],
        [each.origin for each in entries],
    )
