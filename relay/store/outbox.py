"""The outbox: events on their way to Kafka, until they are back from it.

    pending -> published (the broker acknowledged) -> relayed (our own consumer admitted it)

An event that was published and did not come back is published again: a broker that lost data costs a duplicate with
the same id, never an event.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from relay.domain.connections import Lease
from relay.ports import OutboxEntry, OutboxRow
from relay.store.database import Database, guard
from relay.store.orders import SAVE_OUTBOX, outbox_columns
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

# The wait before publishing again doubles each time: an admission that lags must not be fed its own backlog anew.
# Each half has its own limit: the first then stops early in outbox_pending, however long the backlog is.
TO_PUBLISH = """
    SELECT * FROM (
        SELECT o.position, o.event_id, o.stream, o.customer_id, o.connection_id, o.remote_id, o.sequence, o.type,
               o.occurred_at, o.body, o.problem, o.origin,
               sum(octet_length(o.body)) OVER (ORDER BY o.position) - octet_length(o.body) AS before,
               NOT EXISTS (SELECT 1 FROM outbox AS later WHERE later.connection_id = o.connection_id
                           AND later.remote_id = o.remote_id AND later.sequence > o.sequence) AS latest
        FROM (
            (SELECT position FROM outbox WHERE connection_id = $1 AND state = 'pending' ORDER BY position LIMIT $3)
            UNION ALL
            (SELECT position FROM outbox
             WHERE connection_id = $1 AND state = 'published' AND published_at < now() - $2::interval
               AND published_at < now() - $2::interval * power(2, least(publishes, 8) - 1)
             ORDER BY position LIMIT $3)
            ORDER BY position LIMIT $3
        ) AS due JOIN outbox AS o USING (position)
    ) AS sized WHERE before < $4 ORDER BY position
"""
# Publishing and admission mark the same rows at the same time: both lock them in order first, or they could meet in a
# ring. A statement of its own: the marking then sees the rows as they are locked, and need not lock them anew.
LOCK_OUTBOX = "SELECT 1 FROM outbox WHERE position = ANY($1::bigint[]) ORDER BY position FOR NO KEY UPDATE"
PUBLISHED = """
    UPDATE outbox SET state = CASE stream WHEN 'dead-letters' THEN 'relayed' ELSE 'published' END, published_at = now(),
        publishes = publishes + 1
    WHERE position = ANY($1::bigint[]) AND state <> 'relayed'
"""
REFUSED = """
    UPDATE outbox SET state = 'published', published_at = now(), publishes = publishes + 1, problem = $2
    WHERE position = $1 AND state <> 'relayed'
"""
MOST_BYTES = 16 * 1024 * 1024
"""Of bodies that are read at once; one event is read however large it is."""


class OutboxStore:
    """The outbox of one connection, for its runner."""

    def __init__(self, database: Database, stale_after: timedelta) -> None:
        self._database, self._stale_after = database, stale_after

    async def to_publish(self, lease: Lease, most: int) -> list[OutboxRow]:
        """Events to publish now, in order: new ones, and published ones that did not come back; a few MiB at once."""
        async with self._database.session() as connection:
            rows = await connection.fetch(TO_PUBLISH, lease.subject, self._stale_after, most, MOST_BYTES)
        names = OutboxRow.__slots__
        return [OutboxRow(**{name: row[name] for name in names}) for row in rows]

    async def save_published(self, lease: Lease, positions: Sequence[int]) -> None:
        """The broker has these."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await mark(connection, PUBLISHED, positions)

        await self._database.transact(work)

    async def save_refused(self, lease: Lease, row: OutboxRow, letter: OutboxEntry) -> None:
        """The broker will never take `row`: a dead letter takes its place on Kafka."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(REFUSED, row.position, storable(letter.problem or ""))
            await connection.execute(SAVE_OUTBOX, row.customer_id, row.connection_id, *outbox_columns([letter]))

        await self._database.transact(work)


async def mark(connection: "PoolConnectionProxy[asyncpg.Record]", statement: str, positions: Sequence[int]) -> None:
    """Do `statement` to the rows at these positions, locked in their order."""
    await connection.execute(LOCK_OUTBOX, list(positions))
    await connection.execute(statement, list(positions))
