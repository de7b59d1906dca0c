"""Commands as people see them: what was asked, where it stands, and what became of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.domain.errors import NotFound
from relay.store.database import Database
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg

COLUMNS = """
    k.id, k.position, k.connection_id, k.customer_id, k.command_id, k.type, k.remote_id, k.state, k.outcome, k.dry_run,
    k.source, k.caller, k.due_at, k.attempts, k.problem, k.expires_at, k.sent_at, k.created_at, k.done_at,
    c.name AS connection, c.state AS connection_state
"""
FOUND = " FROM commands AS k JOIN connections AS c ON c.id = k.connection_id "
WHOLE = f"SELECT {COLUMNS}, k.body, k.result {FOUND}"
ONE = WHOLE + "WHERE k.id = $1"
# By their sender's id, within one connection.
NAMED = WHOLE + "WHERE k.connection_id = $1 AND k.command_id = $2"
# Of the results only those that say why: the others may hold whole orders.
PAGE = f"""
    SELECT {COLUMNS}, CASE WHEN k.outcome IN ('rejected', 'expired', 'unknown') THEN k.result END AS result
    {FOUND} WHERE k.connection_id = $1 AND k.position < $2
      AND ($4::text IS NULL OR k.state = $4) AND ($5::text IS NULL OR coalesce(k.outcome, 'accepted') = $5)
    ORDER BY k.position DESC LIMIT $3
"""
OF_ORDER = PAGE.replace("k.connection_id = $1", "k.connection_id = $1 AND k.remote_id = $6")
# The newest of each connection, of which the newest: no index of all commands would help one connection's page.
OF_ALL = """
    SELECT k.* FROM connections, LATERAL (one) AS k WHERE $1::text IS NULL ORDER BY k.position DESC LIMIT $3
""".replace("one", PAGE.replace("$1", "connections.id"))
OVER = "SELECT id FROM commands WHERE id = ANY($1::text[]) AND state = 'done'"
NEWEST = 2**63 - 1
"""A position that no command reaches."""
MOST = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which commands are looked for: None: all. `state` is waiting, sending or done; `accepted` is not over."""

    state: str | None = None
    outcome: str | None = None
    remote_id: str | None = None


ALL = Wanted()


class CommandList:
    """Commands of all connections, as people see them. `position` in each row is where the next page begins."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def command(self, id: str, connection_id: str | None = None) -> Mapping[str, Any]:  # noqa: A002 - as in the ports
        """One by relay's own id, or by its sender's within `connection_id`. Raises NotFound."""
        async with self._database.session() as connection:
            row: asyncpg.Record | None = None
            if storable(id) == id:
                row = await connection.fetchrow(ONE, id)
                if row is None and connection_id is not None:
                    row = await connection.fetchrow(NAMED, connection_id, id)
        if row is None or connection_id not in {None, row["connection_id"]}:
            raise NotFound(f"there is no command {id!r}: see `relay commands list`, or it was forgotten")
        return dict(row)

    async def over(self, ids: Collection[str]) -> Mapping[str, int]:
        """1 for each of these that is over."""
        async with self._database.session() as connection:
            return {row["id"]: 1 for row in await connection.fetch(OVER, list(ids))}

    async def commands(
        self, connection_id: str | None, wanted: Wanted = ALL, *, before: int = NEWEST, most: int = MOST
    ) -> list[Mapping[str, Any]]:
        """The latest, newest first, those at positions less than `before`; None: of all connections.

        An order is looked for within one connection only.
        """
        narrow = (wanted.state, wanted.outcome)
        async with self._database.session() as connection:
            if wanted.remote_id is None:
                page = OF_ALL if connection_id is None else PAGE
                rows = await connection.fetch(page, connection_id, before, most, *narrow)
            elif storable(wanted.remote_id) != wanted.remote_id:
                rows = []
            else:
                rows = await connection.fetch(OF_ORDER, connection_id, before, most, *narrow, wanted.remote_id)
        return [dict(row) for row in rows]
