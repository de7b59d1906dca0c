"""Redrives as they are written down: before the messages go, so that admission knows them when they come."""

from collections.abc import Collection, Sequence

from relay.domain.redrives import Redrive
from relay.store.database import Database

SAVE = """
    INSERT INTO redrives (id, digest, expires_at) SELECT * FROM unnest($1::text[], $2::bytea[], $3::timestamptz[])
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, created_at = now()
"""
KNOWN = "SELECT id, digest, expires_at FROM redrives WHERE id = ANY($1::text[])"


class RedriveStore:
    """Redrives, until they are forgotten with the commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, redrives: Sequence[Redrive]) -> None:
        """Write them down."""
        columns = ([each.id for each in redrives], [each.digest for each in redrives])
        async with self._database.session() as connection:
            await connection.execute(SAVE, *columns, [each.expires_at for each in redrives])

    async def known(self, ids: Collection[str]) -> dict[str, Redrive]:
        """Those of these that there are."""
        async with self._database.session() as connection:
            return {row["id"]: Redrive(**dict(row)) for row in await connection.fetch(KNOWN, list(ids))}
