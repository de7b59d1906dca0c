"""HTTP/1.1 for the objects server: keep-alive, Content-Length, one answer after another.

By hand, because each message of the broker costs several requests. What a web page could make a browser send (another
Host, an Origin) is refused.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_BODY = 64 * 1024 * 1024
MAX_HEAD = 64 * 1024

_REASONS = {
    200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 400: "Bad Request", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 411: "Length Required", 412: "Precondition Failed",
    413: "Content Too Large", 416: "Range Not Satisfiable", 500: "Internal Server Error",
}  # fmt: skip
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}


class Request(NamedTuple):
    """One request: the key without its bucket, header names in lower case."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `length` overrides the length of the body (HEAD says what GET would send)."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status not in {204, 304}:
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def refusal(status: int) -> Answer:
    """Return the answer that S3 would give for this error."""
    code = _CODES.get(status, _REASONS[status].replace(" ", ""))
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode(), {"Content-Type": "application/xml"})


class Connection(asyncio.Protocol):
    """One keep-alive connection: requests are answered in the order they come."""

    def __init__(self, carry_out: Callable[[Request], Answer]) -> None:
        self._carry_out = carry_out
        self._transport: asyncio.Transport
        self._pending = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse whoever is not on this machine."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if transport.get_extra_info("peername")[0] != "127.0.0.1":
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete by now."""
        self._pending += data
        while not self._transport.is_closing() and (end := self._pending.find(b"\r\n\r\n")) >= 0:
            target, headers = _head(bytes(self._pending[:end]))
            if target is None:
                self._give_up(refusal(400))
                return
            size = _body_size(headers)
            if isinstance(size, Answer):
                self._give_up(size)
                return
            if len(self._pending) < end + 4 + size:
                return
            body = bytes(self._pending[end + 4 : end + 4 + size])
            del self._pending[: end + 4 + size]
            self._transport.write(self._carry_out(_request(*target, headers, body)).encode())
        if len(self._pending) > MAX_HEAD and b"\r\n\r\n" not in self._pending:
            self._give_up(refusal(400))

    def _give_up(self, last: Answer) -> None:
        self._transport.write(last.encode())
        self._transport.close()


def _head(raw: bytes) -> tuple[tuple[str, str] | None, dict[str, str]]:
    """Return ((method, target), headers), or None for a request line that is none."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    match first.split(" "):
        case [method, target, "HTTP/1.1"]:
            return (method, target), headers
        case _:
            return None, headers


def _body_size(headers: dict[str, str]) -> int | Answer:
    """Return how many bytes follow the head, or why the request is refused."""
    if headers.get("host", "").rpartition(":")[0] not in {"127.0.0.1", "localhost"} or "origin" in headers:
        return refusal(403)
    if "transfer-encoding" in headers:
        return refusal(411)
    size = headers.get("content-length", "0")
    if not (size.isascii() and size.isdigit()):
        return refusal(400)
    return int(size) if int(size) <= MAX_BODY else refusal(413)


def _request(method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
    parts = urlsplit(target)
    _, _, key = unquote(parts.path).removeprefix("/").partition("/")
    return Request(method, key, dict(parse_qsl(parts.query, keep_blank_values=True)), headers, body)
