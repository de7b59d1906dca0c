"""Customers' data keys as they are stored: wrapped, in versions.

The newest version seals; older ones stay as long as something is sealed with them. PostgreSQL itself sees to that: each
sealed value's column has another one beside it, made from its first bytes, that refers to its customer's key.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg

from relay.domain.keys import CustomerKey
from relay.store.database import Database
from relay.store.sealed import COLUMNS, SealedValues

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

NEWEST = """
    SELECT customer_id, version, wrapped FROM customer_keys WHERE customer_id = $1 ORDER BY version DESC LIMIT 1
"""
KEY = "SELECT customer_id, version, wrapped FROM customer_keys WHERE customer_id = $1 AND version = $2"
KEYS_OF = "SELECT customer_id, version, wrapped FROM customer_keys WHERE customer_id = ANY($1) ORDER BY 1, 2"
PAGE = """
    SELECT customer_id, version, wrapped FROM customer_keys WHERE (customer_id, version) > ($1, $2)
    ORDER BY 1, 2 LIMIT $3
"""
COUNT = "SELECT count(DISTINCT customer_id) AS customers, count(*) AS keys FROM customer_keys"
ADD_CUSTOMER = "INSERT INTO customers (id) VALUES ($1) ON CONFLICT (id) DO NOTHING"
ADD_KEY = "INSERT INTO customer_keys (customer_id, version, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
ADD_KEYS = """
    INSERT INTO customer_keys (customer_id, version, wrapped)
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[]) ON CONFLICT DO NOTHING
"""
REWRAP = """
    UPDATE customer_keys AS k SET wrapped = n.after
    FROM unnest($1::text[], $2::integer[], $3::bytea[], $4::bytea[]) AS n (customer_id, version, before, after)
    WHERE k.customer_id = n.customer_id AND k.version = n.version AND k.wrapped = n.before RETURNING k.customer_id
"""
UNUSED = " AND ".join(
    f"NOT EXISTS (SELECT FROM {table} AS v WHERE v.customer_id = k.customer_id AND v.{value}_key = k.version)"
    for table, value in COLUMNS.values()
)
RETIRE = f"""
    DELETE FROM customer_keys AS k
    WHERE customer_id = ANY($1) AND {UNUSED}
      AND EXISTS (SELECT FROM customer_keys AS n WHERE n.customer_id = k.customer_id AND n.version > k.version)
"""  # noqa: S608 - names of our own
OLDER = """
    SELECT DISTINCT k.customer_id FROM customer_keys AS k
    JOIN customer_keys AS n ON n.customer_id = k.customer_id AND n.version > k.version
    WHERE $1::text[] IS NULL OR k.customer_id = ANY($1) ORDER BY 1
"""
DUE = """
    SELECT customer_id, max(version) AS version, max(created_at) < $1 AS old FROM customer_keys
    WHERE customer_id > $2 GROUP BY 1 HAVING max(created_at) < $1 OR count(*) > 1 ORDER BY 1 LIMIT $3
"""
DONE = """
    SELECT count(*) FROM (
        SELECT FROM customer_keys GROUP BY customer_id HAVING max(created_at) >= $1 AND count(*) = 1
    ) AS done
"""
UNDER_WAY = "SELECT started_at FROM key_rotations WHERE finished_at IS NULL ORDER BY started_at LIMIT 1"
BEGIN = "INSERT INTO key_rotations DEFAULT VALUES RETURNING started_at"
FINISH = "UPDATE key_rotations SET finished_at = clock_timestamp() WHERE started_at <= $1 AND finished_at IS NULL"


@dataclass(frozen=True, slots=True)
class DueCustomer:
    """A customer that a rotation still has to do something for."""

    customer_id: str
    newest: int
    wants_new: bool
    """Otherwise it has its new key, and something is still sealed with an older one."""


class KeyStore:
    """The data keys of all customers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sealed = SealedValues(database)

    async def newest(self, customer_id: str) -> CustomerKey | None:
        """The one to seal with; None when there is no such customer, or it has none yet."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(NEWEST, customer_id)
        return None if row is None else _key(row)

    async def key(self, customer_id: str, version: int) -> CustomerKey | None:
        """The one of this version."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(KEY, customer_id, version)
        return None if row is None else _key(row)

    async def begin(self, key: CustomerKey) -> CustomerKey:
        """Store a customer's first key, with the customer; the newest, which may be another's who was faster."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> CustomerKey:
            await connection.execute(ADD_CUSTOMER, key.customer_id)
            await connection.execute(ADD_KEY, key.customer_id, key.version, key.wrapped)
            row = await connection.fetchrow(NEWEST, key.customer_id)
            assert row is not None
            return _key(row)

        return await self._database.transact(work)

    async def value(self, purpose: str, subject: str) -> bytes | None:
        """What is sealed in this place now."""
        return await self.sealed.value(purpose, subject)

    async def count(self) -> tuple[int, int]:
        """How many customers have keys, and how many those are."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(COUNT)
        assert row is not None
        return row["customers"], row["keys"]

    async def page(self, after: CustomerKey | None, most: int) -> list[CustomerKey]:
        """The next keys, by customer and version."""
        behind = (after.customer_id, after.version) if after else ("", 0)
        async with self._database.session() as connection:
            return list(map(_key, await connection.fetch(PAGE, *behind, most)))

    async def of(self, customers: Sequence[str]) -> list[CustomerKey]:
        """All keys of these customers, by customer and version."""
        async with self._database.session() as connection:
            return list(map(_key, await connection.fetch(KEYS_OF, list(customers))))

    async def add(self, keys: Sequence[CustomerKey]) -> None:
        """New versions of keys; those that somebody else added meanwhile stay."""
        async with self._database.session() as connection:
            await connection.execute(ADD_KEYS, *_columns(keys), [key.wrapped for key in keys])

    async def rewrap(self, before: Sequence[CustomerKey], after: Sequence[CustomerKey]) -> int:
        """Put the same keys, wrapped anew, in the place of these; how many nobody had changed meanwhile."""
        wrapped = ([key.wrapped for key in keys] for keys in (before, after))
        async with self._database.session() as connection:
            return len(await connection.fetch(REWRAP, *_columns(before), *wrapped))

    async def retire(self, customers: Sequence[str]) -> list[str]:
        """Remove what nothing is sealed with and has a newer one; which of these customers still have older ones."""
        async with self._database.session() as connection:
            # Refused when somebody seals something in this moment: whoever looks again finds it.
            with suppress(asyncpg.ForeignKeyViolationError):
                await connection.execute(RETIRE, list(customers))
            return [row["customer_id"] for row in await connection.fetch(OLDER, list(customers))]

    async def in_exchange(self) -> list[str]:
        """The customers that have more than one key."""
        async with self._database.session() as connection:
            return [row["customer_id"] for row in await connection.fetch(OLDER, None)]

    async def under_way(self) -> datetime | None:
        """When the rotation of all data keys began that has not ended."""
        async with self._database.session() as connection:
            found: datetime | None = await connection.fetchval(UNDER_WAY)
        return found

    async def begin_rotation(self) -> datetime:
        """Begin to rotate all data keys."""
        async with self._database.session() as connection:
            began: datetime = await connection.fetchval(BEGIN)
        return began

    async def finish_rotation(self, began: datetime) -> None:
        """It has ended, and so have those before it."""
        async with self._database.session() as connection:
            await connection.execute(FINISH, began)

    async def due(self, began: datetime, after: str, most: int) -> list[DueCustomer]:
        """The next customers whose newest key is older than this, or that have an older one beside it."""
        async with self._database.session() as connection:
            rows = await connection.fetch(DUE, began, after, most)
        return [DueCustomer(row["customer_id"], row["version"], row["old"]) for row in rows]

    async def done(self, began: datetime) -> int:
        """How many customers have a key from after this, and no other."""
        async with self._database.session() as connection:
            return int(await connection.fetchval(DONE, began))


def _key(row: "asyncpg.Record") -> CustomerKey:
    return CustomerKey(row["customer_id"], row["version"], row["wrapped"])


def _columns(keys: Sequence[CustomerKey]) -> tuple[list[str], list[int]]:
    return [key.customer_id for key in keys], [key.version for key in keys]
