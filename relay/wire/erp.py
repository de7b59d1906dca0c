"""The polite way to call an ERP: paced, few at once, reads retried, every failure in our own error tree.

    slot free -> token taken -> sent -> whole body read -> blip? wait, again (reads only) -> reply | error

All of one connection's calls go through one of these. The body is read inside, so a cut body is retried like a lost
connection and the slot is held until the ERP is truly done. Statuses are not judged here: the final reply goes to the
connector, which knows what its ERP means by them. Calls of commands go before those that only read.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final

import httpx

from relay.domain.errors import Unavailable, UnexpectedReply
from relay.domain.pace import READING, Bucket, going_first, retry_in, take
from relay.ports import Pace
from relay.wire.slots import Slots

LARGEST_BODY: Final = 64 * 1024 * 1024

_RETRY_AFTER: Final = "retry-after"
_OF_THE_ENCODED: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers that do not fit a body once it is decoded."""


class PoliteTransport(httpx.AsyncBaseTransport):
    """Wraps a transport; `clock` counts seconds, `dice` throws in [0, 1)."""

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._dice = dice
        self._slots = Slots(pace.at_once)
        self._bucket = Bucket(pace.burst, clock())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises Unavailable (no answer, or not in time) and UnexpectedReply (a body too large)."""
        may_repeat = request.method == "GET" or request.extensions.get(READING) is True
        tries = 0
        while True:
            tries += 1
            answer = await self._once(request)
            wait = self._wait(answer, tries) if may_repeat else None
            if wait is None:
                break
            await self._sleep(wait)
        if isinstance(answer, httpx.Response):
            return answer
        failed = Unavailable(f"no answer from {_place(request)}: {_reason(answer)}")
        failed.unsent = isinstance(answer, httpx.ConnectError)
        raise failed from answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def _wait(self, answer: httpx.Response | httpx.TransportError, tries: int) -> float | None:
        if isinstance(answer, httpx.Response):
            asked = answer.headers.get(_RETRY_AFTER, "")
            wish = float(asked) if asked.isascii() and asked.isdecimal() else None
            return retry_in(tries=tries, status=answer.status_code, retry_after=wish, dice=self._dice())
        return retry_in(tries=tries, status=None, retry_after=None, dice=self._dice())

    async def _once(self, request: httpx.Request) -> httpx.Response | httpx.TransportError:
        async with self._slots.one(first=going_first.get()):
            self._bucket, wait = take(
                self._bucket, per_second=self._pace.per_second, burst=self._pace.burst, now=self._clock()
            )
            if wait:
                await self._sleep(wait)
            try:
                async with asyncio.timeout(self._pace.timeout):
                    return await self._whole(request)
            except (TimeoutError, httpx.TimeoutException) as error:
                # Not tried again here: an ERP that is too slow needs fewer calls, not more.
                raise Unavailable(f"{_place(request)} did not answer within {self._pace.timeout:g} s") from error
            except httpx.DecodingError as error:
                raise UnexpectedReply(f"{_place(request)} sent a body that does not decode") from error
            except httpx.TransportError as error:
                return error

    async def _whole(self, request: httpx.Request) -> httpx.Response:
        reply = await self._inner.handle_async_request(request)
        try:
            body = bytearray()
            # Decoded here: a body that lies about its encoding fails as ours, and a small one may unpack to gigabytes.
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > LARGEST_BODY:
                    raise UnexpectedReply(f"{_place(request)} sent more than {LARGEST_BODY} bytes")
        finally:
            await reply.aclose()
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() not in _OF_THE_ENCODED]
        return httpx.Response(
            reply.status_code,
            headers=headers,
            stream=httpx.ByteStream(bytes(body)),
            request=request,
            extensions=reply.extensions,
        )


def polite_client(pace: Pace) -> httpx.AsyncClient:
    """A client for one connection; close it with `async with`. Redirects are not followed."""
    limits = httpx.Limits(max_connections=pace.at_once, max_keepalive_connections=pace.at_once)
    return httpx.AsyncClient(
        transport=PoliteTransport(httpx.AsyncHTTPTransport(verify=_authorities(), limits=limits), pace),
        timeout=httpx.Timeout(pace.timeout),
        follow_redirects=False,
    )


@cache
def _authorities() -> ssl.SSLContext:
    # Of one process: reading all certificates takes 27 ms and 800 KB, and there may be thousands of connections.
    context = httpx.create_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _place(request: httpx.Request) -> str:
    """Host, port and path: never the query, which may hold a token."""
    port = f":{request.url.port}" if request.url.port else ""
    return f"{request.url.host}{port}{request.url.path}"


def _reason(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}{f' ({error})' if str(error) else ''}"
