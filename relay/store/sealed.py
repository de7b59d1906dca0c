"""What is sealed in the database, and where: each value with the version of its customer's data key that it names.

Whoever adds a sealed column adds it here, and beside it the generated column `<value>_key` that refers to the key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.store.database import Database

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

COLUMNS = {
    "credentials": ("connections", "sealed"),
    "signing-secret": ("endpoints", "sealed"),
    "access": ("endpoints", "access"),
}
"""Table and column by purpose. An empty value is none."""
VALUE = "SELECT {value} FROM {table} WHERE id = $1"
PAGE = """
    SELECT id, customer_id, {value} AS sealed FROM {table} WHERE id > $1 AND {value} <> '' ORDER BY id LIMIT $2
"""
# Found before they are ordered: in the order of ids, each row would be compared with each of the customers.
STALE = """
    WITH stale AS MATERIALIZED (
        SELECT v.id, v.customer_id, v.{value} AS sealed
        FROM unnest($1::text[], $2::integer[]) AS k (customer_id, version)
        JOIN {table} AS v ON v.customer_id = k.customer_id AND v.{value}_key < k.version
        WHERE v.id > $3
    )
    SELECT * FROM stale ORDER BY id LIMIT $4
"""
# The version of the row stays: its content is what it was, and its runner goes on.
EXCHANGE = """
    UPDATE {table} AS v SET {value} = n.after
    FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
    WHERE v.id = n.id AND v.{value} = n.before RETURNING v.id
"""


@dataclass(frozen=True, slots=True)
class SealedValue:
    """One of them, in its place."""

    purpose: str
    customer_id: str
    subject: str
    sealed: bytes = field(repr=False)


class SealedValues:
    """All sealed values of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def value(self, purpose: str, subject: str) -> bytes | None:
        """What is sealed in this place now."""
        async with self._database.session() as connection:
            found: bytes | None = await connection.fetchval(_said(VALUE, purpose), subject)
        return found

    async def page(self, purpose: str, after: str, most: int) -> list[SealedValue]:
        """The next ones of this purpose, by subject."""
        async with self._database.session() as connection:
            rows = await connection.fetch(_said(PAGE, purpose), after, most)
        return [_value(purpose, row) for row in rows]

    async def stale(self, purpose: str, newest: Mapping[str, int], after: str, most: int) -> list[SealedValue]:
        """The next ones of these customers that are sealed with a key older than the newest."""
        async with self._database.session() as connection:
            rows = await connection.fetch(_said(STALE, purpose), list(newest), list(newest.values()), after, most)
        return [_value(purpose, row) for row in rows]

    async def exchange(self, before: Sequence[SealedValue], after: Sequence[bytes]) -> int:
        """Put the same secrets, sealed anew, in the place of these of one purpose; how many nobody had changed."""
        if not before:
            return 0
        statement = _said(EXCHANGE, before[0].purpose)
        ids, values = [each.subject for each in before], [each.sealed for each in before]

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> int:
            return len(await connection.fetch(statement, ids, values, list(after)))

        return await self._database.transact(work)


def _said(statement: str, purpose: str) -> str:
    table, value = COLUMNS[purpose]
    return statement.format(table=table, value=value)


def _value(purpose: str, row: "asyncpg.Record") -> SealedValue:
    return SealedValue(purpose, row["customer_id"], row["id"], row["sealed"])
