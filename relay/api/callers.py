"""Recognizing callers: by the token that they show, or because they came by this machine's own socket.

One look-up of a digest per request. Whoever shows wrong tokens again and again is answered without one; a token that
was good before is looked up all the same, so that a stranger behind the same proxy shuts nobody out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request, Response

from relay.api.problems import asked_here, problem
from relay.api.refusals import Refusals
from relay.domain.callers import LOCAL, Caller
from relay.domain.tokens import TokenKind, digest_of, kind_of
from relay.store.callers import CallerStore

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEPT = 10_000
"""Digests of good tokens remembered."""

_LOCAL = "relay.local"
_BEARER = "bearer "


def as_local(app: "ASGIApp") -> "ASGIApp":
    """The application as this machine's administrators reach it: whoever shows no token may do everything."""

    async def local(scope: "Scope", receive: "Receive", send: "Send") -> None:
        asked_here.set(True)
        await app({**scope, _LOCAL: True} if scope["type"] == "http" else scope, receive, send)

    return local


def token_shown(request: Request) -> str | None:
    """The bearer token of a request."""
    header = request.headers.get("authorization", "")
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else None


def address_of(request: Request) -> str:
    """Where a request came from."""
    return LOCAL.id if request.client is None or not request.client.host else request.client.host


@dataclass
class Recognizing:
    """Who calls. `clock` counts seconds."""

    store: CallerStore
    clock: Callable[[], float]
    _good: dict[bytes, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._refusals = Refusals(self.clock)

    async def caller(self, request: Request) -> Caller | Response:
        """The caller, or the answer to somebody who is not known."""
        token = token_shown(request)
        if token is None and request.scope.get(_LOCAL):
            return LOCAL
        if token is None or kind_of(token) not in {TokenKind.OPERATOR, TokenKind.CONNECTION}:
            return _unknown()  # which costs nothing, and so is not counted
        who, digest = (address_of(request), ""), digest_of(token)
        if digest not in self._good and (seconds := self._refusals.wait(who)):
            headers = {"retry-after": str(seconds)}
            return problem(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens: wait, then try again", headers=headers)
        found = await self.store.caller(token)
        if found is None:
            self._good.pop(digest, None)
            self._refusals.count(who)
            return _unknown()
        self._good[digest] = None
        if len(self._good) > KEPT:
            del self._good[next(iter(self._good))]
        return found


def _unknown() -> Response:
    return problem(
        HTTPStatus.UNAUTHORIZED,
        "the token is missing, or not good (any more): send `Authorization: Bearer rlyk_...` (an operator key) or "
        "`rlyc_...` (a connection's token)",
        headers={"www-authenticate": 'Bearer realm="relay"'},
    )
