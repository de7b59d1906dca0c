"""Pulling over HTTP: a receiver reads its endpoint's log with a cursor and a token.

    GET /v1/endpoints/{id}/events?after=<cursor>&limit=100&wait=20s       Authorization: Bearer rlyp_...

    {"events": [
    {"number": 7, "cursor": ..., "event_id": ..., "delivery_id": ..., "state": ..., "body": {the event}},
    ...
    ], "next": <cursor>, "more": false, "last": 8}

Each event stands on a line of its own with its body last: the frozen bytes of the event, never read and written again.
"""

import hmac
import re
import time
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from relay.api.arrivals import Arrivals
from relay.api.problems import documented, problem
from relay.api.reading import EndpointId, Reading
from relay.api.refusals import Refusals
from relay.domain.cursors import cursor_of, read_cursor
from relay.domain.deliveries import DeliveryState
from relay.domain.errors import UserError
from relay.domain.pulling import Forgotten, Logged, Page
from relay.domain.tokens import TokenKind, digest_of, kind_of
from relay.store.log import LogStore

MOST = 1000
"""Events in a page; its bytes are limited, too."""
LONGEST_WAIT = 30
"""Seconds: shorter than what proxies between us allow."""

LogAfter = Annotated[
    str | None, Query(description="The cursor up to which everything is known; none: the oldest that is kept.")
]
LogLimit = Annotated[int, Query(ge=1, le=MOST, description="Events at most; a page may hold fewer.")]
LogWait = Annotated[str, Query(description=f"With no events yet, wait for one this long: up to `{LONGEST_WAIT}s`.")]

_WAIT = re.compile(r"([0-9]{1,2})s")
_NOBODY = bytes(32)

Token = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, scheme_name="pull_token", description="`relay endpoints pull-token`")),
]


class PulledEvent(BaseModel):
    """One event of the log."""

    number: int = Field(description="Without gaps per endpoint from 1; the webhook's `relay-number`.")
    cursor: str = Field(description="Everything up to this event; the webhook's `relay-cursor`.")
    event_id: str = Field(description="The webhook's `webhook-id`.")
    delivery_id: str = Field(description="The webhook's `relay-delivery`.")
    state: DeliveryState = Field(description="What became of the webhook so far.")
    body: dict[str, Any] = Field(description="The event, byte for byte, whatever `payload` the endpoint has.")


class Pulled(BaseModel):
    """A piece of an endpoint's log."""

    events: tuple[PulledEvent, ...]
    next: str = Field(description="The cursor to go on with.")
    more: bool = Field(description="Whether there are later events now.")
    last: int = Field(description="The number of the newest event.")


class Caller:
    """Lets those pass who show an endpoint's token."""

    def __init__(self, log: LogStore, reading: Reading) -> None:
        self._log, self._reading, self._refusals = log, reading, Refusals(time.monotonic)

    async def refusal(self, request: Request, endpoint_id: str, token: str | None) -> Response | None:
        """The answer to somebody who may not read; None for who may. It is the same when there is no such endpoint."""
        who = (request.client.host if request.client else "", endpoint_id)
        if seconds := self._refusals.wait(who):
            headers = {"retry-after": str(seconds)}
            return problem(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens: wait, then try again", headers=headers)
        if await self._knows(endpoint_id, token or ""):
            return None
        self._refusals.count(who)
        return problem(
            HTTPStatus.UNAUTHORIZED,
            "the pull token is missing or not this endpoint's: send `Authorization: Bearer rlyp_...`",
            headers={"www-authenticate": 'Bearer realm="relay"'},
        )

    async def _knows(self, endpoint_id: str, token: str) -> bool:
        if kind_of(token) is not TokenKind.PULL:
            return False
        async with self._reading.turn():
            known = await self._log.token(endpoint_id)
        return hmac.compare_digest(known or _NOBODY, digest_of(token))


def pull_router(log: LogStore, reading: Reading) -> APIRouter:
    """The path of the log."""
    router = APIRouter(prefix="/v1/endpoints", tags=["pull"])
    caller, arrivals = Caller(log, reading), Arrivals(log.reached)

    async def page(endpoint_id: str, after: int | None, limit: int) -> Page | Forgotten:
        async with reading.turn():
            return await log.page(endpoint_id, after, limit)

    @router.get(
        "/{endpoint_id}/events",
        summary="An endpoint's events, in the order of their numbers",
        response_class=Response,
        responses={
            200: {"model": Pulled},
            **documented(
                HTTPStatus.BAD_REQUEST,
                HTTPStatus.UNAUTHORIZED,
                HTTPStatus.GONE,
                HTTPStatus.TOO_MANY_REQUESTS,
                HTTPStatus.SERVICE_UNAVAILABLE,
            ),
        },
    )
    async def events(  # noqa: PLR0913 - one per parameter of the request
        *,
        request: Request,
        endpoint_id: EndpointId,
        token: Token,
        after: LogAfter = None,
        limit: LogLimit = 100,
        wait: LogWait = "0s",
    ) -> Response:
        if refusal := await caller.refusal(request, endpoint_id, token.credentials if token else None):
            return refusal
        seconds, number = wait_seconds(wait), None if after is None else read_cursor(endpoint_id, after)
        found = await page(endpoint_id, number, limit)
        if isinstance(found, Page) and not found.events and seconds:
            await arrivals.beyond(endpoint_id, found.until, seconds)
            found = await page(endpoint_id, found.until, limit)
        if isinstance(found, Forgotten):
            return _gone(endpoint_id, found)
        return Response(_written(endpoint_id, found), 200, {"cache-control": "no-store"}, "application/json")

    return router


def wait_seconds(wait: str, longest: int = LONGEST_WAIT) -> int:
    """Seconds of a `wait` as it is given. Raises UserError."""
    found = _WAIT.fullmatch(wait)
    if found is None or int(found[1]) > longest:
        raise UserError(f"wait: give 0s to {longest}s")
    return int(found[1])


def _gone(endpoint_id: str, forgotten: Forgotten) -> Response:
    detail = (
        "events after this cursor are no longer kept: read what you need from the ERP's side, and go on with `oldest`"
    )
    oldest = cursor_of(endpoint_id, forgotten.oldest)
    return problem(HTTPStatus.GONE, detail, oldest=oldest, first_number=forgotten.oldest + 1)


def _written(endpoint_id: str, page: Page) -> bytes:
    ending = {"next": cursor_of(endpoint_id, page.until), "more": page.more, "last": page.last}
    lines = b",".join(b"\n" + _line(endpoint_id, each) for each in page.events)
    return b'{"events":[' + lines + b"\n]," + orjson.dumps(ending)[1:]


def _line(endpoint_id: str, each: Logged) -> bytes:
    head = {
        "number": each.number,
        "cursor": cursor_of(endpoint_id, each.number),
        "event_id": each.event_id,
        "delivery_id": each.delivery_id,
        "state": each.state,
    }
    return orjson.dumps(head)[:-1] + b',"body":' + each.body + b"}"
