"""Commands of one connection, as its runner does them: heads of lanes, one at a time each, until they are over.

    waiting -> sending (its outcome is open, or its order has still to be read back) -> done, or waiting again

`due_at` is set for the first open command of a lane only, so the next ones are found by an index however many wait.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from relay.domain.commands import read_command
from relay.domain.connections import Connection, Lease
from relay.domain.errors import LeaseLost
from relay.domain.results import Outcome
from relay.ports import Ended, OpenCommand, expired_letter
from relay.store.database import Database, guard
from relay.store.orders import write_page
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

RESULTS: Final = "command-results"
"""The stream of results in the outbox."""

# Those in doubt that are not due yet stand behind what is due, or a few that wait for their ERP would hide all others.
HEADS = """
    SELECT c.id, c.body, c.expires_at, c.due_at, c.attempts, c.sent_at, c.before, c.caller, c.created_at, c.problem,
           CASE WHEN c.outcome = 'applied' THEN c.remote_id END AS written
    FROM (
        (SELECT id, 0 AS turn, position, NULL::timestamptz AS due FROM commands
         WHERE connection_id = $1 AND state = 'sending' AND due_at <= now() ORDER BY position LIMIT $2)
        UNION ALL
        (SELECT id, 1, position, due_at FROM commands
         WHERE connection_id = $1 AND due_at IS NOT NULL AND (state = 'waiting' OR due_at > now())
         ORDER BY due_at, position LIMIT $2)
    ) AS head JOIN commands AS c USING (id)
    ORDER BY head.turn, head.due, head.position LIMIT $2
"""
IN_DOUBT = """
    SELECT c.id, c.body, c.expires_at, c.due_at, c.attempts, c.sent_at, c.before, c.caller, c.created_at, c.problem,
           CASE WHEN c.outcome = 'applied' THEN c.remote_id END AS written
    FROM commands AS c
    WHERE c.connection_id = $1 AND c.state = 'sending' ORDER BY c.position
"""
WRITTEN = """
    UPDATE commands SET outcome = 'applied', remote_id = $3, state = 'sending', due_at = $4, problem = NULL
    WHERE id = $2 AND connection_id = $1 AND state <> 'done'
"""
SENDING = """
    UPDATE commands SET state = 'sending', attempts = attempts + 1, sent_at = $3, before = $4, problem = NULL
    WHERE id = $2 AND connection_id = $1 AND state <> 'done' RETURNING 1
"""
WAITING = """
    UPDATE commands SET state = CASE WHEN $5 THEN 'sending' ELSE 'waiting' END, due_at = $3, problem = $4,
        sent_at = CASE WHEN $5 THEN sent_at END, before = CASE WHEN $5 THEN before END
    WHERE id = $2 AND connection_id = $1 AND state <> 'done'
"""
ENDED = """
    UPDATE commands SET state = 'done', outcome = $3, remote_id = coalesce($4, remote_id), result = $5, done_at = now(),
        due_at = NULL, before = NULL, problem = NULL
    WHERE id = $2 AND connection_id = $1 AND state <> 'done' RETURNING lane, raw, origin
"""
# Whoever adds to lanes of a connection, or ends commands in them, does so alone: or a lane could be left without a
# head, or with two, and positions would not be in the order in which rows are seen. Sorted, so that two who name
# several connections never wait for each other in a ring.
ALONE = """
    SELECT pg_advisory_xact_lock(key)
    FROM (SELECT DISTINCT hashtextextended(id, 13) AS key FROM unnest($1::text[]) AS row(id) ORDER BY 1) AS ordered
"""
PROMOTE = """
    UPDATE commands SET due_at = now()
    WHERE id IN (
        SELECT next.id FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS row(connection_id, lane),
        LATERAL (SELECT c.id FROM commands AS c
                 WHERE c.connection_id = row.connection_id AND c.lane = row.lane AND c.state <> 'done'
                 ORDER BY c.position LIMIT 1) AS next
    ) AND due_at IS NULL
"""


class CommandStore:
    """The commands of one connection, for its runner. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, connection_id: str, most: int) -> list[OpenCommand]:
        """The first open command of each lane: those in doubt that are due, then the others by when they are due."""
        async with self._database.session() as connection:
            return [_open(row) for row in await connection.fetch(HEADS, connection_id, most)]

    async def in_doubt(self, connection_id: str) -> list[OpenCommand]:
        """All of which the outcome is open, or whose order has still to be read back."""
        async with self._database.session() as connection:
            return [_open(row) for row in await connection.fetch(IN_DOUBT, connection_id)]

    async def save_sending(self, lease: Lease, id: str, now: datetime, before: dict[str, Any] | None) -> None:  # noqa: A002 - the port's name
        """It is about to be sent. Raises LeaseLost, too, when it is over: it must not be sent then."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            kept = None if before is None else orjson.dumps(before)
            if await connection.fetchval(SENDING, lease.subject, id, now, kept) is None:
                raise LeaseLost(f"{id}: this command is over, it ran out of time")

        await self._database.transact(work)

    async def save_waiting(self, lease: Lease, id: str, due_at: datetime, problem: str, *, doubt: bool) -> None:  # noqa: A002 - the port's name
        """It is due again then. Without `doubt` it is certain that nothing was written."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(WAITING, lease.subject, id, due_at, storable(problem), doubt)

        await self._database.transact(work)

    async def save_written(self, lease: Lease, id: str, remote_id: str, due_at: datetime) -> None:  # noqa: A002 - the port's name
        """It was written, to this order, which could not be read back yet: that is tried again then."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(WRITTEN, lease.subject, id, remote_id, due_at)

        await self._database.transact(work)

    async def save_ended(self, lease: Lease, origin: Connection, ended: Ended) -> None:
        """It is over: its result, the snapshot and change event of its order, and the next of its lane is due.

        One that was over before keeps the result that was told.
        """
        result = next((each.body for each in ended.entries if each.stream == RESULTS), None)

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(ALONE, [lease.subject])
            row = await connection.fetchrow(ENDED, lease.subject, ended.id, ended.outcome, ended.remote_id, result)
            entries = [each for each in ended.entries if row is not None or each.stream != RESULTS]
            if row is not None:
                await connection.execute(PROMOTE, [lease.subject], [row["lane"]])
                if ended.outcome == Outcome.EXPIRED and row["origin"] is not None:
                    entries.append(expired_letter(ended.id, row["raw"], row["origin"], entries[0].occurred_at))
            await write_page(connection, origin, ended.snapshots, entries)

        await self._database.transact(work)


def _open(row: "asyncpg.Record") -> OpenCommand:
    return OpenCommand(
        id=row["id"],
        command=read_command(orjson.loads(row["body"])),
        expires_at=row["expires_at"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        sent_at=row["sent_at"],
        before=None if row["before"] is None else orjson.loads(row["before"]),
        caller=row["caller"],
        accepted_at=row["created_at"],
        problem=row["problem"] or "",
        written=row["written"],
    )
