"""Retention: what has been told, delivered or given up is forgotten after a while, in small bites."""

from datetime import timedelta
from typing import TYPE_CHECKING

from relay.store.database import Database

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

BITE = 2000
"""Events per transaction: short enough never to be felt by who publishes or delivers."""

# Positions grow with time, so the primary key finds the oldest. Deliveries and attempts go with their event.
FORGET = """
    DELETE FROM outbox WHERE position IN (
        SELECT o.position FROM outbox AS o
        WHERE o.state = 'relayed' AND o.created_at < now() - $1::interval
          AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.position = o.position AND d.state = 'waiting')
        ORDER BY o.position LIMIT $2 FOR UPDATE SKIP LOCKED
    )
"""


class RetentionStore:
    """Forgets events that are older than `keep`."""

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database, self._keep = database, keep

    async def forget(self) -> int:
        """Forget one bite of old events with their deliveries and attempts; how many. What still waits is kept."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> str:
            return await connection.execute(FORGET, self._keep, BITE)

        return int((await self._database.transact(work)).rpartition(" ")[2])
