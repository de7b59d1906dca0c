"""Retention: what has been told, delivered or given up is forgotten after a while, in small bites.

    events    with their deliveries, once nothing of them waits
    attempts  by day: a partition is made some days before it is needed, and dropped whole when it is old enough

Nobody who records an attempt ever waits long for this: what cannot be locked at once is left for the next time.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from relay.store.database import Database

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

BITE = 2000
"""Rows per transaction: short enough never to be felt by who publishes or delivers."""
DAYS_AHEAD = 3
"""Days that have a partition before they begin: so long may all workers be away without using the default one."""
A_DAY = timedelta(days=1)

# Positions grow with time, so the primary key finds the oldest. Deliveries go with their event.
OLD = """
    SELECT o.position FROM outbox AS o
    WHERE o.state = 'relayed' AND o.created_at < now() - $1::interval
      AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.position = o.position AND d.state = 'waiting')
    ORDER BY o.position LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# A statement of its own after OLD: it sees what was to be sent again while OLD looked. Whoever says so locks the event,
# so none comes in between.
FORGET = """
    WITH gone AS (
        DELETE FROM outbox AS o WHERE position = ANY($1::bigint[])
          AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.position = o.position AND d.state = 'waiting')
        RETURNING o.connection_id, o.position, o.stream
    ), noted AS (
        INSERT INTO forgotten
        SELECT connection_id, max(position) FROM gone WHERE stream = 'changes' GROUP BY 1 ORDER BY 1
        ON CONFLICT (connection_id) DO UPDATE SET position = greatest(forgotten.position, excluded.position)
    )
    SELECT count(*) FROM gone
"""
# Only attempts of days without a partition are here: almost always none.
FORGET_OTHERS = """
    DELETE FROM attempts_other WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM attempts_other WHERE started_at < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED
    ))
"""
# One that was cancelled stays until what it put in line has been taken back.
FORGET_REPLAYS = """
    DELETE FROM replays AS r WHERE ended_at < now() - $1::interval
    AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.replay_id = r.id AND d.state = 'waiting')
"""
# In bites: who asks for a poll every minute leaves many.
FORGET_SYNCS = """
    DELETE FROM syncs WHERE id = ANY (ARRAY(
        SELECT id FROM syncs WHERE ended_at < now() - $1::interval AND kind <> 'first' ORDER BY ended_at LIMIT $2
    ))
"""
# An id that comes again after this is a new command.
FORGET_COMMANDS = """
    DELETE FROM commands WHERE id = ANY (ARRAY(
        SELECT id FROM commands WHERE state = 'done' AND done_at < now() - $1::interval ORDER BY done_at LIMIT $2
    ))
"""
# They are of use as long as what they sent is on its topic.
FORGET_REDRIVES = "DELETE FROM redrives WHERE created_at < now() - $1::interval"
DAYS = """
    SELECT to_date(substr(child.relname, 10), 'YYYYMMDD') AS day
    FROM pg_inherits AS i JOIN pg_class AS child ON child.oid = i.inhrelid
    WHERE i.inhparent = 'attempts'::regclass AND child.relname ~ '^attempts_[0-9]{8}$'
"""
TIMES = """
    SELECT (now() AT TIME ZONE 'UTC')::date AS today, ((now() - $1::interval) AT TIME ZONE 'UTC')::date AS oldest
"""
# One worker at a time; and whoever records an attempt waits at most so long behind us while we wait for a lock.
ALONE = "SELECT pg_try_advisory_xact_lock(hashtext('relay.attempts'))"
BRIEFLY = "SET LOCAL lock_timeout = '250ms'"
# Attached rather than made in place: that would lock all attempts, and this only those of days without a partition.
MAKE = """
    CREATE TABLE attempts_{name} (LIKE attempts INCLUDING ALL);
    ALTER TABLE attempts ATTACH PARTITION attempts_{name} FOR VALUES FROM ('{begin}+00') TO ('{end}+00')
"""
DROP = "DROP TABLE IF EXISTS attempts_{name}"


@dataclass(frozen=True, slots=True)
class Turned:
    """Days of attempts that were given a partition, that were dropped, and that must wait for the next time."""

    made: tuple[date, ...]
    dropped: tuple[date, ...]
    left: tuple[date, ...]


class RetentionStore:
    """Forgets events and attempts that are older than `keep`."""

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database, self._keep = database, keep

    async def forget(self) -> int:
        """Forget one bite of old events with their deliveries; how many. What still waits is kept."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> int:
            old = [row["position"] for row in await connection.fetch(OLD, self._keep, BITE)]
            return int(await connection.fetchval(FORGET, old))

        return await self._database.transact(work)

    async def forget_syncs(self) -> int:
        """Forget up to BITE syncs that ended long ago, but no connection's first; how many."""
        async with self._database.session() as connection:
            return _count(await connection.execute(FORGET_SYNCS, self._keep, BITE))

    async def forget_commands(self) -> int:
        """Forget up to BITE commands that were over long ago; how many."""
        async with self._database.session() as connection:
            return _count(await connection.execute(FORGET_COMMANDS, self._keep, BITE))

    async def forget_replays(self) -> None:
        """Forget replays and redrives that ended long ago; what they sent stays."""
        async with self._database.session() as connection:
            await connection.execute(FORGET_REPLAYS, self._keep)
            await connection.execute(FORGET_REDRIVES, self._keep)

    async def forget_attempts(self) -> int:
        """Forget one bite of old attempts that are in no day's partition; how many."""
        async with self._database.session() as connection:
            return _count(await connection.execute(FORGET_OTHERS, self._keep, BITE))

    async def turn_days(self) -> Turned:
        """Make the partitions of today and the coming days, and drop those that ended before `keep`.

        A day whose attempts are already in the default partition stays there. Safe in several workers at once: the
        others find nothing to do.
        """
        async with self._database.session() as connection:
            (times,) = await connection.fetch(TIMES, self._keep)
            there = {row["day"] for row in await connection.fetch(DAYS)}
        today, oldest = times["today"], times["oldest"]
        missing = [day for day in (today + n * A_DAY for n in range(DAYS_AHEAD + 1)) if day not in there]
        old = sorted(day for day in there if day < oldest)
        made = [day for day in missing if await self._change(MAKE, day)]
        dropped = [day for day in old if await self._change(DROP, day)]
        return Turned(tuple(made), tuple(dropped), tuple(sorted({*missing, *old} - {*made, *dropped})))

    async def _change(self, statement: str, day: date) -> bool:
        """Whether the day's partition was made or dropped now."""
        begin = datetime.combine(day, datetime.min.time())
        filled = statement.format(name=f"{day:%Y%m%d}", begin=begin, end=begin + A_DAY)
        try:
            async with self._database.session() as connection, connection.transaction():
                if not await connection.fetchval(ALONE):
                    return False
                await connection.execute(BRIEFLY)
                await connection.execute(filled)
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
            asyncpg.CheckViolationError,  # attempts of that day are in the default partition
            asyncpg.DuplicateTableError,  # another worker was faster
        ):
            return False
        return True


def _count(said: str) -> int:
    """The rows that a statement touched, as PostgreSQL says it."""
    return int(said.rpartition(" ")[2])
