"""One HTTP/1.1 connection of the receiver: bytes in, whole POST and OPTIONS requests to a handler, replies in order.

It speaks what a webhook sender may speak: Content-Length and chunked bodies, keep-alive, pipelining, Expect:
100-continue. Everything else is answered with a text that says what is wrong, and the connection is closed.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from types import MappingProxyType
from typing import TypeAlias, cast

HEAD_CAP = 64 * 1024
BODY_CAP = 16 * 1024 * 1024
CHUNK_LINE_CAP = 1024

NOTHING_MORE: Mapping[str, str] = MappingProxyType({})

Reply: TypeAlias = tuple[int, str, Mapping[str, str]]
"""A status, the text of the body (empty for none), and more headers."""
Handler: TypeAlias = Callable[[str, dict[str, str], bytes], "Reply | Awaitable[Reply]"]
"""(method, headers with names in lower case, body) -> reply."""

_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?", re.DOTALL)
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class _Bad(Exception):
    """A request that cannot be handled: the status and the text to answer with."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    headers: dict[str, str]
    length: int | None
    """None: chunked."""
    last: bool
    """The connection closes after the reply."""


class Connection(asyncio.Protocol):
    """One client. `open_ones` is the set that the connection is in while it is open."""

    def __init__(self, handle: Handler, open_ones: "set[Connection]") -> None:
        self._handle = handle
        self._open_ones = open_ones
        self._buffer = bytearray()
        self._chunks = bytearray()
        self._head: _Head | None = None
        self._replying: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Called by the loop. A reply under way is finished: its request was received, whoever still waits."""
        if self._replying is None:
            self._open_ones.discard(self)
        else:
            self._replying.add_done_callback(lambda _: self._open_ones.discard(self))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._buffer += data
        self._go_on()

    async def end(self) -> None:
        """Close at once, in the middle of whatever goes on."""
        self._transport.abort()
        if self._replying is not None:
            self._replying.cancel()
            await asyncio.wait([self._replying])

    def _go_on(self) -> None:
        try:
            while self._replying is None and not self._transport.is_closing() and (whole := self._take_request()):
                self._reply(*whole)
        except _Bad as bad:
            self._write(bad.status, str(bad), NOTHING_MORE, last=True)

    def _reply(self, head: _Head, body: bytes) -> None:
        reply = self._handle(head.method, head.headers, body)
        if isinstance(reply, tuple):
            self._write(*reply, last=head.last)
        else:
            self._transport.pause_reading()
            self._replying = asyncio.ensure_future(self._reply_later(reply, last=head.last))

    async def _reply_later(self, reply: Awaitable[Reply], *, last: bool) -> None:
        try:
            done = await reply
        except BaseException:
            self._transport.abort()
            raise
        self._replying = None
        self._write(*done, last=last)
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._go_on()

    def _write(self, status: int, text: str, more: Mapping[str, str], *, last: bool) -> None:
        body = f"{text}\n".encode() if text and status not in _BODILESS else b""
        lines = [f"HTTP/1.1 {int(status)} {responses.get(status, 'Unknown')}"]
        if status not in _BODILESS:
            lines += ["content-type: text/plain; charset=utf-8", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        if last:
            lines.append("connection: close")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        if last:
            self._transport.close()

    def _take_request(self) -> tuple[_Head, bytes] | None:
        """The next whole request in the buffer, or None until more has come."""
        head = self._head = self._head or self._take_head()
        if head is None:
            return None
        body = self._take_chunked() if head.length is None else self._take(head.length)
        if body is None:
            return None
        self._head = None
        return head, body

    def _take_head(self) -> _Head | None:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_CAP)
        if end < 0:
            if len(self._buffer) >= HEAD_CAP:
                raise _Bad(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the headers are longer than {HEAD_CAP} bytes")
            return None
        head = _head(self._buffer[:end].decode("latin-1"))
        del self._buffer[: end + 4]
        if head.headers.get("expect", "").lower() == "100-continue" and not self._buffer:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head

    def _take(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _take_chunked(self) -> bytes | None:
        """Chunks are moved out of the buffer as they come; a chunk's size line stays until the chunk is whole."""
        while (end := self._line_end()) is not None:
            size = _chunk_size(bytes(self._buffer[:end]))
            if len(self._chunks) + size > BODY_CAP:
                raise _too_large()
            if size == 0:
                return self._take_trailers(end + 2)
            if len(self._buffer) < end + 2 + size + 2:
                return None
            self._chunks += self._buffer[end + 2 : end + 2 + size]
            if self._buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise _Bad(HTTPStatus.BAD_REQUEST, "a chunk is longer than it says")
            del self._buffer[: end + 4 + size]
        return None

    def _line_end(self) -> int | None:
        end = self._buffer.find(b"\r\n", 0, CHUNK_LINE_CAP)
        if end < 0 and len(self._buffer) >= CHUNK_LINE_CAP:
            raise _Bad(HTTPStatus.BAD_REQUEST, "a chunk's size is not a number")
        return end if end >= 0 else None

    def _take_trailers(self, start: int) -> bytes | None:
        # The trailers end with an empty line; without any, that line follows the last chunk's.
        end = self._buffer.find(b"\r\n\r\n", start - 2, HEAD_CAP)
        if end < 0:
            if len(self._buffer) >= HEAD_CAP:
                raise _Bad(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the trailers are longer than {HEAD_CAP} bytes")
            return None
        del self._buffer[: end + 4]
        body = bytes(self._chunks)
        self._chunks.clear()
        return body


def _head(text: str) -> _Head:
    first, *lines = text.split("\r\n")
    method, _, rest = first.partition(" ")
    version = rest.rpartition(" ")[2]
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise _Bad(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
    if method not in {"POST", "OPTIONS"}:
        raise _Bad(HTTPStatus.METHOD_NOT_ALLOWED, "webhooks are sent with POST")
    headers = _headers(lines)
    connection = headers.get("connection", "").lower()
    return _Head(method, headers, _length(headers), last="close" in connection or version == "HTTP/1.0")


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise _Bad(HTTPStatus.BAD_REQUEST, "a header line has no name or no colon")
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(headers: dict[str, str]) -> int | None:
    encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if encoding is not None:
        # Both at once is how requests are smuggled past a proxy: RFC 9112 section 6.3.
        if encoding.lower() != "chunked" or length is not None:
            raise _Bad(HTTPStatus.BAD_REQUEST, "the body's length is unclear: chunked or Content-Length, not both")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise _Bad(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    if int(length) > BODY_CAP:
        raise _too_large()
    return int(length)


def _chunk_size(line: bytes) -> int:
    size = _CHUNK_SIZE.fullmatch(line)
    if size is None:
        raise _Bad(HTTPStatus.BAD_REQUEST, "a chunk's size is not a number")
    return int(size[1], 16)


def _too_large() -> _Bad:
    return _Bad(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {BODY_CAP} bytes")
