"""Command keys: the public key that commands from Kafka for a connection must be signed with, if they must be."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import ConnectionPath, Core, of_operators
from relay.control.command_keys import CommandKeys, CommandKeyView
from relay.domain.callers import Scope


class CommandKeyWanted(BaseModel):
    """A key to put in the place of the one before."""

    model_config = ConfigDict(extra="forbid")

    public_key: str = Field(max_length=200, description="`whpk_...`: ed25519, as webhooks are verified with.")


def command_keys_router(core: Core) -> APIRouter:
    """A connection's command key."""
    router = core.router("/v1/connections/{connection_id}/command-key", "commands")

    def keys() -> CommandKeys:
        return CommandKeys(core.control.registry)

    @router.get("", summary="Whose signature commands from Kafka need", **of_operators(Scope.READ))
    async def show_command_key(connection_id: ConnectionPath) -> CommandKeyView:
        return await keys().show(connection_id)

    @router.put("", summary="Take commands from Kafka that this key signed", **of_operators(Scope.WRITE))
    async def set_command_key(connection_id: ConnectionPath, wanted: CommandKeyWanted) -> CommandKeyView:
        return await keys().set(connection_id, wanted.public_key)

    @router.delete("", summary="No signature is good any more", **of_operators(Scope.WRITE))
    async def clear_command_key(connection_id: ConnectionPath) -> CommandKeyView:
        return await keys().set(connection_id, None)

    return router
