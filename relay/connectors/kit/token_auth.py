"""Bearer tokens that are renewed before they expire, as an `httpx.Auth`.

    call -> [log in | refresh] -> call with the token -> 401? renew once, call again -> still 401: CredentialsRefused

One login at a time per connector, however many calls run. A refused login is remembered: this object never asks
again, because ERPs lock users who are asked for too often.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import httpx

from relay.connectors.kit.replies import checked
from relay.domain.errors import CredentialsRefused

_REFUSING: Final = frozenset({400, 401, 403})
_BUSY: Final = frozenset({429, 502, 503, 504})
_UNAUTHORIZED: Final = 401
EARLY: Final = 60.0
"""Seconds before its end at which a token is renewed (or half its life, when that is shorter)."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave; `lasts` is in seconds."""

    access: str = field(repr=False)
    lasts: float
    refresh: str | None = field(default=None, repr=False)


class Grant(Protocol):
    """One system's way of giving tokens: which requests, and how to read the answer."""

    def login(self) -> httpx.Request:
        """The request that logs in."""
        ...

    def refresh(self, token: str) -> httpx.Request:
        """The request that renews with a refresh token."""
        ...

    def tokens(self, reply: httpx.Response) -> Tokens:
        """The tokens of a 2xx answer; raises UnexpectedReply when there are none in it."""
        ...


class TokenAuth(httpx.Auth):
    """Puts the token on every request of its client; `clock` counts seconds."""

    requires_response_body = True

    def __init__(self, grant: Grant, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._grant = grant
        self._clock = clock
        self._lock = asyncio.Lock()
        self._tokens: Tokens | None = None
        self._renew_at = 0.0
        self._refused = False

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The flow httpx drives; raises CredentialsRefused, or what `checked` raises for the token endpoint."""
        if self._refused:
            raise CredentialsRefused("the ERP has refused these credentials before; they are not tried again")
        refused: Tokens | None = None
        for _ in range(2):
            async with self._lock:
                renewable = self._renewable(refused)
                if renewable:
                    reply = yield self._grant.refresh(renewable)
                    self._take_renewed(await _read(reply))
                if self._tokens is None:
                    reply = yield self._grant.login()
                    self._take_login(await _read(reply))
                used = self._tokens
            request.headers["Authorization"] = f"Bearer {used.access if used else ''}"
            answer = yield request
            if answer.status_code != _UNAUTHORIZED:
                return
            refused = used
        self._refused = True
        raise CredentialsRefused("the ERP refuses a token that it has just given")

    def _renewable(self, refused: Tokens | None) -> str | None:
        """The refresh token to use now, if any; forgets tokens that can only be replaced by a login."""
        tokens = self._tokens
        if tokens is None or (tokens is not refused and self._clock() < self._renew_at):
            return None
        if not tokens.refresh:
            self._tokens = None
        return tokens.refresh

    def _take_renewed(self, reply: httpx.Response) -> None:
        if reply.is_success or reply.status_code in _BUSY:
            self._take(reply)
        else:
            self._tokens = None

    def _take_login(self, reply: httpx.Response) -> None:
        if reply.status_code in _REFUSING:
            self._refused = True
            raise CredentialsRefused(f"the ERP refuses the login ({reply.status_code})")
        self._take(reply)

    def _take(self, reply: httpx.Response) -> None:
        self._tokens = self._grant.tokens(checked(reply))
        self._renew_at = self._clock() + self._tokens.lasts - min(EARLY, self._tokens.lasts / 2)


async def _read(reply: httpx.Response) -> httpx.Response:
    await reply.aread()
    return reply
