"""Connections as people keep them: added, seen with counts, paused, given new credentials."""

from typing import TYPE_CHECKING, Any

import asyncpg

from relay.domain.connections import Connection, ConnectionState
from relay.domain.errors import AlreadyThere, UserError
from relay.domain.syncs import Announce
from relay.store.leases import connection_of
from relay.store.named import CHANGED, LIST, NOTIFY, Named, Sighting

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ADD_CONNECTION = """
    WITH added AS (
        INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every,
                                 mapping, mapping_version, token_digest, schedule, history_from, compare_due_at,
                                 rules)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12, $13, $14, now() + $15::interval, $18)
    ), first AS (
        INSERT INTO syncs (id, connection_id, kind, announce, begin_on) VALUES ($16, $1, 'first', $17, $14)
    )
    INSERT INTO mapping_versions (connection_id, number, overrides, retold, made_by)
    SELECT $1, $10, $9, 'mapping_changed', $11 WHERE $10 > 0
"""
SET_CONNECTION = """
    UPDATE connections SET state = $2, problem = NULL, notices = '{}', failures = 0, due_at = now(),
        version = version + 1
    WHERE id = $1
"""
SET_CREDENTIALS = """
    UPDATE connections SET sealed = $2, token_digest = $3, settings = coalesce($4, settings), state = 'active',
        problem = NULL, notices = '{}', failures = 0, due_at = now(), version = version + 1
    WHERE id = $1
"""
# The token is good as long as the credentials are; both go, and all that was told stays.
DISCONNECT = """
    UPDATE connections SET sealed = '', token_digest = NULL, state = 'disconnected', problem = NULL, notices = '{}',
        failures = 0, version = version + 1
    WHERE id = $1
"""
LOCK_CONNECTION = "SELECT * FROM connections WHERE id = $1 FOR NO KEY UPDATE"
# What is due is due with the new spans, at the latest.
CHANGE_CONNECTION = """
    UPDATE connections SET name = $2, settings = $3, poll_every = $4, reconcile_every = $5, schedule = $6, quiet = 0,
        due_at = now(), reconcile_due_at = least(reconcile_due_at, now() + $5),
        compare_due_at = least(coalesce(compare_due_at, 'infinity'), now() + $7::interval), version = version + 1
    WHERE id = $1
"""
READING = "SELECT *, now() AS seen_at FROM syncs WHERE connection_id = $1 AND ended_at IS NULL AND kind <> 'poll'"
CONNECTION_COUNTS = """
    SELECT (SELECT count(*) FROM snapshots WHERE connection_id = $1 AND NOT deleted) AS orders,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'changes') AS events,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND state = 'pending') AS unpublished,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'dead-letters' AND type <> 'expired')
               AS rejected
"""


class KeptConnections(Named):
    """The connections of all customers."""

    async def add_connection(
        self,
        new: Connection,
        by: str = "local",
        token_digest: bytes | None = None,
        announce: Announce = Announce.SNAPSHOT,
    ) -> None:
        """Store a connection with its first sync, which announces so; workers are woken.

        Raises AlreadyThere when the customer has one of that name.
        """
        await self._add(
            f"{new.customer_id} already has a connection {new.name!r}: choose another --name",
            ADD_CONNECTION,
            *(new.id, new.customer_id, new.name, new.connector, new.settings, new.sealed),
            *(new.poll_every, new.reconcile_every, new.mapping.overrides.told(), new.mapping.number, by, token_digest),
            *(new.schedule.model_dump(mode="json", exclude_defaults=True), new.history_from),
            *(new.schedule.compare_every, f"syn_{new.id.removeprefix('con_')}", announce, new.rules),
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
            reading=await self._reading(row["id"]),
        )

    async def _reading(self, connection_id: str) -> dict[str, Any] | None:
        """The sync that reads its orders now, if there is one."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(READING, connection_id)
        return None if row is None else dict(row)

    async def connections(self) -> list[Sighting]:
        """All connections, by customer and name, without counts."""
        async with self._database.session() as connection:
            rows = await connection.fetch(LIST.format(table="connections"))
        return [Sighting(connection_of(row), row["problem"], {}, row["polled_at"]) for row in rows]

    async def connection_page(
        self, after: tuple[str, str], most: int, *, customer: str | None, name: str | None
    ) -> list[Sighting]:
        """Up to `most` connections that follow (customer, name), without counts."""
        rows = await self._page("connections", after, most, customer=customer, name=name)
        return [Sighting(connection_of(row), row["problem"], {}, row["polled_at"]) for row in rows]

    async def set_connection(self, connection_id: str, state: ConnectionState) -> None:
        """Pause or resume; the runner that works on it stops, or another starts."""
        resumed = connection_id if state is ConnectionState.ACTIVE else None
        await self._change(SET_CONNECTION, connection_id, state, resumed=resumed)

    async def set_credentials(
        self, connection_id: str, sealed: bytes, token_digest: bytes, settings: dict[str, Any] | None = None
    ) -> None:
        """Put new credentials and a new token in the place of the old ones, settings too if given, and resume."""
        await self._change(SET_CREDENTIALS, connection_id, sealed, token_digest, settings, resumed=connection_id)

    async def disconnect(self, connection_id: str) -> None:
        """Erase credentials and token; nothing is read any more, and what was told is kept."""
        await self._change(DISCONNECT, connection_id)

    async def change_connection(self, before: Connection, after: Connection) -> None:
        """Put other settings in the place of those that were seen; its runner starts anew.

        Raises:
            UserError: It is not as `before` any more; nothing was stored.
            AlreadyThere: The customer has another connection of that name.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            row = await connection.fetchrow(LOCK_CONNECTION, before.id)
            if row is None or _given(connection_of(row)) != _given(before):
                raise UserError(f"connection {before.name!r} was changed by somebody else at the same time: try again")
            schedule = after.schedule.model_dump(mode="json", exclude_defaults=True)
            await connection.execute(
                CHANGE_CONNECTION,
                *(after.id, after.name, after.settings, after.poll_every, after.reconcile_every),
                *(schedule, after.schedule.compare_every),
            )
            await connection.execute(NOTIFY, CHANGED, before.id)

        try:
            await self._database.transact(work)
        except asyncpg.UniqueViolationError:
            raise AlreadyThere(
                f"{before.customer_id} already has a connection {after.name!r}: choose another"
            ) from None


def _given(connection: Connection) -> tuple[object, ...]:
    """What people give a connection and can change."""
    spans = (connection.poll_every, connection.reconcile_every, connection.schedule)
    return (connection.name, connection.settings, *spans)
