"""Commands: what was asked of ERPs, where each stands, and what became of it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from relay.api.core import CallNow, Core, needs
from relay.api.lists import After, Limit, Listed, listed
from relay.api.reading import Reading
from relay.control.commands import Commands, CommandView, key_of
from relay.domain.callers import Caller, Scope
from relay.domain.errors import NotFound
from relay.domain.paging import page_key
from relay.domain.results import Outcome
from relay.store.command_list import NEWEST, CommandList, Wanted

CommandPath = Annotated[
    str, Path(pattern="^cmd_[0-9a-f]{32}$", description="relay's own id of the command, `cmd_...`.")
]
State = Literal["waiting", "sending", "done"]


def commands_router(core: Core) -> APIRouter:
    """Commands of all connections; a connection's token sees its own."""
    router, reading = core.router("/v1/commands", "commands"), Reading()
    commands = Commands(CommandList(core.database))

    async def named(connection_id: str | None, command_id: str) -> list[CommandView]:
        try:
            return [await commands.command(key_of(connection_id, command_id), connection_id)]
        except NotFound:
            return []

    @router.get("", summary="Commands, the latest first", **needs(Scope.READ, narrowed=True))
    async def list_commands(  # noqa: PLR0913 - one per filter
        *,
        call: CallNow,
        limit: Limit = 50,
        after: After = None,
        connection: Annotated[
            str | None, Query(max_length=80, description="Only of this one, by its id; a connection's token: its own.")
        ] = None,
        state: Annotated[State | None, Query(description="Only those in this state.")] = None,
        outcome: Annotated[Outcome | None, Query(description="Only those that came to this.")] = None,
        remote_id: Annotated[
            str | None, Query(max_length=200, description="Only of the order of this remote id; with `connection`.")
        ] = None,
        command_id: Annotated[
            str | None, Query(max_length=100, description="Only the one of this sender's id; with `connection`.")
        ] = None,
    ) -> Listed[CommandView]:
        of = _own(call.caller, connection)
        key = page_key("commands", after, int)
        wanted = Wanted(state, outcome, remote_id)
        async with reading.turn():
            if command_id is not None:
                found = await named(of, command_id)
            else:
                before = NEWEST if key is None else int(key[0])
                found = await commands.commands(of, wanted, before=before, most=limit + 1)
        return listed("commands", found, limit, view=lambda each: each, key=lambda each: (each.position,))

    @router.get("/{id}", summary="One command, with its content and its result", **needs(Scope.READ, narrowed=True))
    async def show_command(id: CommandPath, call: CallNow) -> CommandView:  # noqa: A002 - as it is called everywhere
        async with reading.turn():
            return await commands.command(id, call.caller.connection_id)

    return router


def _own(caller: Caller, connection: str | None) -> str | None:
    if caller.connection_id is not None and connection not in {None, caller.connection_id}:
        raise NotFound("there is no such connection for this token: it is its own connection's only")
    return caller.connection_id or connection
