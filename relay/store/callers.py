"""Who may call: operator keys, and the tokens of connections. Only digests are here."""

import hmac
from typing import Any

import asyncpg

from relay.domain.callers import Caller, CallerKind, Scope
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.paging import Key
from relay.domain.tokens import TokenKind, digest_of, kind_of
from relay.store.database import Database

OPERATOR = "SELECT id, name, scope, digest FROM operator_keys WHERE digest = $1 AND revoked_at IS NULL"
CONNECTION = "SELECT id, customer_id, name, token_digest AS digest FROM connections WHERE token_digest = $1"
ADD = "INSERT INTO operator_keys (id, name, scope, digest) VALUES ($1, $2, $3, $4)"
LIST = """
    SELECT id, name, scope, created_at, revoked_at FROM operator_keys
    WHERE $1::text IS NULL OR id > $1 ORDER BY id LIMIT $2
"""
FIND = """
    SELECT id, name, scope, created_at, revoked_at FROM operator_keys
    WHERE id = $1 OR (name = $1 AND revoked_at IS NULL) ORDER BY id = $1 DESC LIMIT 1
"""
REVOKE = """
    UPDATE operator_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1
    RETURNING id, name, scope, created_at, revoked_at
"""
SET_TOKEN = """
    UPDATE connections SET token_digest = $2
    WHERE id = $1 AND state IN ('active', 'paused') RETURNING id
"""  # noqa: S105 - a statement


class CallerStore:
    """Callers by their tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def caller(self, token: str) -> Caller | None:
        """Whose token this is; None: nobody's, or not any more."""
        match kind_of(token):
            case TokenKind.OPERATOR:
                statement = OPERATOR
            case TokenKind.CONNECTION:
                statement = CONNECTION
            case _:
                return None
        digest = digest_of(token)
        async with self._database.session() as connection:
            row = await connection.fetchrow(statement, digest)
        if row is None or not hmac.compare_digest(row["digest"], digest):
            return None
        if statement is OPERATOR:
            return Caller(CallerKind.OPERATOR, row["id"], row["name"], Scope(row["scope"]))
        name = f"{row['customer_id']}/{row['name']}"
        return Caller(CallerKind.CONNECTION, row["id"], name, Scope.WRITE, row["customer_id"], row["id"])

    async def add_operator(self, key_id: str, name: str, scope: Scope, digest: bytes) -> dict[str, Any]:
        """Store a new operator key. Raises AlreadyThere when a live one has that name."""
        async with self._database.session() as connection:
            try:
                await connection.execute(ADD, key_id, name, scope, digest)
            except asyncpg.UniqueViolationError:
                raise AlreadyThere(f"there is an operator key {name!r} already: choose another name") from None
        return await self.operator(key_id)

    async def operators(self, after: Key | None, most: int) -> list[dict[str, Any]]:
        """Operator keys by id, also revoked ones."""
        async with self._database.session() as connection:
            return [dict(row) for row in await connection.fetch(LIST, after[0] if after else None, most)]

    async def operator(self, name: str) -> dict[str, Any]:
        """An operator key by id, or a live one by name. Raises NotFound."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(FIND, name)
        if row is None:
            raise NotFound(f"there is no operator key {name!r}: see `relay operators list`")
        return dict(row)

    async def revoke_operator(self, name: str) -> dict[str, Any]:
        """The key is good for nothing from now on. Raises NotFound."""
        found = await self.operator(name)
        async with self._database.session() as connection:
            row = await connection.fetchrow(REVOKE, found["id"])
        assert row is not None
        return dict(row)

    async def set_token(self, connection_id: str, digest: bytes) -> None:
        """Put the digest of a connection's token in the place of the one before.

        Raises:
            UserError: The connection's credentials are not good, or it is gone.
        """
        async with self._database.session() as connection:
            if await connection.fetchval(SET_TOKEN, connection_id, digest) is None:
                raise UserError(
                    "a token is good for as long as the connection's credentials are: reconnect it, which gives a "
                    "new token"
                )
