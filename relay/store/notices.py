"""Notices on their way to operators: written with the change that they tell of, published by whichever worker comes.

    add_notices (in the caller's transaction) -> take -> told | give_back -> forgotten after a while

What a connection's notice tells goes to its customer's endpoints, too: by the outbox, with the same id and body.

Taking is a claim for a minute, not a lock: nothing is held while a broker is asked. Two workers never hold notices of
one subject at the same time, so these stay in order; a worker that dies in between costs a repeat with the same id.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from relay.domain.connections import ConnectionState
from relay.domain.notices import Notice, NoticeType, notice_event
from relay.store.database import Database
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

CLAIM = timedelta(minutes=1)
"""Longer than publishing takes at its worst, with some connecting before it."""
BITE = 2000
"""Notices forgotten per transaction."""

ADD = """
    INSERT INTO notices (id, type, customer_id, subject_id, subject_name, occurred_at, reason, failing_since, after)
    SELECT id, type, customer_id, subject_id, subject_name, occurred_at, reason, failing_since, after
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                $8::timestamptz[], $9::interval[]) WITH ORDINALITY
         AS row(id, type, customer_id, subject_id, subject_name, occurred_at, reason, failing_since, after, ordinal)
    ORDER BY ordinal ON CONFLICT (id) DO NOTHING
"""
WAKE = "SELECT pg_notify('relay_notices', '')"
# One worker at a time looks what is free, for as long as the look takes: two that look at the same time could each take
# notices of one subject. A statement of its own: the look then sees what the one before has taken.
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('relay_notices', 0))"
TAKE = """
    UPDATE notices SET taken_until = now() + $2::interval
    WHERE position IN (
        SELECT n.position FROM notices AS n
        WHERE n.told_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM notices AS held
            WHERE held.told_at IS NULL AND held.subject_id = n.subject_id AND held.taken_until > now())
        ORDER BY n.position LIMIT $1
    )
    RETURNING position, type, customer_id, subject_id, subject_name, occurred_at, reason, failing_since, after
"""
TOLD = "UPDATE notices SET told_at = now(), taken_until = NULL WHERE id = ANY($1::text[]) AND told_at IS NULL"
GIVE_BACK = "UPDATE notices SET taken_until = NULL WHERE id = ANY($1::text[]) AND told_at IS NULL"
FORGET = """
    DELETE FROM notices WHERE position IN (
        SELECT position FROM notices WHERE told_at < now() - $1::interval ORDER BY told_at LIMIT $2
        FOR UPDATE SKIP LOCKED)
"""


CONNECTION_IN = "SELECT customer_id, name, now() AS at FROM connections WHERE id = $1 AND state = $2 FOR NO KEY UPDATE"


# Numbered from 1 without gaps, like an order's events; the connection is locked, so nobody else counts on meanwhile.
# Those that retention has taken were admitted.
TELL_ENDPOINTS = """
    INSERT INTO outbox (event_id, stream, customer_id, connection_id, remote_id, sequence, type, occurred_at, body)
    SELECT $1, 'notices', $2, $3, '', 1 + greatest(
               (SELECT max(sequence) FROM outbox WHERE connection_id = $3 AND remote_id = ''),
               (SELECT sequence FROM admitted WHERE connection_id = $3 AND remote_id = ''), 0), $4, $5, $6
    ON CONFLICT (event_id) DO NOTHING
"""


async def add_notices(connection: "PoolConnectionProxy[asyncpg.Record]", notices: Sequence[Notice]) -> None:
    """Write notices in the caller's transaction, which holds the row of their subject; workers are woken at its commit.

    What has been written before, by its id, is left as it is.
    """
    if not notices:
        return
    await connection.execute(
        ADD,
        [each.id for each in notices],
        [each.type for each in notices],
        [each.customer_id for each in notices],
        [each.subject_id for each in notices],
        [each.subject_name for each in notices],
        [each.occurred_at for each in notices],
        [storable(each.reason) for each in notices],
        [each.failing_since for each in notices],
        [each.after for each in notices],
    )
    await connection.execute(WAKE)


async def add_connection_notice(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    kind: NoticeType,
    connection_id: str,
    *,
    leaving: ConnectionState,
    reason: str = "",
) -> None:
    """Write that a connection leaves a state, before the caller's transaction changes it; nothing if it is in another.

    The connection's row is locked, so that two who change it at the same time tell of it once.
    """
    row = await connection.fetchrow(CONNECTION_IN, connection_id, leaving)
    if row is None:
        return
    told = Notice(kind, row["customer_id"], connection_id, row["name"], row["at"], storable(reason))
    await add_notices(connection, [told])
    body = notice_event(told).model_dump_json().encode()
    await connection.execute(
        TELL_ENDPOINTS, told.id, told.customer_id, connection_id, told.type, told.occurred_at, body
    )


class NoticeStore:
    """Notices that are to be told. Told ones are forgotten after `keep`."""

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database, self._keep = database, keep

    async def take(self, most: int) -> list[Notice]:
        """Up to `most` notices to publish now, eldest first; nobody else is given them for a minute."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> "list[asyncpg.Record]":
            await connection.execute(ONE_AT_A_TIME)
            return await connection.fetch(TAKE, most, CLAIM)

        rows = await self._database.transact(work)
        return [_notice(row) for row in sorted(rows, key=lambda row: int(row["position"]))]

    async def told(self, ids: Sequence[str]) -> None:
        """The broker has these, or will never take them."""
        async with self._database.session() as connection:
            await connection.execute(TOLD, list(ids))

    async def give_back(self, ids: Sequence[str]) -> None:
        """These could not be published now: whoever comes next may take them."""
        async with self._database.session() as connection:
            await connection.execute(GIVE_BACK, list(ids))

    async def forget(self) -> int:
        """Forget one bite of what was told long ago; how many."""
        async with self._database.session() as connection:
            done: str = await connection.execute(FORGET, self._keep, BITE)
        return int(done.rpartition(" ")[2])


def _notice(row: "asyncpg.Record") -> Notice:
    return Notice(
        type=NoticeType(row["type"]),
        customer_id=row["customer_id"],
        subject_id=row["subject_id"],
        subject_name=row["subject_name"],
        occurred_at=row["occurred_at"],
        reason=row["reason"],
        failing_since=row["failing_since"],
        after=row["after"],
    )
