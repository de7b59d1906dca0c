"""Idempotency: requests that carry a key, and the sealed answers of those that were done.

free --begin--> begun --finish--> done --a day--> free
                  |---abandon---> free
                  `---five minutes (its process died)---> free
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from relay.store.database import Database

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

KEPT = timedelta(days=1)
"""How long an answer is given again."""
GIVEN_UP = timedelta(minutes=5)
"""After this a request that has not ended never will: longer than any takes."""
BITE = 1000
"""Keys forgotten per transaction."""

BEGIN = """
    INSERT INTO idempotency AS known (digest, fingerprint) VALUES ($1, $2)
    ON CONFLICT (digest) DO UPDATE SET fingerprint = $2, begun_at = clock_timestamp(), answer = NULL
    WHERE known.begun_at < now() - CASE WHEN known.answer IS NULL THEN $3::interval ELSE $4::interval END
    RETURNING begun_at
"""
KNOWN = "SELECT fingerprint, answer FROM idempotency WHERE digest = $1"
FINISH = "UPDATE idempotency SET answer = $3 WHERE digest = $1 AND begun_at = $2"
ABANDON = "DELETE FROM idempotency WHERE digest = $1 AND begun_at = $2 AND answer IS NULL"
FORGET = """
    DELETE FROM idempotency WHERE digest IN (
        SELECT digest FROM idempotency WHERE begun_at < now() - $1::interval ORDER BY begun_at LIMIT $2
        FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is the first with its key."""

    digest: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """A request with this key came before; without an answer it is still under way."""

    fingerprint: bytes
    answer: bytes | None


class IdempotencyStore:
    """Keys by their digests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, digest: bytes, fingerprint: bytes) -> Begun | Known:
        """Begin a request, unless one with this key has begun."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> Begun | Known | None:
            at = await connection.fetchval(BEGIN, digest, fingerprint, GIVEN_UP, KEPT)
            if at is not None:
                return Begun(digest, at)
            row = await connection.fetchrow(KNOWN, digest)
            return None if row is None else Known(row["fingerprint"], row["answer"])

        found = None
        while found is None:  # it may be forgotten or abandoned between the two looks
            found = await self._database.transact(work)
        return found

    async def finish(self, begun: Begun, answer: bytes) -> None:
        """Keep the answer."""
        async with self._database.session() as connection:
            await connection.execute(FINISH, begun.digest, begun.at, answer)

    async def abandon(self, begun: Begun) -> None:
        """The request changed nothing: its key is free again."""
        async with self._database.session() as connection:
            await connection.execute(ABANDON, begun.digest, begun.at)

    async def forget(self) -> int:
        """Forget one bite of old keys; how many."""
        async with self._database.session() as connection:
            done: str = await connection.execute(FORGET, KEPT, BITE)
        return int(done.rpartition(" ")[2])
