"""Requests: each gets an id, which is on its answer, in its problem and in every line that is logged meanwhile.

An error that nobody raised on purpose is answered and logged here: its type and where it came from, but not its words,
which may hold what was sent.
"""

import secrets
import time
import traceback
from typing import TYPE_CHECKING, Any

import structlog

from relay.api.problems import ended_badly, request_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Requests:
    """The outermost of the application."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = f"req_{secrets.token_hex(12)}"
        request_id.set(known)
        with structlog.contextvars.bound_contextvars(request=known):
            await self._served(scope, receive, send, known)

    async def _served(self, scope: "Scope", receive: "Receive", send: "Send", known: str) -> None:
        began, status = time.monotonic(), 0

        async def answering(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [*message["headers"], (b"request-id", known.encode())]
            await send(message)

        try:
            await self._app(scope, receive, answering)
        except Exception as error:  # noqa: BLE001 - the last place before the server, which would log its words
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("request.failed", error=type(error).__name__, where=where)  # noqa: TRY400 - not with its words
            if not status:
                await ended_badly()(scope, receive, answering)
        _tell(scope, status, time.monotonic() - began)


def _tell(scope: "Scope", status: int, seconds: float) -> None:
    call: Any = scope.get("state", {}).get("call")
    tell = log.debug if scope["method"] in READS else log.info
    tell(
        "request.answered",
        method=scope["method"],
        # As it is declared: what stands in its place may be anything.
        path=getattr(scope.get("route"), "path", None),
        status=status,
        seconds=round(seconds, 4),
        caller=call.caller.id if call else None,
        action=call.action if call else None,
        subject=call.subject if call else None,
    )
