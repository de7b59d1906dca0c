"""The core of the control API: what happens to every call before and after its route does its work.

    recognized -> within its rate -> allowed -> body read -> once -> noted in the audit log -> done -> noted

A router asks for all of it by being made here:

    router = core.router("/v1/things", "things")

    @router.post("/{connection_id}/things", summary="...", **needs(Scope.WRITE))
    async def add_thing(connection_id: ConnectionPath, wanted: ThingWanted, call: CallNow) -> ThingView: ...

Without `needs`, reading needs `read` and everything else `write`. The function's name is the operation's id, and what
the audit log calls it. A connection's token reaches the paths with `{connection_id}`, as its own connection, and those
that are `narrowed`: they show it what is its own. Paths that are `of_operators` it does not reach at all.
"""

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from relay.api.callers import Recognizing, address_of, token_shown
from relay.api.once import HEADER, Once
from relay.api.problems import documented, problem, problem_of, request_id
from relay.api.rates import Rates
from relay.api.requests import READS
from relay.control import Control
from relay.domain.callers import Caller, CallerKind, Scope
from relay.domain.errors import Unavailable
from relay.stages.admit_command import Limits
from relay.store.audit import AuditStore
from relay.store.callers import CallerStore
from relay.store.database import Database
from relay.store.idempotency import IdempotencyStore

log = structlog.get_logger()

RATE = 20.0
"""Calls per second and caller, unless a setting says otherwise."""
MOST_BYTES = 1024 * 1024
"""Bytes of a body."""
COMMANDS = Limits(256 * 1024, timedelta(days=1))
"""How large a command may be, and how long it waits, unless settings say otherwise."""

_ID = "^[A-Za-z0-9_.-]{1,80}$"
ConnectionPath = Annotated[str, Path(pattern=_ID, description="The connection's id, `con_...`.")]

_SCOPE, _NARROWED = "x-relay-scope", "x-relay-connection-token"
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An operator key (`relay operators add`) or a connection's token; neither on this machine's socket.",
)
_REFUSED = documented()

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass
class Call:
    """One call of somebody who was recognized. A route says with `about` what it has made or found."""

    caller: Caller
    action: str
    subject: str | None = None
    customer: str | None = None

    def about(self, subject: str, customer: str | None = None) -> None:
        """What the call is about, for the audit log, when its path does not name it."""
        self.subject, self.customer = subject, customer or self.customer


def _call(request: Request) -> Call:
    call: Call = request.state.call
    return call


CallNow = Annotated[Call, Depends(_call)]


def needs(scope: Scope, *, narrowed: bool | None = None) -> dict[str, Any]:
    """The scope that a route asks for, and whether connections' tokens reach it; None: when it names a connection."""
    return {"openapi_extra": {_SCOPE: scope.value, **({} if narrowed is None else {_NARROWED: narrowed})}}


def of_operators(scope: Scope) -> dict[str, Any]:
    """The scope that a route asks for, which connections' tokens do not reach, though it names a connection."""
    return needs(scope, narrowed=False)


class ControlRoute(APIRoute):
    """A route of the control API. Its class is made by `Core.router`, which knows the core."""

    core: "Core"

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        extra = dict(given.pop("openapi_extra", None) or {})
        reads = set(given.get("methods") or ()) <= READS
        extra.setdefault(_SCOPE, (Scope.READ if reads else Scope.WRITE).value)
        extra.setdefault(_NARROWED, "{connection_id}" in path)
        if "POST" in set(given.get("methods") or ()):
            extra["parameters"] = [_idempotency_key()]
        given["operation_id"] = given.get("operation_id") or getattr(endpoint, "__name__", None)
        super().__init__(path, endpoint, openapi_extra=extra, **given)

    def get_route_handler(self) -> Handle:
        """The work of this route, guarded."""
        handle, extra = super().get_route_handler(), self.openapi_extra or {}
        needed = Needed(str(self.operation_id), Scope(extra[_SCOPE]), for_connections=bool(extra[_NARROWED]))

        async def guarded(request: Request) -> Response:
            return await self.core.answer(request, needed, handle)

        return guarded


@dataclass(frozen=True, slots=True)
class Needed:
    """What a route asks of its callers."""

    action: str
    scope: Scope
    for_connections: bool


class Core:
    """What every route of the control API stands on."""

    def __init__(
        self, control: Control, database: Database, *, rate: float = RATE, commands: Limits = COMMANDS
    ) -> None:
        self.control, self.database, self.commands = control, database, commands
        self.callers, self.audit = CallerStore(database), AuditStore(database)
        self._recognizing = Recognizing(self.callers, time.monotonic)
        self._rates, self._once = Rates(rate, time.monotonic), Once(IdempotencyStore(database))

    def router(self, prefix: str, tag: str) -> APIRouter:
        """A router whose every call is guarded."""
        guarded = type("GuardedRoute", (ControlRoute,), {"core": self})
        return APIRouter(
            prefix=prefix, tags=[tag], route_class=guarded, responses=_REFUSED, dependencies=[Depends(_bearer)]
        )

    async def answer(self, request: Request, needed: Needed, handle: Handle) -> Response:
        """The answer to one call."""
        try:
            return await self._answer(request, needed, handle)
        except Unavailable as error:
            return problem_of(error)

    async def _answer(self, request: Request, needed: Needed, handle: Handle) -> Response:
        caller = await self._recognizing.caller(request)
        if isinstance(caller, Response):
            return caller
        subject = next(iter(request.path_params.values()), None)
        call = Call(caller, needed.action, subject and str(subject)[:200], caller.customer_id)
        request.state.call = call
        refusal = self._too_fast(caller) or _not_allowed(caller, needed, request) or await _unusable(request)
        if refusal:
            return refusal
        if request.method in READS:
            return await _handled(request, handle)

        async def change() -> Response:
            return await self._changed(request, call, handle)

        if request.method != "POST":
            return await change()
        return await self._once.answer(request, caller, token_shown(request) or "", change)

    def _too_fast(self, caller: Caller) -> Response | None:
        if caller.kind is CallerKind.LOCAL or not (seconds := self._rates.wait(caller.id)):
            return None
        detail = f"too many calls: wait {seconds} s"
        return problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(seconds)})

    async def _changed(self, request: Request, call: Call, handle: Handle) -> Response:
        position = await self.audit.begin(
            call.caller,
            request_id=request_id.get(),
            address=address_of(request),
            action=call.action,
            subject=call.subject,
            customer=call.customer,
        )
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        try:
            answer = await _handled(request, handle)
            status = answer.status_code
        finally:
            await self._ended(position, status, call)
        return answer

    async def _ended(self, position: int, status: int, call: Call) -> None:
        try:
            await self.audit.end(position, status, call.subject, call.customer)
        except Unavailable as error:
            # That it began is on record; the answer must reach the caller.
            log.warning("audit.unended", position=position, status=status, problem=str(error))


async def _handled(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        return await handle(request)
    except Exception as error:  # noqa: BLE001 - what was not raised on purpose goes on from `problem_of`
        return problem_of(error)


def _not_allowed(caller: Caller, needed: Needed, request: Request) -> Response | None:
    if caller.connection_id is not None:
        named = request.path_params.get("connection_id", caller.connection_id)
        if not needed.for_connections or named != caller.connection_id:
            return problem(HTTPStatus.NOT_FOUND, "there is no such thing for this token: it is its connection's only")
    if not caller.scope.holds(needed.scope):
        detail = f"this needs a key of scope `{needed.scope}`; this one has `{caller.scope}`"
        return problem(HTTPStatus.FORBIDDEN, detail)
    return None


async def _unusable(request: Request) -> Response | None:
    """The refusal of what no route could work with: too much of it, no JSON, or characters that are none."""
    body = b""
    if request.method not in READS:
        if int(request.headers.get("content-length", "0")) > MOST_BYTES:
            return _too_large()
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MOST_BYTES:
                return _too_large()
            chunks.append(chunk)
        body = b"".join(chunks)
        request._body = body  # noqa: SLF001 - where Starlette keeps what it has read
    if "\x00" in request.url.path or "%00" in request.url.query or rb"\u0000" in body:
        return problem(HTTPStatus.BAD_REQUEST, "a NUL character belongs nowhere", code="unreadable")
    if body:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return problem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error.msg}", code="unreadable")
        if given is None:
            return problem(HTTPStatus.BAD_REQUEST, "the body is null: send an object, or no body", code="unreadable")
    return None


def _too_large() -> Response:
    detail = f"the body is larger than {MOST_BYTES} bytes"
    return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, code="too_large")


def _idempotency_key() -> dict[str, Any]:
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "The same request with the same key gets the same answer for a day, and changes nothing more.",
        "schema": {"type": "string", "minLength": 16, "maxLength": 200, "pattern": "^[!-~]+$"},
    }
