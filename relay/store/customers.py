"""Customers as people keep them."""

from typing import Any

import asyncpg

from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.store.database import Database

SEEN = """
    SELECT c.id, c.created_at,
           (SELECT count(*) FROM connections WHERE customer_id = c.id) AS connections,
           (SELECT count(*) FROM endpoints WHERE customer_id = c.id) AS endpoints
    FROM customers AS c
"""
LIST = f"{SEEN} WHERE c.id > $1 ORDER BY c.id LIMIT $2"
ONE = f"{SEEN} WHERE c.id = $1"
ADD = "INSERT INTO customers (id) VALUES ($1)"
REMOVE = "DELETE FROM customers WHERE id = $1 RETURNING id"


class CustomerStore:
    """Customers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def customers(self, after: str, most: int) -> list[dict[str, Any]]:
        """Up to `most` customers after one, by id."""
        async with self._database.session() as connection:
            return [dict(row) for row in await connection.fetch(LIST, after, most)]

    async def customer(self, customer_id: str) -> dict[str, Any]:
        """One customer. Raises NotFound."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(ONE, customer_id)
        if row is None:
            raise NotFound(f"there is no customer {customer_id!r}")
        return dict(row)

    async def add(self, customer_id: str) -> None:
        """Add a customer. Raises AlreadyThere."""
        async with self._database.session() as connection:
            try:
                await connection.execute(ADD, customer_id)
            except asyncpg.UniqueViolationError:
                raise AlreadyThere(f"there is a customer {customer_id!r} already") from None

    async def remove(self, customer_id: str) -> None:
        """Remove a customer that has nothing left. Raises NotFound, UserError."""
        async with self._database.session() as connection:
            try:
                removed = await connection.fetchval(REMOVE, customer_id)
            except asyncpg.ForeignKeyViolationError:
                raise UserError(f"{customer_id} still has connections or endpoints: remove them first") from None
        if removed is None:
            raise NotFound(f"there is no customer {customer_id!r}")
