"""Replays as people start, look at, pause and cancel them; the endpoint's runner does the work."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.domain.endpoints import Endpoint
from relay.domain.errors import NotFound, UserError
from relay.domain.replays import Criteria, Past, ReplayState
from relay.store.database import Database
from relay.store.named import CHANGED, NOTIFY
from relay.store.replay import MATCHING, values_of

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

COUNT = f"SELECT count(*) AS events, min(o.position) AS first, max(o.position) AS last FROM outbox AS o {MATCHING}"  # noqa: S608 - constants
EVENTS = """
    SELECT position, event_id, type, connection_id, remote_id, sequence, occurred_at
    FROM outbox WHERE position = ANY($1::bigint[])
"""
REACHED = "SELECT coalesce(max(position), 0) FROM outbox"
START = """
    INSERT INTO replays (id, endpoint_id, criteria, per_second, until, found) VALUES ($1, $2, $3, $4, $5, $6)
"""
# The runner starts anew and then looks for replays: so it need not ask for them while there are none.
RESTART = "UPDATE endpoints SET version = version + 1 WHERE id = $1"
CHANGE = """
    UPDATE replays SET state = $2, ended_at = CASE WHEN $2 = 'cancelled' THEN now() END
    WHERE id = $1 AND state = ANY($3::text[]) RETURNING 1
"""
SHOWN = """
    SELECT r.*, e.name AS endpoint, e.customer_id AS customer, e.state AS endpoint_state,
           count(d.id) FILTER (WHERE d.state = 'waiting') AS waiting,
           count(d.id) FILTER (WHERE d.state = 'delivered') AS delivered,
           count(d.id) FILTER (WHERE d.state = 'dead') AS dead
    FROM replays AS r JOIN endpoints AS e ON e.id = r.endpoint_id LEFT JOIN deliveries AS d ON d.replay_id = r.id
    WHERE ($1::text IS NULL OR r.endpoint_id = $1) AND ($2::text IS NULL OR r.id = $2)
    GROUP BY r.id, e.id ORDER BY r.created_at DESC LIMIT 100
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What criteria match at an endpoint, the first and the last of it.

    `at_most` when a condition of the endpoint has still to be asked for events that it never had.
    """

    events: int
    at_most: bool
    first: dict[str, Any] | None
    last: dict[str, Any] | None


class ReplayList:
    """Replays of all endpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def found(self, endpoint: Endpoint, criteria: Criteria) -> Found:
        """What a replay would send now."""
        async with self._database.session() as connection:
            return await _found(connection, endpoint, criteria, await connection.fetchval(REACHED))

    async def start(self, replay_id: str, endpoint: Endpoint, criteria: Criteria, per_second: float) -> None:
        """Begin: the endpoint's runner is woken."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            until = await connection.fetchval(REACHED)
            found = await _found(connection, endpoint, criteria, until)
            plain = criteria.model_dump(mode="json", exclude_none=True)
            await connection.execute(START, replay_id, endpoint.id, plain, per_second, until, found.events)
            await _restart(connection, endpoint.id)

        await self._database.transact(work)

    async def change(self, replay_id: str, state: ReplayState, only: Collection[ReplayState]) -> None:
        """Pause, resume or cancel.

        Raises:
            NotFound: there is no such replay.
            UserError: it is in none of the states `only`.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            # The endpoint first, as its runner locks the two.
            await _restart(connection, before["endpoint_id"])
            if await connection.fetchval(CHANGE, replay_id, state, list(only)) is None:
                raise UserError(f"replay {replay_id} is {before['state']} already")

        before = await self.replay(replay_id)
        await self._database.transact(work)

    async def replays(self, endpoint_id: str | None = None) -> list[dict[str, Any]]:
        """The latest replays, newest first, at most 100."""
        async with self._database.session() as connection:
            return [dict(row) for row in await connection.fetch(SHOWN, endpoint_id, None)]

    async def replay(self, replay_id: str) -> dict[str, Any]:
        """One replay and what came of it. Raises NotFound."""
        async with self._database.session() as connection:
            rows = await connection.fetch(SHOWN, None, replay_id)
        if not rows:
            raise NotFound(f"there is no replay {replay_id!r}: see `relay replay list`")
        return dict(rows[0])


async def _found(
    connection: "PoolConnectionProxy[asyncpg.Record]", endpoint: Endpoint, criteria: Criteria, until: int
) -> Found:
    (row,) = await connection.fetch(COUNT, *values_of(endpoint, criteria, 0, until))
    ends = {each["position"]: dict(each) for each in await connection.fetch(EVENTS, [row["first"], row["last"]])}
    at_most = bool(endpoint.options.where) and Past.NEVER in criteria.statuses
    return Found(row["events"], at_most and row["events"] > 0, ends.get(row["first"]), ends.get(row["last"]))


async def _restart(connection: "PoolConnectionProxy[asyncpg.Record]", endpoint_id: str) -> None:
    await connection.execute(RESTART, endpoint_id)
    await connection.execute(NOTIFY, CHANGED, endpoint_id)
