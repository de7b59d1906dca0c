"""Versions of connections' mappings: added, never changed, and what runners need of the former ones."""

from typing import TYPE_CHECKING, Any

from relay.domain.connections import Lease
from relay.domain.errors import AlreadyThere
from relay.domain.mapping import MappingOverrides, MappingVersion, Retold
from relay.domain.syncs import Announce, SyncKind
from relay.store.database import Database, guard
from relay.store.named import NOTIFY
from relay.store.syncs import add_sync

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

LOCK = "SELECT mapping_version FROM connections WHERE id = $1 FOR NO KEY UPDATE"
# Codes that were not mapped may be now: what is still to be noticed is noticed again.
CHANGE = """
    UPDATE connections SET mapping = $2, mapping_version = $3, mapping_retold = $4, notices = '{}',
        version = version + 1
    WHERE id = $1
"""
ADD = """
    INSERT INTO mapping_versions (connection_id, number, overrides, retold, reverts_to, made_by)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
VERSIONS = """
    SELECT number, overrides, retold, reverts_to, made_by, made_at FROM mapping_versions
    WHERE connection_id = $1 ORDER BY number DESC
"""
# Of every version that some order is still known under, and of those after it.
SINCE = """
    SELECT number, overrides, retold FROM mapping_versions
    WHERE connection_id = $1 AND number >= (SELECT min(mapping_version) FROM snapshots WHERE connection_id = $1)
"""
OLDEST = "SELECT min(mapping_version) FROM snapshots WHERE connection_id = $1"
# Under another id, so that no page of the old one is kept any more.
BEGIN_ANEW = """
    UPDATE syncs SET state = 'cancelled', ended_at = now(), problem = 'the mapping changed: it begins anew'
    WHERE connection_id = $1 AND kind = 'first' AND ended_at IS NULL RETURNING announce, begin_on
"""
RULES = "UPDATE connections SET rules = $2 WHERE id = $1"


class MappingStore:
    """Versions of mappings, as people add them and as a connection's runner goes by them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_version(  # noqa: PLR0913 - what a version is, and how it is read again
        self, connection_id: str, version: MappingVersion, *, base: int, sync_id: str, by: str, reverts_to: int | None
    ) -> None:
        """Put a new version in the place of number `base`; all orders are read again with it.

        Raises:
            AlreadyThere: Somebody else put another one there meanwhile; nothing was stored.
        """
        overrides = version.overrides.told()

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            if await connection.fetchval(LOCK, connection_id) != base:
                raise AlreadyThere("somebody else changed the mapping at the same time: look at it, then try again")
            await connection.execute(CHANGE, connection_id, overrides, version.number, version.retold)
            await connection.execute(ADD, connection_id, version.number, overrides, version.retold, reverts_to, by)
            await _read_again(connection, connection_id, sync_id)
            await connection.execute(NOTIFY, "relay_leases", connection_id)

        await self._database.transact(work)

    async def versions(self, connection_id: str) -> list[dict[str, Any]]:
        """All versions, newest first."""
        async with self._database.session() as connection:
            return [dict(row) for row in await connection.fetch(VERSIONS, connection_id)]

    async def former_mappings(self, connection_id: str) -> dict[int, MappingVersion]:
        """The versions that some order is still known under, and those after them, by number."""
        async with self._database.session() as connection:
            rows = await connection.fetch(SINCE, connection_id)
            oldest = await connection.fetchval(OLDEST, connection_id)
        found = {row["number"]: _version(row) for row in rows}
        return {0: MappingVersion(), **found} if oldest == 0 else found

    async def begin_rules(self, lease: Lease, rules: int, sync_id: str) -> None:
        """All orders are read again with this version of the connector's own rules. Raises LeaseLost."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
            await guard(connection, "connections", lease)
            await connection.execute(RULES, lease.subject, rules)
            await _read_again(connection, lease.subject, sync_id)

        await self._database.transact(work)


async def _read_again(connection: "PoolConnectionProxy[asyncpg.Record]", connection_id: str, sync_id: str) -> None:
    """A sync for the mapping; a first sync that has not ended begins anew instead, under another id."""
    kind, announce, begin = SyncKind.MAPPING, Announce.CHANGES, None
    if first := await connection.fetchrow(BEGIN_ANEW, connection_id):
        kind, announce, begin = SyncKind.FIRST, Announce(first["announce"]), first["begin_on"]
    await add_sync(connection, sync_id, connection_id, kind, announce, begin)


def _version(row: "asyncpg.Record") -> MappingVersion:
    known = {part: names for part, names in row["overrides"].items() if part in MappingOverrides.model_fields}
    return MappingVersion(row["number"], MappingOverrides.model_validate(known), Retold(row["retold"]))
