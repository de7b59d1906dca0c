"""docs/openapi.json: the HTTP API for machines, as a running relay serves it."""

from typing import TYPE_CHECKING, Any, cast

from relay.api.app import application
from relay.store.log import LogStore

if TYPE_CHECKING:
    from relay.store.database import Database


def openapi() -> dict[str, Any]:
    """The API as OpenAPI 3.1."""
    # Only described here: nobody asks the database.
    return application({}, LogStore(cast("Database", None))).openapi()
