"""Connections as people keep them: added, seen with counts, paused, given new credentials."""

from relay.domain.connections import Connection, ConnectionState
from relay.store.leases import connection_of
from relay.store.named import LIST, Named, Sighting

ADD_CONNECTION = """
    WITH added AS (
        INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every,
                                 mapping, mapping_version)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    )
    INSERT INTO mapping_versions (connection_id, number, overrides, announce, made_by)
    SELECT $1, $10, $9, 'mapping_changed', $11 WHERE $10 > 0
"""
SET_CONNECTION = """
    UPDATE connections SET state = $2, problem = NULL, notices = '{}', failures = 0, due_at = now(),
        version = version + 1
    WHERE id = $1
"""
SET_CREDENTIALS = """
    UPDATE connections SET sealed = $2, state = 'active', problem = NULL, notices = '{}', failures = 0, due_at = now(),
        version = version + 1
    WHERE id = $1
"""
CONNECTION_COUNTS = """
    SELECT (SELECT count(*) FROM snapshots WHERE connection_id = $1 AND NOT deleted) AS orders,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'changes') AS events,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND state = 'pending') AS unpublished,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'dead-letters') AS rejected
"""


class KeptConnections(Named):
    """The connections of all customers."""

    async def add_connection(self, new: Connection, by: str = "local") -> None:
        """Store a connection; workers are woken. Raises AlreadyThere when the customer has one of that name."""
        await self._add(
            f"{new.customer_id} already has a connection {new.name!r}: choose another --name",
            ADD_CONNECTION,
            *(new.id, new.customer_id, new.name, new.connector, new.settings, new.sealed),
            *(new.poll_every, new.reconcile_every, new.mapping.overrides.told(), new.mapping.number, by),
        )

    async def connection(self, name: str) -> Sighting:
        """One connection and its counts. Raises NotFound, or UserError when several have that name."""
        row = await self._find("connections", name)
        return Sighting(
            connection_of(row),
            row["problem"],
            await self._counts(CONNECTION_COUNTS, row["id"]),
            row["polled_at"],
            tuple(row["notices"]),
        )

    async def connections(self) -> list[Sighting]:
        """All connections, by customer and name, without counts."""
        async with self._database.session() as connection:
            rows = await connection.fetch(LIST.format(table="connections"))
        return [Sighting(connection_of(row), row["problem"], {}, row["polled_at"]) for row in rows]

    async def set_connection(self, connection_id: str, state: ConnectionState) -> None:
        """Pause or resume; the runner that works on it stops, or another starts."""
        resumed = connection_id if state is ConnectionState.ACTIVE else None
        await self._change(SET_CONNECTION, connection_id, state, resumed=resumed)

    async def set_credentials(self, connection_id: str, sealed: bytes) -> None:
        """Put new credentials in the place of the old ones, and resume."""
        await self._change(SET_CREDENTIALS, connection_id, sealed, resumed=connection_id)
