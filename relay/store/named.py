"""Connections and endpoints by the names that people give them: found, added, changed, removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from relay.domain.connections import ConnectionState
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.notices import NoticeType
from relay.store.database import Database
from relay.store.notices import add_connection_notice

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

FIND = """
    SELECT * FROM {table} WHERE id = $1 OR name = $1 OR customer_id || '/' || name = $1 ORDER BY customer_id, name
"""
# What is called so is found first, by its own indexes: a list by name is short.
PAGE = """
    SELECT * FROM {table} WHERE (customer_id, name) > ($1, $2) AND ($3::text IS NULL OR customer_id = $3)
    ORDER BY customer_id, name LIMIT $4
"""
NAMED = """
    SELECT * FROM (
        SELECT * FROM {table} WHERE id = $5 OR name = $5 OR customer_id || '/' || name = $5 OFFSET 0
    ) AS found WHERE (customer_id, name) > ($1, $2) AND ($3::text IS NULL OR customer_id = $3)
    ORDER BY customer_id, name LIMIT $4
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
NOTIFY = "SELECT pg_notify($1, $2)"
CHANGED = "relay_leases"
"""The channel that names what people added, changed or removed; workers listen."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A connection or endpoint as a person sees it: the value, its problem, and counts."""

    subject: Any
    problem: str | None
    counts: dict[str, int]
    seen_at: datetime | None = None
    notices: tuple[str, ...] = ()
    last_attempt: Mapping[str, Any] | None = None
    """Of an endpoint that fails."""
    reading: dict[str, Any] | None = None
    """The sync that reads a connection's orders now."""


class Named:
    """What the two have in common. A name is an id, a name, or customer/name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """Where all of it is, for those who look further."""
        return self._database

    async def _add(self, taken: str, statement: str, *values: Any) -> None:
        """Run a statement whose first value is the new id."""
        async with self._database.session() as connection:
            try:
                await connection.execute(statement, *values)
            except asyncpg.UniqueViolationError:
                raise AlreadyThere(taken) from None
            await connection.execute(NOTIFY, CHANGED, values[0])

    async def remove(self, table: str, subject_id: str) -> None:
        """Remove a connection or endpoint with all that belongs to it."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await connection.execute(LOCK.format(table=table), subject_id)
            await connection.execute(REMOVE_ATTEMPTS[table], subject_id)
            await connection.execute(REMOVE.format(table=table), subject_id)
            await connection.execute(NOTIFY, CHANGED, subject_id)

        await self._database.transact(work)

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

    async def _page(
        self, table: str, after: tuple[str, str], most: int, *, customer: str | None, name: str | None
    ) -> "list[asyncpg.Record]":
        statement, more = (PAGE, ()) if name is None else (NAMED, (name,))
        async with self._database.session() as connection:
            return await connection.fetch(statement.format(table=table), *after, customer, most, *more)

    async def _counts(self, statement: str, subject_id: str) -> dict[str, int]:
        async with self._database.session() as connection:
            row = await connection.fetchrow(statement, subject_id)
        return dict(row or {})

    async def _change(self, statement: str, *values: object, resumed: str | None = None) -> None:
        """Run a statement whose first value is the id of what it changes."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            if resumed is not None:
                await add_connection_notice(
                    connection,
                    NoticeType.CONNECTION_RECONNECTED,
                    resumed,
                    leaving=ConnectionState.NEEDS_RECONNECT,
                )
            await connection.execute(statement, *values)
            await connection.execute(NOTIFY, CHANGED, values[0])

        await self._database.transact(work)
