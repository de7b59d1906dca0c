"""Commands: what was asked of ERPs, where each stands, and what became of it.

    POST /v1/commands?wait=30s   a row first -> 202: it will be done, or 200: it is over, with its result

The same command again is the same row, so a call whose answer was lost may simply be made once more.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from relay.api.arrivals import Arrivals
from relay.api.core import CallNow, Core, needs
from relay.api.lists import After, Limit, Listed, listed
from relay.api.problems import problem
from relay.api.pull import wait_seconds
from relay.api.reading import Reading
from relay.control.commands import Commands, CommandView, key_of
from relay.domain.callers import Caller, Scope
from relay.domain.command_schemas import any_command_schema
from relay.domain.errors import NotFound
from relay.domain.paging import page_key
from relay.domain.results import Outcome
from relay.stages.admit_command import CommandAdmission
from relay.store.command_admission import CommandIntake
from relay.store.command_list import NEWEST, CommandList, Wanted

CommandPath = Annotated[
    str, Path(pattern="^cmd_[0-9a-f]{32}$", description="relay's own id of the command, `cmd_...`.")
]
State = Literal["waiting", "sending", "done"]
LONGEST_WAIT: Final = 60
Wait = Annotated[str, Query(description=f"Wait for its result this long: up to `{LONGEST_WAIT}s`.")]

_COMPONENT: Final = "#/components/schemas/command.{model}"
_ASKED: Final = {
    key: value for key, value in any_command_schema(_COMPONENT).items() if key not in {"$defs", "description"}
}


def command_components() -> dict[str, Any]:
    """The parts of commands, for the description of the API."""
    parts = any_command_schema(_COMPONENT)["$defs"]
    return {f"command.{name}": schema for name, schema in parts.items()}


def commands_router(core: Core) -> APIRouter:
    """Commands of all connections; a connection's token sees its own."""
    router, reading = core.router("/v1/commands", "commands"), Reading()
    kept = CommandList(core.database)
    commands, arrivals = Commands(kept), Arrivals(kept.over)
    admission = CommandAdmission(CommandIntake(core.database), core.commands, _now)

    async def named(connection_id: str | None, command_id: str) -> list[CommandView]:
        try:
            return [await commands.command(key_of(connection_id, command_id), connection_id)]
        except NotFound:
            return []

    @router.post(
        "",
        summary="Have something done to a purchase order in its ERP",
        status_code=HTTPStatus.ACCEPTED,
        response_model=CommandView,
        response_description="It is kept and will be done",
        responses={200: {"model": CommandView, "description": "It is over"}},
        **_sending(),
    )
    async def send_command(request: Request, response: Response, call: CallNow, wait: Wait = "0s") -> Any:
        seconds, body = wait_seconds(wait, LONGEST_WAIT), await request.body()
        if len(body) > core.commands.largest:
            detail = f"the command has {len(body)} bytes: {core.commands.largest} are taken"
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, code="too_large")
        caller = call.caller
        id_ = await admission.admit_one(body, caller.name, connection_id=caller.connection_id)
        if seconds:
            await arrivals.beyond(id_, 0, seconds)
        async with reading.turn():
            found = await commands.command(id_)
        call.about(id_, found.customer)
        if found.done_at:
            response.status_code = HTTPStatus.OK
        return found

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

    @router.get(
        "/{command}", summary="One command, with its content and its result", **needs(Scope.READ, narrowed=True)
    )
    async def show_command(command: CommandPath, call: CallNow) -> CommandView:
        async with reading.turn():
            return await commands.command(command, call.caller.connection_id)

    return router


def _sending() -> dict[str, Any]:
    guarded = needs(Scope.WRITE, narrowed=True)["openapi_extra"]
    body = {"required": True, "content": {"application/json": {"schema": _ASKED}}}
    return {"openapi_extra": {**guarded, "requestBody": body}}


def _now() -> datetime:
    return datetime.now(UTC)


def _own(caller: Caller, connection: str | None) -> str | None:
    if caller.connection_id is not None and connection not in {None, caller.connection_id}:
        raise NotFound("there is no such connection for this token: it is its own connection's only")
    return caller.connection_id or connection
