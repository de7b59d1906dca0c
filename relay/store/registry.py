"""What people keep: customers, connections, endpoints, and a look at deliveries. One call per command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from relay.domain.connections import Connection, ConnectionState
from relay.domain.endpoints import Endpoint, EndpointState
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.notices import NoticeType
from relay.store.database import Database
from relay.store.leases import connection_of, endpoint_of
from relay.store.notices import add_connection_notice

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ADD_CUSTOMER = "INSERT INTO customers (id, wrapped_key) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
CUSTOMER_KEY = "SELECT wrapped_key FROM customers WHERE id = $1"
ADD_CONNECTION = """
    INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
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
ADD_ENDPOINT = """
    WITH numbers AS (INSERT INTO endpoint_numbers (endpoint_id, last) VALUES ($1, 0))
    INSERT INTO endpoints (id, customer_id, name, url, sealed, event_types, connections, at_once, deadline, options,
                           access, public_keys)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
SET_ENDPOINT = """
    UPDATE endpoints SET state = $2, problem = NULL, failing_since = NULL, noticed = '0', suspended_at = NULL,
        version = version + 1
    WHERE id = $1
"""
SET_SIGNING = """
    UPDATE endpoints SET sealed = $3, public_keys = $4, public_keys_until = $5, version = version + 1
    WHERE id = $1 AND sealed = $2 RETURNING id
"""
SET_PULL_TOKEN = "UPDATE endpoints SET pull_token = $2 WHERE id = $1"  # noqa: S105 - a statement
LOCK_ENDPOINT = "SELECT * FROM endpoints WHERE id = $1 FOR NO KEY UPDATE"
# A new address must prove itself anew.
CHANGE_ENDPOINT = """
    UPDATE endpoints SET url = $2, event_types = $3, connections = $4, at_once = $5, deadline = $6, options = $7,
        access = $8, verified_at = CASE WHEN url = $2 THEN verified_at END, version = version + 1
    WHERE id = $1
"""
FIND = """
    SELECT * FROM {table} WHERE id = $1 OR name = $1 OR customer_id || '/' || name = $1 ORDER BY customer_id, name
"""
LIST = "SELECT * FROM {table} ORDER BY customer_id, name"
# Attempts have no foreign key that would take them along. The row is locked first: nothing is recorded behind our back.
LOCK = "SELECT 1 FROM {table} WHERE id = $1 FOR UPDATE"
REMOVE_ATTEMPTS = {
    "endpoints": """
        DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM deliveries WHERE endpoint_id = $1)
    """,
    "connections": """
        DELETE FROM attempts WHERE delivery_id IN (
            SELECT d.id FROM deliveries AS d JOIN outbox AS o USING (position) WHERE o.connection_id = $1
        )
    """,
}
REMOVE = "DELETE FROM {table} WHERE id = $1"
CONNECTION_COUNTS = """
    SELECT (SELECT count(*) FROM snapshots WHERE connection_id = $1 AND NOT deleted) AS orders,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'changes') AS events,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND state = 'pending') AS unpublished,
           (SELECT count(*) FROM outbox WHERE connection_id = $1 AND stream = 'dead-letters') AS rejected
"""
ENDPOINT_COUNTS = """
    SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'delivered') AS delivered,
           count(*) FILTER (WHERE state = 'dead') AS dead,
           count(*) FILTER (WHERE state = 'superseded') AS superseded
    FROM deliveries WHERE endpoint_id = $1
"""
DELIVERIES = """
    SELECT d.id, d.state, d.attempts, d.last_status, d.last_error, d.due_at, d.created_at, d.done_at,
           e.name AS endpoint, d.endpoint_id, o.event_id, o.type, o.connection_id, o.remote_id, o.sequence
    FROM deliveries AS d JOIN outbox AS o USING (position) JOIN endpoints AS e ON e.id = d.endpoint_id
    WHERE ($1::text IS NULL OR d.endpoint_id = $1) AND ($2::text IS NULL OR d.state = $2)
      AND ($3::text IS NULL OR o.remote_id = $3) AND ($4::text IS NULL OR d.id = $4)
      AND (cardinality($6::text[]) = 0 OR o.type = ANY($6))
      AND ($7::timestamptz IS NULL OR d.created_at >= $7) AND ($8::timestamptz IS NULL OR d.created_at < $8)
    ORDER BY d.position DESC LIMIT $5
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
NOTIFY = "SELECT pg_notify($1, $2)"
MOST_DELIVERIES = 1000


@dataclass(frozen=True, slots=True)
class Sighting:
    """A connection or endpoint as a person sees it: the value, its problem, and counts."""

    subject: Any
    problem: str | None
    counts: dict[str, int]
    seen_at: datetime | None = None
    notices: tuple[str, ...] = ()


class Registry:
    """Customers, connections and endpoints. Names may be given as id, name, or customer/name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """Where all of it is, for those who look further."""
        return self._database

    async def customer_key(self, customer_id: str, new_key: bytes | None = None) -> bytes:
        """The customer's wrapped data key; with `new_key` the customer is made when it is not there.

        Raises:
            NotFound: no such customer, and no key to make it with.
        """
        async with self._database.session() as connection:
            if new_key is not None:
                await connection.execute(ADD_CUSTOMER, customer_id, new_key)
            found = await connection.fetchval(CUSTOMER_KEY, customer_id)
        if found is None:
            raise NotFound(f"there is no customer {customer_id!r}")
        return bytes(found)

    async def add_connection(self, new: Connection) -> None:
        """Store a connection; workers are woken. Raises AlreadyThere when the customer has one of that name."""
        await self._add(
            f"{new.customer_id} already has a connection {new.name!r}: choose another --name",
            ADD_CONNECTION,
            *(new.id, new.customer_id, new.name, new.connector, new.settings, new.sealed),
            *(new.poll_every, new.reconcile_every),
        )

    async def add_endpoint(self, new: Endpoint, public_keys: Sequence[str] = ()) -> None:
        """Store an endpoint; workers are woken. Raises AlreadyThere when the customer has one of that name."""
        await self._add(
            f"{new.customer_id} already has an endpoint {new.name!r}: choose another --name",
            ADD_ENDPOINT,
            *(new.id, new.customer_id, new.name, new.url, new.sealed, list(new.event_types), list(new.connections)),
            *(new.at_once, new.deadline, new.options.model_dump(mode="json", exclude_defaults=True)),
            *(new.access, list(public_keys)),
        )

    async def _add(self, taken: str, statement: str, *values: Any) -> None:
        async with self._database.session() as connection:
            try:
                await connection.execute(statement, *values)
            except asyncpg.UniqueViolationError:
                raise AlreadyThere(taken) from None
            await connection.execute(NOTIFY, "relay_leases", "")

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

    async def endpoint(self, name: str) -> Sighting:
        """One endpoint and its counts. Raises NotFound, or UserError when several have that name."""
        row = await self._find("endpoints", name)
        return Sighting(endpoint_of(row), row["problem"], await self._counts(ENDPOINT_COUNTS, row["id"]))

    async def connections(self) -> list[Sighting]:
        """All connections, by customer and name, without counts."""
        async with self._database.session() as connection:
            rows = await connection.fetch(LIST.format(table="connections"))
        return [Sighting(connection_of(row), row["problem"], {}, row["polled_at"]) for row in rows]

    async def endpoints(self) -> list[Sighting]:
        """All endpoints, by customer and name, without counts."""
        async with self._database.session() as connection:
            rows = await connection.fetch(LIST.format(table="endpoints"))
        return [Sighting(endpoint_of(row), row["problem"], {}) for row in rows]

    async def set_connection(self, connection_id: str, state: ConnectionState) -> None:
        """Pause or resume; the runner that works on it stops, or another starts."""
        resumed = connection_id if state is ConnectionState.ACTIVE else None
        await self._change(SET_CONNECTION, connection_id, state, resumed=resumed)

    async def set_credentials(self, connection_id: str, sealed: bytes) -> None:
        """Put new credentials in the place of the old ones, and resume."""
        await self._change(SET_CREDENTIALS, connection_id, sealed, resumed=connection_id)

    async def set_endpoint(self, endpoint_id: str, state: EndpointState) -> None:
        """Enable or disable; what waits goes on waiting."""
        await self._change(SET_ENDPOINT, endpoint_id, state)

    async def change_endpoint(self, before: Endpoint, after: Endpoint) -> None:
        """Put one value of an endpoint in the place of another; its runner starts anew. State and secrets stay.

        Raises:
            UserError: It is not as `before` any more; nothing was stored.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            row = await connection.fetchrow(LOCK_ENDPOINT, before.id)
            if row is None or _given(endpoint_of(row)) != _given(before):
                raise UserError(f"endpoint {before.name!r} was changed by somebody else at the same time: try again")
            await connection.execute(
                CHANGE_ENDPOINT,
                *(after.id, after.url, list(after.event_types), list(after.connections), after.at_once, after.deadline),
                *(after.options.model_dump(mode="json", exclude_defaults=True), after.access),
            )
            await connection.execute(NOTIFY, "relay_leases", "")

        await self._database.transact(work)

    async def set_signing(
        self, endpoint_id: str, before: bytes, sealed: bytes, public_keys: Mapping[str, datetime | None]
    ) -> None:
        """Put new signing secrets in the place of those read before; the runner starts anew with them.

        `public_keys` are those that receivers may ask for, each with its end if it has one.

        Raises:
            UserError: Somebody else changed or removed them meanwhile; nothing was stored.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            listed = list(public_keys), list(public_keys.values())
            if await connection.fetchval(SET_SIGNING, endpoint_id, before, sealed, *listed) is None:
                raise UserError("the signing secrets were changed by somebody else at the same time: try again")
            await connection.execute(NOTIFY, "relay_leases", "")

        await self._database.transact(work)

    async def set_pull_token(self, endpoint_id: str, digest: bytes | None) -> None:
        """Put the digest of a pull token, or none, in the place of the one before."""
        async with self._database.session() as connection:
            await connection.execute(SET_PULL_TOKEN, endpoint_id, digest)

    async def remove(self, table: str, subject_id: str) -> None:
        """Remove a connection or endpoint with all that belongs to it."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await connection.execute(LOCK.format(table=table), subject_id)
            await connection.execute(REMOVE_ATTEMPTS[table], subject_id)
            await connection.execute(REMOVE.format(table=table), subject_id)
            await connection.execute(NOTIFY, "relay_leases", "")

        await self._database.transact(work)

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
    ) -> list[dict[str, Any]]:
        """The latest deliveries, newest first, at most 1,000; those made from `since` on and before `until`."""
        values = endpoint, state, order, None, min(most, MOST_DELIVERIES), list(event_types), since, until
        async with self._database.session() as connection:
            rows = await connection.fetch(DELIVERIES, *values)
        return [dict(row) for row in rows]

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery with its attempts. Raises NotFound."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(DELIVERIES, None, None, None, delivery_id, 1, [], None, None)
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

    async def _find(self, table: str, name: str) -> "asyncpg.Record":
        async with self._database.session() as connection:
            rows = await connection.fetch(FIND.format(table=table), name)
        noun = table[:-1]
        if not rows:
            raise NotFound(f"there is no {noun} {name!r}: see `relay {table} list`")
        if exact := [row for row in rows if row["id"] == name]:
            return exact[0]
        if len(rows) > 1:
            full = ", ".join(f"{row['customer_id']}/{row['name']}" for row in rows)
            raise UserError(f"several customers have a {noun} {name!r}; say which: {full}")
        return rows[0]

    async def _counts(self, statement: str, subject_id: str) -> dict[str, int]:
        async with self._database.session() as connection:
            row = await connection.fetchrow(statement, subject_id)
        return dict(row or {})

    async def _change(self, statement: str, *values: object, resumed: str | None = None) -> None:
        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            if resumed is not None:
                await add_connection_notice(
                    connection,
                    NoticeType.CONNECTION_RECONNECTED,
                    resumed,
                    leaving=ConnectionState.NEEDS_RECONNECT,
                )
            await connection.execute(statement, *values)
            await connection.execute(NOTIFY, "relay_leases", "")

        await self._database.transact(work)


def _given(endpoint: Endpoint) -> tuple[object, ...]:
    """What people give an endpoint and can change."""
    narrowed = (endpoint.event_types, endpoint.connections)
    return (endpoint.url, *narrowed, endpoint.at_once, endpoint.deadline, endpoint.options, endpoint.access)
