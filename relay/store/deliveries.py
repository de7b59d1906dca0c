"""What an endpoint runner reads and writes: the heads of its lanes, and what came of their attempts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt, Delivery, DeliveryId, DeliveryState, Outcome
from relay.ports import Heads
from relay.store.database import Database, guard
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

# Uses deliveries_heads: the index holds only heads, so a million deliveries that wait behind them cost nothing here.
HEADS = """
    SELECT d.id, o.event_id, d.lane, d.position, d.due_at, d.attempts, o.body, d.number, d.replay_id
    FROM deliveries AS d JOIN outbox AS o USING (position)
    WHERE d.endpoint_id = $1 AND d.state = 'waiting' AND d.due_at <= now() ORDER BY d.due_at, d.position LIMIT $2
"""
NEXT_DUE = "SELECT min(due_at) FROM deliveries WHERE endpoint_id = $1 AND state = 'waiting' AND due_at > now()"
# In the order of lanes, as admission locks them, so that the two never wait for each other in a ring.
LOCK = "SELECT 1 FROM deliveries WHERE id = ANY($1::text[]) ORDER BY endpoint_id, lane FOR UPDATE"
RECORD = """
    UPDATE deliveries AS d
    SET state = row.state, attempts = row.number, last_status = row.status, last_error = row.error,
        -- The head of a lane is always due at some time, or nothing would ever come behind it.
        due_at = CASE WHEN row.state = 'waiting' THEN coalesce(row.due_at, d.due_at, now()) END,
        done_at = CASE WHEN row.state = 'waiting' THEN NULL ELSE now() END
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[], $5::int[], $6::text[])
         AS row(id, state, due_at, number, status, error)
    WHERE d.id = row.id
"""
ADD_ATTEMPTS = """
    INSERT INTO attempts (delivery_id, number, started_at, seconds, outcome, status, error, detail, excerpt, address,
                          resolve_seconds, answer_seconds)
    SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::real[], $5::text[], $6::int[], $7::text[],
                         $8::text[], $9::bytea[], $10::text[], $11::real[], $12::real[])
"""
# A statement of its own after RECORD: it sees what admission put behind the heads while RECORD waited.
PROMOTE = """
    UPDATE deliveries AS d SET due_at = now() FROM outbox AS o
    WHERE d.id = ANY (ARRAY(
        SELECT (SELECT n.id FROM deliveries AS n
                WHERE n.endpoint_id = $1 AND n.lane = ended.lane AND n.state = 'waiting' ORDER BY n.position LIMIT 1)
        FROM unnest($2::text[]) AS ended(lane)
    )) AND d.due_at IS NULL AND o.position = d.position
    RETURNING d.id, o.event_id, d.lane, d.position, d.due_at, d.attempts, o.body, d.number, d.replay_id
"""
PROBLEM = "UPDATE endpoints SET problem = $2 WHERE id = $1 AND problem IS DISTINCT FROM $2"
DISABLE = "UPDATE endpoints SET state = 'disabled', problem = $2, version = version + 1 WHERE id = $1"

AFTER = {
    Outcome.DELIVERED: DeliveryState.DELIVERED,
    Outcome.DEAD: DeliveryState.DEAD,
    Outcome.RETRY: DeliveryState.WAITING,
    Outcome.GONE: DeliveryState.WAITING,
}
"""Where a delivery stands after an attempt."""


class DeliveryStore:
    """Deliveries of endpoints. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, endpoint_id: str, most: int) -> Heads:
        """Up to `most` heads that are due, longest due first."""
        async with self._database.session() as connection:
            # In this order: what becomes due between the two is in both, never in neither.
            next_due = await connection.fetchval(NEXT_DUE, endpoint_id)
            rows = await connection.fetch(HEADS, endpoint_id, most)
        return Heads(tuple(map(_delivery, rows)), next_due)

    async def record(self, lease: Lease, attempts: Sequence[Attempt]) -> tuple[Delivery, ...]:
        """Store attempts and what follows from them; the next heads of the lanes that may go on.

        Attempts at deliveries that were removed meanwhile leave no trace.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> tuple[Delivery, ...]:
            await guard(connection, "endpoints", lease)
            await connection.fetch(LOCK, [each.delivery.id for each in attempts])
            last = {each.delivery.id: each for each in attempts}
            await connection.execute(RECORD, *_state_columns(list(last.values())))
            await connection.execute(ADD_ATTEMPTS, *_attempt_columns(attempts))
            ended = [each.delivery.lane for each in last.values() if _state(each) is not DeliveryState.WAITING]
            rows = await connection.fetch(PROMOTE, lease.subject, ended) if ended else []
            return tuple(map(_delivery, rows))

        return await self._database.transact(work)

    async def save_problem(self, lease: Lease, problem: str | None) -> None:
        """What keeps this endpoint from being sent anything; None: nothing does."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            await connection.execute(PROBLEM, lease.subject, None if problem is None else storable(problem))

        await self._database.transact(work)

    async def disable(self, lease: Lease, problem: str) -> None:
        """Send nothing more to this endpoint until a person enables it; what waits goes on waiting."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "endpoints", lease)
            await connection.execute(DISABLE, lease.subject, storable(problem))

        await self._database.transact(work)


def _delivery(row: "asyncpg.Record") -> Delivery:
    return Delivery(
        id=DeliveryId(row["id"]),
        event_id=row["event_id"],
        lane=row["lane"],
        position=row["position"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        body=row["body"],
        number=row["number"],
        replay=row["replay_id"] or "",
    )


def _state(attempt: Attempt) -> DeliveryState:
    return AFTER[attempt.outcome]


def _state_columns(attempts: Sequence[Attempt]) -> tuple[list[object], ...]:
    return (
        [each.delivery.id for each in attempts],
        [_state(each) for each in attempts],
        [each.due_at for each in attempts],
        [each.number for each in attempts],
        [each.answer.status for each in attempts],
        [each.answer.error for each in attempts],
    )


def _attempt_columns(attempts: Sequence[Attempt]) -> tuple[list[object], ...]:
    return (
        [each.delivery.id for each in attempts],
        [each.number for each in attempts],
        [each.started_at for each in attempts],
        [each.seconds for each in attempts],
        [each.outcome for each in attempts],
        [each.answer.status for each in attempts],
        [each.answer.error for each in attempts],
        [storable(each.answer.detail) for each in attempts],
        [each.answer.excerpt for each in attempts],
        [storable(each.answer.address) for each in attempts],
        [each.answer.resolve_seconds for each in attempts],
        [each.answer.answer_seconds for each in attempts],
    )
