"""Vitals: what one look at the database tells of the health of everything that stands on it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.store.database import Database, migrations

LOOK = """
    SELECT current_setting('server_version') AS version,
           clock_timestamp() AS now,
           pg_database_size(current_database()) AS bytes,
           (SELECT count(*) FROM workers WHERE seen_at > now() - $1::interval) AS workers,
           (SELECT min(created_at) FROM outbox WHERE state = 'pending') AS unpublished_since,
           (SELECT min(published_at) FROM outbox WHERE state = 'published') AS unadmitted_since,
           (SELECT min(created_at) FROM notices WHERE told_at IS NULL) AS untold_since,
           (SELECT min(sent_at) FROM commands WHERE state = 'sending') AS doubtful_since,
           (SELECT count(*) FROM commands WHERE outcome = 'unknown' AND done_at > now() - interval '7 days') AS unknown
"""
REVISION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the database says of itself, and since when something has waited (None: nothing does)."""

    version: str
    now: datetime
    bytes: int
    workers: int
    unpublished_since: datetime | None
    unadmitted_since: datetime | None
    untold_since: datetime | None
    doubtful_since: datetime | None
    """Since when the outcome of a command is open."""
    unknown: int
    """Commands of the last week of which nobody knows whether they were done."""


class VitalStore:
    """Looks that change nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> tuple[str | None, str]:
        """The revision of the tables, and the one that this version of relay works on. Raises Unavailable."""
        head = max(path.name for path in (migrations() / "versions").glob("0*.py"))[:4]
        async with self._database.session() as connection:
            return await connection.fetchval(REVISION), head

    async def look(self, alive_within: timedelta) -> Vitals:
        """What there is to see; a worker lives that was seen within this time. Raises Unavailable."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(LOOK, alive_within)
        assert row is not None
        return Vitals(**dict(row))
