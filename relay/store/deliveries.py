"""What an endpoint runner reads and writes: the heads of its lanes, and what is kept of its endpoint."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt, DeliveryId
from relay.domain.notices import Notice, NoticeType
from relay.ports import Heads, Rules, Space
from relay.store.attempts import SUPERSEDE, AttemptStore, cut, delivery_of
from relay.store.database import Database, guard
from relay.store.notices import add_notices
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

# Uses deliveries_heads: the index holds only heads, so a million deliveries that wait behind them cost nothing here.
# First attempts and repeated ones are read apart (least(attempts, 1)), so that neither hides the other.
HEADS = """
    WITH due AS MATERIALIZED (
        (SELECT id FROM deliveries
         WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 0 AND due_at <= now()
           AND id <> ALL($2::text[]) ORDER BY due_at, position LIMIT $3)
        UNION ALL
        (SELECT id FROM deliveries
         WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 1 AND due_at <= now()
           AND id <> ALL($2::text[]) ORDER BY due_at, position LIMIT $4)
    ), sized AS (
        SELECT d.id, o.event_id, d.lane, d.position, d.due_at, d.attempts, o.body, d.number, d.replay_id,
               sum(octet_length(o.body)) OVER (ORDER BY d.due_at, d.position) - octet_length(o.body) AS before
        FROM due JOIN deliveries AS d USING (id) JOIN outbox AS o USING (position)
    )
    SELECT *, (SELECT count(*) FROM due) AS found FROM sized WHERE before < $5 ORDER BY due_at, position
"""
NEXT_DUE = """
    SELECT least(
        (SELECT min(due_at) FROM deliveries
         WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 0 AND due_at > now()),
        (SELECT min(due_at) FROM deliveries
         WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 1 AND due_at > now()))
"""
BLOCKED = """
    SELECT lane FROM deliveries AS d
    WHERE endpoint_id = $1 AND state = 'waiting' AND least(attempts, 1) = 1 AND due_at <= now()
      AND id <> ALL($2::text[])
      AND EXISTS (SELECT 1 FROM deliveries AS n WHERE n.endpoint_id = d.endpoint_id AND n.lane = d.lane
                  AND n.state = 'waiting' AND n.position > d.position)
    ORDER BY lane FOR UPDATE
"""
PROBLEM = "UPDATE endpoints SET problem = $2 WHERE id = $1 AND problem IS DISTINCT FROM $2"
VERIFIED = """
    UPDATE endpoints SET verified_at = now(), proof = $2, allowed_per_minute = $3, problem = NULL WHERE id = $1
"""
DISABLE = """
    UPDATE endpoints SET state = 'disabled', problem = $2, version = version + 1
    WHERE id = $1 AND url = $3
    RETURNING customer_id, name, now() AS now
"""


class DeliveryStore:
    """Deliveries of endpoints. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = AttemptStore(database)

    async def heads(self, endpoint_id: str, space: Space) -> Heads:
        """Heads that are due and not held, longest due first, as many as there is space for, and one at least."""
        async with self._database.session() as connection:
            # In this order: what becomes due between the two is in both, never in neither.
            next_due = await connection.fetchval(NEXT_DUE, endpoint_id)
            rows = await connection.fetch(
                HEADS, endpoint_id, list(space.held), space.heads, space.repeated, space.bytes
            )
        repeated = sum(row["attempts"] > 0 for row in rows)
        full = repeated == space.repeated or len(rows) - repeated == space.heads
        return Heads(tuple(map(delivery_of, rows)), next_due, more=full or cut(rows))

    async def record(self, lease: Lease, attempts: Sequence[Attempt], rules: Rules) -> Heads:
        """Store attempts and what follows from them; the next heads of the lanes that may go on.

        Attempts at deliveries that were removed meanwhile leave no trace.
        """
        return await self._attempts.record(lease, attempts, rules)

    async def supersede(self, lease: Lease, held: Collection[DeliveryId]) -> None:
        """Leave out what a newer event of its order has made old, in lanes whose refused head is due and not held."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            rows = await connection.fetch(BLOCKED, lease.subject, list(held))
            if rows:
                lanes = [row["lane"] for row in rows]
                await connection.execute(SUPERSEDE, [lease.subject] * len(lanes), lanes)

        await self._database.transact(work)

    async def save_problem(self, lease: Lease, problem: str | None) -> None:
        """What keeps this endpoint from being sent anything; None: nothing does."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            await connection.execute(PROBLEM, lease.subject, None if problem is None else storable(problem))

        await self._database.transact(work)

    async def save_verified(self, lease: Lease, proof: str, per_minute: int | None) -> None:
        """What the endpoint has proved, and the most webhooks that it wants per minute (None: it sets no limit)."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            await connection.execute(VERIFIED, lease.subject, proof, per_minute)

        await self._database.transact(work)

    async def disable(self, lease: Lease, url: str, problem: str) -> None:
        """Send nothing more to this endpoint until a person enables it; what waits goes on waiting.

        Nothing happens when its URL is another by now: what the former one said holds for that alone.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            row = await connection.fetchrow(DISABLE, lease.subject, storable(problem), url)
            if row is None:
                return
            await add_notices(
                connection,
                [
                    Notice(
                        NoticeType.ENDPOINT_DISABLED,
                        row["customer_id"],
                        lease.subject,
                        row["name"],
                        row["now"],
                        reason=problem,
                    )
                ],
            )

        await self._database.transact(work)
