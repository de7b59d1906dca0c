"""Tryton's JSON-RPC: one login kept as a session, calls, and answers that say 200 and mean no.

    call -> [log in] -> call with the session -> 401? log in once more, call again -> still 401: CredentialsRefused

Six wrong logins lock a user out for five minutes, the right password included, while open sessions go on working.
So there is one login at a time, a refused one is never tried again by this object, and nothing here loops.
"""

import asyncio
import base64
import datetime as dt
import itertools
from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import httpx

from relay.connectors.kit.replies import checked, json_of, retry_after, words
from relay.domain.errors import CredentialsRefused, Throttled, Unavailable, UnexpectedReply, Unsupported
from relay.domain.pace import READING

LOCKED_OUT: Final = 300.0
"""Seconds for which Tryton refuses every login after too many wrong ones; its 429 names no time."""
_REFUSING: Final = frozenset({401, 403})
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_HEADERS: Final = {
    "Content-Type": "application/json",
    # Without it Tryton calls long answers gzip that are not (protocols/jsonrpc.py): they could not be read.
    "Accept-Encoding": "gzip",
}


_NO_CONTEXT: Final[Mapping[str, Any]] = {}
_SAID_KEPT: Final = 2000
_REFUSALS: Final = frozenset({"UserError", "UserWarning", "ConcurrencyException"})
"""Errors that Tryton raises on purpose; it has rolled back then."""


class ErpSaidNo(Unsupported):
    """Tryton answered 200 with an error: the message is its own, cut short. `said` are its words, `kind` its class."""

    def __init__(self, message: str, *, kind: str = "", said: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.said = said


class SessionAuth(httpx.Auth):
    """Logs in when there is no session, or when Tryton no longer knows the one there is."""

    requires_response_body = True

    def __init__(self, base: str, database: str, username: str, password: str) -> None:
        self.url = f"{base}/{quote(database, safe='')}/rpc/"
        """Where the database's calls go."""
        self.root = f"{base}/rpc/"
        """Where the server's own calls go."""
        self._database = database
        self._username = username
        self._password = password
        self._lock = asyncio.Lock()
        self._session: str | None = None
        self._refused = False

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The flow httpx drives; raises CredentialsRefused, Throttled, Unavailable, Unsupported, UnexpectedReply."""
        refused: str | None = None
        for _ in range(2):
            async with self._lock:
                if self._session is None or self._session == refused:
                    self._session = None
                    reply = yield self._login()
                    await reply.aread()
                    if reply.status_code == _NOT_FOUND:
                        databases = yield _rpc(self.root, "common.db.list")
                        await databases.aread()
                        self._explain(databases)
                    self._session = self._taken(reply)
                used = self._session
            request.headers["Authorization"] = f"Session {used}"
            answer = yield request
            if answer.status_code != _UNAUTHORIZED:
                return
            refused = used
        self._session, self._refused = None, True
        raise CredentialsRefused("Tryton refuses a session that it has just given")

    def _login(self) -> httpx.Request:
        if self._refused:
            raise CredentialsRefused("Tryton has refused these credentials before; they are not tried again")
        return _rpc(self.url, "common.db.login", self._username, {"password": self._password})

    def _explain(self, databases: httpx.Response) -> None:
        # A login that finds an SQLite database locked is answered 404 too: only the list tells the two apart.
        match json_of(databases) if databases.is_success else None:
            case {"result": list() as known} if self._database not in known:
                raise Unsupported(f"this Tryton has no database {self._database!r}")
        raise Unavailable(f"Tryton cannot open the database {self._database!r} now")

    def _taken(self, reply: httpx.Response) -> str:
        if reply.status_code in _REFUSING:
            self._refused = True
            raise CredentialsRefused("Tryton refuses the user name or the password")
        if reply.status_code == _TOO_MANY:
            message = "Tryton takes no login of this user for a while: there were too many wrong ones"
            raise Throttled(message, retry_after=retry_after(reply) or LOCKED_OUT)
        match json_of(reply):
            case {"result": [int() as user, str() as token, *_]}:
                return base64.b64encode(f"{self._username}:{user}:{token}".encode()).decode("ascii")
            case {"error": _}:
                self._refused = True
                raise CredentialsRefused("Tryton asks for more than a password at login (a second factor?)")
            case _:
                raise UnexpectedReply("Tryton's answer to the login holds no session")


class Rpc:
    """Calls of one database as one user: `call` reads and may be sent again, `change` writes and may not."""

    def __init__(self, client: httpx.AsyncClient, auth: SessionAuth) -> None:
        self._client = client
        self._auth = auth
        self._ids = itertools.count(1)

    async def version(self) -> str | None:
        """The server's version, which it tells everybody; None when it does not. Raises what `json_of` raises."""
        body = {"id": 0, "method": "common.server.version", "params": []}
        reply = await self._client.post(self._auth.root, json=body, headers=_HEADERS, extensions={READING: True})
        match json_of(checked(reply)):
            case {"result": str() as version}:
                return version
            case _:
                return None

    @property
    def path(self) -> str:
        """Where the database's calls go, without the server."""
        return httpx.URL(self._auth.url).path

    async def call(self, method: str, *params: Any, context: Mapping[str, Any] = _NO_CONTEXT) -> Any:
        """The result of one reading method (`model.purchase.purchase.search_read`).

        Raises ErpSaidNo for an error in a 200, Unavailable when records moved meanwhile, and what `json_of` raises.
        """
        answer = await self._answer(method, params, context, {READING: True})
        match answer:
            case {"error": [str() as kind, *rest]}:
                raise _refusal(method, kind, rest)
        return _result(method, answer)

    async def change(self, method: str, *params: Any, context: Mapping[str, Any]) -> Any:
        """The result of one writing method, in one transaction, sent once.

        But for a 401, after which it is sent with a new session: Tryton gives it before it looks at the call.

        Raises ErpSaidNo when Tryton refused and has rolled back; UnexpectedReply, which leaves it open, for any other
        error in a 200; and what `json_of` raises.
        """
        answer = await self._answer(method, params, context, {})
        match answer:
            case {"error": [str() as kind, *rest]} if kind in _REFUSALS:
                raise _said_no(method, kind, rest)
            case {"error": [str() as kind, *_]}:
                raise UnexpectedReply(f"{method}: Tryton failed: {words(kind)}")
        return _result(method, answer)

    async def _answer(
        self, method: str, params: tuple[Any, ...], context: Mapping[str, Any], extensions: dict[str, Any]
    ) -> Any:
        body = {"id": next(self._ids), "method": method, "params": [dressed(each) for each in (*params, context)]}
        try:
            reply = await self._client.post(
                self._auth.url, json=body, headers=_HEADERS, auth=self._auth, extensions=extensions
            )
        except httpx.DecodingError:
            raise UnexpectedReply("Tryton calls its answer gzip, and it is not") from None
        return json_of(checked(reply))


def _rpc(url: str, method: str, *params: Any) -> httpx.Request:
    return httpx.Request("POST", url, json={"id": 0, "method": method, "params": params}, headers=_HEADERS)


def _result(method: str, answer: Any) -> Any:
    match answer:
        case {"result": result}:
            return result
        case _:
            raise UnexpectedReply(f"{method}: the answer holds neither a result nor an error")


def _refusal(method: str, kind: str, rest: list[Any]) -> Unavailable | ErpSaidNo:
    if kind == "ConcurrencyException":
        return Unavailable(f"{method}: records were modified meanwhile")
    return _said_no(method, kind, rest)


def _said_no(method: str, kind: str, rest: list[Any]) -> ErpSaidNo:
    parts = rest[0] if rest and isinstance(rest[0], list) else rest
    # A warning's first word is its name, by which people switch it off.
    told = [part for part in parts[kind == "UserWarning" :] if isinstance(part, str) and part] or [kind]
    return ErpSaidNo(f"{method}: {words(told[0])}", kind=kind, said=words(" ".join(told), _SAID_KEPT))


def dressed(value: Any) -> Any:
    """A parameter in the clothes of Tryton's protocol."""
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": format(value, "f")}
        case dt.datetime():
            parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
            return {"__class__": "datetime", **{part: getattr(value, part) for part in parts}}
        case dt.date():
            return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
        case Mapping():
            return {key: dressed(each) for key, each in value.items()}
        case list() | tuple():
            return [dressed(each) for each in value]
        case _:
            return value
