"""One connection: it sends a request, takes the answer to it within bounds, and waits for the next.

    exchange(reply, request, ends) -> the reply is filled, and the connection is free again | closed

The one thing to know: whatever comes that was not asked for closes it. An answer that comes too early, or twice, is
never taken for the answer to the next request. Whatever a receiver can send without end is bounded here.
"""

import asyncio
import os
import select
import ssl
from typing import Final, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from relay.wire.reply import Reply

HEAD_CAP: Final = 64 * 1024
"""Bytes of an answer's head, with all interim answers (1xx) before it."""
MOST_HEADERS: Final = 100
"""Lines of one head, with the trailers behind its body."""
MOST_INTERIM: Final = 50
"""Interim answers (1xx) to one request."""
BODY_CAP: Final = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
MOST_CHUNKS: Final = 2048
"""Pieces of an answer's body that are read: each costs this process some work, however small it is."""
REST_CAP: Final = 2 * BODY_CAP
"""Bytes of anything behind the head: sizes, extensions and trailers of chunks have no bound of their own."""
IDLE: Final = 50.0
"""Seconds for which it waits for the next request: under the 60 after which common load balancers drop it."""

_INTERIM, _SWITCHING = range(100, 200), 101
_TICK = 0.002  # what a loop's clock may be off


class Connection(asyncio.Protocol):
    """A connection that is made; of an answer's body `keep` bytes are kept."""

    def __init__(self, keep: int) -> None:
        self.transport = cast("asyncio.Transport", None)
        """Set when it is connected, and again when TLS is put over it."""
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._reply: Reply | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._again = self._closed = False
        self._ends, self._alarm = 0.0, cast("asyncio.TimerHandle | None", None)
        self._readable = select.poll()
        self._came = self._most = self._lines = self._interim = self._chunks = self._size = 0

    async def exchange(self, reply: Reply, request: bytes, body: bytes, ends: float) -> None:
        """Send, and fill `reply` until the answer is there, or a fault, or it is `ends` on the loop's clock."""
        if self._closed:
            reply.error, reply.detail = "reset", "closed meanwhile"
            return
        self._reply, self._waiter, self._again = reply, self._loop.create_future(), False
        self._came, self._most = 0, HEAD_CAP
        self._lines = self._interim = self._chunks = self._size = 0
        self._wake_at(ends)
        self.transport.writelines((request, body))
        try:
            await self._waiter
        finally:
            # Whoever gives up takes the request back: its answer must not come to somebody else.
            if not self._again:
                self.close()

    def is_whole(self) -> bool:
        """Whether it may be kept: it is there, and has sent all."""
        return self._again and not self._closed and not self.transport.get_write_buffer_size()

    def is_free(self) -> bool:
        """Whether it can take a request: nothing came, and waits to be read, that was not asked for."""
        return not self._closed and not self._readable.poll(0)

    def rest(self) -> None:
        """Wait for the next request, for a while."""
        self._wake_at(self._loop.time() + IDLE)

    def close(self) -> None:
        """End it, at once; a request that is on its way ends as `reset`."""
        self._end("reset", "closed meanwhile")

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self.transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Some bytes of an answer."""
        if self._reply is None:
            self.close()  # Nobody has asked.
            return
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.close()
        except HttpParserError as error:
            why = error.__context__ if isinstance(error, HttpParserCallbackError) else error
            self._end("protocol", str(why))
        else:
            if self._came > self._most:
                self._end("protocol", "too much comes that is neither head nor body")

    def eof_received(self) -> None:
        """Nothing more will come: which is the end of a body that has no other."""
        if self._reply is not None and _ends_with_the_connection(self._reply):
            self._done(again=False)
        self._end("reset", "the receiver hung up")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if isinstance(exc, ssl.SSLError):
            self._end("tls", told(exc))
        else:
            self._end("reset", told(exc) if isinstance(exc, OSError) else "the receiver hung up")

    # What the parser tells

    def on_message_begin(self) -> None:
        """The first byte of an answer, interim or not."""
        if self._reply is None:
            raise _Enough("an answer that nobody asked for")
        self._lines = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head, or a trailer."""
        self._lines += 1
        if self._lines > MOST_HEADERS:
            raise _Enough(f"more than {MOST_HEADERS} headers")
        if self._reply is not None and self._reply.status is None:
            self._reply.headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        reply, status = self._reply, self._parser.get_status_code()
        assert reply is not None
        if status < _INTERIM.start:
            raise _Enough("no HTTP status")
        if status in _INTERIM and status != _SWITCHING:
            reply.headers.clear()
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise _Enough(f"more than {MOST_INTERIM} interim answers")
            return
        reply.status, reply.status_at = status, self._loop.time()
        self._most = self._came + REST_CAP

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        reply = self._reply
        assert reply is not None
        self._size, self._chunks = self._size + len(piece), self._chunks + 1
        if (wanted := self._keep - len(reply.body)) > 0:
            reply.body += piece[:wanted]
        if self._size > BODY_CAP or self._chunks >= MOST_CHUNKS:
            self._done(again=False)
            raise _Enough("enough of the body")

    def on_message_complete(self) -> None:
        """The answer is whole, or an interim one is."""
        if self._reply is not None and self._reply.status is not None:
            self._done(again=self._parser.should_keep_alive() and self._reply.status != _SWITCHING)

    def _done(self, *, again: bool) -> None:
        self._again, self._reply = again, None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, error: str, detail: str) -> None:
        """Close, at once; a request that is on its way ends so."""
        if self._reply is not None:
            self._reply.error, self._reply.detail = error, detail
            self._done(again=False)
        self._closed = True
        # It holds us as we hold it, and the start of whatever never ended.
        self._parser = cast("HttpResponseParser", None)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self.transport.abort()

    def _wake_at(self, when: float) -> None:
        """One alarm serves many requests: it is set anew only when it would come too late, or has come too early."""
        self._ends = when
        if self._alarm is not None:
            if self._alarm.when() <= when:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self._woken)

    def _woken(self) -> None:
        self._alarm = None
        if self._loop.time() < self._ends - _TICK:
            self._wake_at(self._ends)
            return
        self._end("timeout", "no whole answer before the deadline")


class _Enough(Exception):
    """Ends the parser's work."""


def _ends_with_the_connection(reply: Reply) -> bool:
    if reply.status is None or b"content-length" in reply.headers:
        return False
    return b"chunked" not in reply.headers.get(b"transfer-encoding", b"").lower()


def told(error: OSError) -> str:
    """What the system, or TLS, says of a fault; nothing of what was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").replace("_", " ").lower()
    return os.strerror(error.errno) if error.errno else "the connection failed"
