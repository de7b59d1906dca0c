"""Which connections and endpoints of a worker have something to do now, asked for all of them at once."""

from datetime import timedelta

from relay.store.database import Database

# One probe of an index for each subject, whatever there is: nothing due is the usual answer.
ENDPOINTS = """
    SELECT e.id FROM endpoints AS e
    WHERE e.lease_owner = $1 AND (
        EXISTS (SELECT FROM deliveries AS d WHERE d.endpoint_id = e.id AND d.state = 'waiting'
                AND least(d.attempts, 1) = 0 AND d.due_at <= now())
        OR EXISTS (SELECT FROM deliveries AS d WHERE d.endpoint_id = e.id AND d.state = 'waiting'
                   AND least(d.attempts, 1) = 1 AND d.due_at <= now()))
"""
CONNECTIONS = """
    SELECT c.id FROM connections AS c
    WHERE c.lease_owner = $1 AND (
        EXISTS (SELECT FROM outbox AS o WHERE o.connection_id = c.id AND o.state = 'pending')
        OR EXISTS (SELECT FROM outbox AS o WHERE o.connection_id = c.id AND o.state = 'published'
                   AND o.published_at < now() - $2::interval)
        OR EXISTS (SELECT FROM commands AS k WHERE k.connection_id = c.id AND k.due_at <= now())
        OR EXISTS (SELECT FROM syncs AS s WHERE s.connection_id = c.id AND s.ended_at IS NULL AND s.state = 'waiting'))
"""


class DueEndpoints:
    """Endpoints with deliveries that are due."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def with_work(self, owner: str) -> list[str]:
        """Ids of those that this worker holds. Raises Unavailable."""
        async with self._database.session() as connection:
            return [row["id"] for row in await connection.fetch(ENDPOINTS, owner)]


class FullOutboxes:
    """Connections with something to do for their runners: see CONNECTIONS. An event is missed after `stale`."""

    def __init__(self, database: Database, stale: timedelta) -> None:
        self._database, self._stale = database, stale

    async def with_work(self, owner: str) -> list[str]:
        """Ids of those that this worker holds. Raises Unavailable."""
        async with self._database.session() as connection:
            return [row["id"] for row in await connection.fetch(CONNECTIONS, owner, self._stale)]
