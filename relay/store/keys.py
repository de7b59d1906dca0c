"""Customers' data keys as they are stored, wrapped, and what is sealed with each of their versions.

The newest version seals; older ones stay as long as something is sealed with them. PostgreSQL itself sees to that: each
sealed value's column has another one beside it, made from its first bytes, that refers to its customer's key.
"""

from typing import TYPE_CHECKING

from relay.domain.keys import CustomerKey
from relay.store.database import Database

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

NEWEST = """
    SELECT customer_id, version, wrapped FROM customer_keys WHERE customer_id = $1 ORDER BY version DESC LIMIT 1
"""
KEY = "SELECT customer_id, version, wrapped FROM customer_keys WHERE customer_id = $1 AND version = $2"
ADD_CUSTOMER = "INSERT INTO customers (id) VALUES ($1) ON CONFLICT (id) DO NOTHING"
ADD_KEY = "INSERT INTO customer_keys (customer_id, version, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
VALUE = {
    "credentials": "SELECT sealed FROM connections WHERE id = $1",
    "signing-secret": "SELECT sealed FROM endpoints WHERE id = $1",
    "access": "SELECT access FROM endpoints WHERE id = $1",
}


class KeyStore:
    """The data keys of all customers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, customer_id: str) -> CustomerKey | None:
        """The one to seal with; None when there is no such customer, or it has none yet."""
        async with self._database.session() as connection:
            return _key(await connection.fetchrow(NEWEST, customer_id))

    async def key(self, customer_id: str, version: int) -> CustomerKey | None:
        """The one of this version."""
        async with self._database.session() as connection:
            return _key(await connection.fetchrow(KEY, customer_id, version))

    async def begin(self, key: CustomerKey) -> CustomerKey:
        """Store a customer's first key, with the customer; the newest, which may be another's who was faster."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> CustomerKey:
            await connection.execute(ADD_CUSTOMER, key.customer_id)
            await connection.execute(ADD_KEY, key.customer_id, key.version, key.wrapped)
            found = _key(await connection.fetchrow(NEWEST, key.customer_id))
            assert found is not None
            return found

        return await self._database.transact(work)

    async def value(self, purpose: str, subject: str) -> bytes | None:
        """What is sealed in this place now."""
        async with self._database.session() as connection:
            found: bytes | None = await connection.fetchval(VALUE[purpose], subject)
        return found


def _key(row: "asyncpg.Record | None") -> CustomerKey | None:
    return None if row is None else CustomerKey(row["customer_id"], row["version"], row["wrapped"])
