"""Commands, as `relay.control` has them, over HTTP."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from relay.client.calls import Calls, segment
from relay.control.command_keys import CommandKeyView
from relay.control.commands import CommandView
from relay.domain.errors import NotFound, UserError
from relay.domain.results import Outcome

ID = "cmd_"
"""How relay's own ids begin."""


class CommandCalls(Calls):
    """What people do with commands. A connection is named by its id, its name, or customer/name."""

    async def send_command(self, command: Mapping[str, Any], *, wait: timedelta = timedelta(0)) -> CommandView:
        """Have it done; what is known of it when it is over, or after `wait` (at most 60 s).

        Its `connection_id` is an id here. The same one again is the same command.
        """
        query = {"wait": f"{int(wait.total_seconds())}s"}
        # Without an idempotency key: the command has an id of its own.
        return await self._call(CommandView, "POST", "/v1/commands", body=command, query=query)

    async def command_key(self, connection: str) -> CommandKeyView:
        """Whose signature commands from Kafka need."""
        return await self._get(CommandKeyView, await self._command_key(connection))

    async def set_command_key(self, connection: str, public_key: str) -> CommandKeyView:
        """Take commands from Kafka that this key signed; the one before it is good no more."""
        return await self._put(CommandKeyView, await self._command_key(connection), {"public_key": public_key})

    async def clear_command_key(self, connection: str) -> CommandKeyView:
        """No signature is good any more."""
        return await self._delete(CommandKeyView, await self._command_key(connection))

    async def _command_key(self, connection: str) -> str:
        return f"/v1/connections/{await self._id('connection', connection)}/command-key"

    async def connection_id(self, name: str) -> str:
        """The id of a connection by its id, its name, or customer/name."""
        return await self._id("connection", name)

    async def commands(
        self,
        connection: str | None = None,
        *,
        most: int = 50,
        state: str | None = None,
        outcome: Outcome | None = None,
        remote_id: str | None = None,
    ) -> list[CommandView]:
        """The latest commands, newest first; None: of all connections."""
        of = None if connection is None else await self._id("connection", connection)
        narrow = {"state": state, "outcome": outcome, "remote_id": remote_id}
        return await self._list(CommandView, "/v1/commands", most, connection=of, **narrow)

    async def command(self, name: str, connection: str | None = None) -> CommandView:
        """One command by relay's own id, or by its sender's together with the connection."""
        if connection is None:
            if not name.startswith(ID):
                raise UserError(f"{name!r} is a sender's id: say which connection, too (--connection)")
            return await self._get(CommandView, f"/v1/commands/{segment(name)}")
        of = await self._id("connection", connection)
        found = await self._list(CommandView, "/v1/commands", connection=of, command_id=name)
        if not found:
            raise NotFound(f"{connection} has no command {name!r}: see `relay commands list`, or it was forgotten")
        return found[0]
