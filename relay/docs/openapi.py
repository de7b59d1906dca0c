"""docs/openapi.json: the HTTP API for machines, as a running relay serves it; and the table of its paths."""

from typing import TYPE_CHECKING, Any, cast

from relay.api.app import application
from relay.api.core import Core
from relay.store.log import LogStore

if TYPE_CHECKING:
    from relay.control import Control
    from relay.store.database import Database


def openapi() -> dict[str, Any]:
    """The API as OpenAPI 3.1."""
    # Only described here: nobody asks the database.
    database = cast("Database", None)
    return application({}, LogStore(database), Core(cast("Control", None), database)).openapi()


def control_part() -> str:
    """Every call of the control API: its scope, and whether a connection's token may make it."""
    rows = [
        f"| `{method.upper()} {path}` | `{call['operationId']}` | {call['x-relay-scope']} | "
        f"{'yes' if call['x-relay-connection-token'] else ''} | {call['summary']} |"
        for path, calls in openapi()["paths"].items()
        for method, call in calls.items()
        if "x-relay-scope" in call
    ]
    head = "| call | operation | scope | connection token | what it does |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"
