"""Deliveries as people look at them, with their attempts, and sending one of them now."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from relay.domain.errors import NotFound, UserError
from relay.store.named import NOTIFY, Named

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

DELIVERIES = """
    SELECT d.position, d.id, d.state, d.attempts, d.last_status, d.last_error, d.due_at, d.created_at, d.done_at,
           e.name AS endpoint, d.endpoint_id, d.number, o.event_id, o.type, o.connection_id, o.remote_id, o.sequence
    FROM deliveries AS d JOIN outbox AS o USING (position) JOIN endpoints AS e ON e.id = d.endpoint_id
    WHERE ($1::text IS NULL OR d.endpoint_id = $1) AND ($2::text IS NULL OR d.state = $2)
      AND ($3::text IS NULL OR o.remote_id = $3) AND ($4::text IS NULL OR d.id = $4)
      AND (cardinality($6::text[]) = 0 OR o.type = ANY($6))
      AND ($7::timestamptz IS NULL OR d.created_at >= $7) AND ($8::timestamptz IS NULL OR d.created_at < $8)
      AND (d.position, d.id) < ($9, $10)
    ORDER BY d.position DESC, d.id DESC LIMIT $5
"""
ATTEMPTS = """
    SELECT number, started_at, seconds, outcome, status, error, detail, excerpt, address, resolve_seconds,
           answer_seconds
    FROM attempts WHERE delivery_id = $1 ORDER BY started_at, number
"""
# Its event first, as replays and those who forget lock the two: it is there until this is done, or gone before.
LOCK_EVENT = """
    SELECT 1 FROM outbox WHERE position = (SELECT position FROM deliveries WHERE id = $1) FOR KEY SHARE
"""
# A replay that was cancelled takes back what still waits for it, but not what a person asks for after that.
RETRY = """
    UPDATE deliveries AS d SET state = 'waiting', due_at = now(), done_at = NULL,
        replay_id = (SELECT r.id FROM replays AS r WHERE r.id = d.replay_id AND r.state <> 'cancelled')
    WHERE id = $1 AND (state <> 'waiting' OR due_at IS NOT NULL) RETURNING endpoint_id
"""
MOST_DELIVERIES = 1000
NEWEST = (2**63 - 1, "")


class DeliveryList(Named):
    """The deliveries to all endpoints."""

    async def deliveries(  # noqa: PLR0913 - one per filter
        self,
        *,
        endpoint: str | None = None,
        state: str | None = None,
        order: str | None = None,
        event_types: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 50,
        before: tuple[int, str] = NEWEST,
    ) -> list[dict[str, Any]]:
        """The latest deliveries, newest first, at most 1,000; those made from `since` on and before `until`.

        `before` is (position, id) of the last one of the page before.
        """
        values = endpoint, state, order, None, min(most, MOST_DELIVERIES), list(event_types), since, until, *before
        async with self._database.session() as connection:
            rows = await connection.fetch(DELIVERIES, *values)
        return [dict(row) for row in rows]

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its attempts. Raises NotFound."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(DELIVERIES, None, None, None, delivery_id, 1, [], None, None, *NEWEST)
            attempts = await connection.fetch(ATTEMPTS, delivery_id)
        if row is None:
            raise NotFound(f"there is no delivery {delivery_id!r}: see `relay deliveries list`")
        return {**dict(row), "attempts_made": [dict(each) for each in attempts]}

    async def retry(self, delivery_id: str) -> None:
        """Send a delivery now, whatever became of it. One that waits behind another of its order keeps its turn."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
            await connection.execute(LOCK_EVENT, delivery_id)
            endpoint = await connection.fetchval(RETRY, delivery_id)
            if endpoint is not None:
                await connection.execute(NOTIFY, "relay_deliveries", endpoint)
            return endpoint is not None

        if await self._database.transact(work):
            return
        found = await self.delivery(delivery_id)
        raise UserError(
            f"{delivery_id} waits behind an earlier event of order {found['remote_id']!r}: retry that one first"
        )
