"""Command keys: the public key with which commands from Kafka for one connection must be signed."""

from relay.domain.errors import NotFound
from relay.store.database import Database

GET = "SELECT command_key FROM connections WHERE id = $1"
SET = "UPDATE connections SET command_key = $2 WHERE id = $1 RETURNING id"


class CommandKeyStore:
    """Where they are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def key(self, connection_id: str) -> str | None:
        """The key of a connection; None also when there is no such connection."""
        async with self._database.session() as connection:
            found: str | None = await connection.fetchval(GET, connection_id)
        return found

    async def set_key(self, connection_id: str, key: str | None) -> None:
        """Put this key in the place of the one before; None: none is good any more. Raises NotFound."""
        async with self._database.session() as connection:
            if await connection.fetchval(SET, connection_id, key) is None:
                raise NotFound(f"there is no connection {connection_id!r}: see `relay connections list`")
