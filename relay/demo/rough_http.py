"""A small HTTP/1.1 server that can misbehave on purpose: cut bodies, reset connections, never answer.

    async with serve(answer) as port: ...        answer(Request) -> Reply

A framework would repair exactly the faults a simulator has to show: it sets a charset, completes lengths, closes
politely. So this reads requests from the socket itself; keep-alive works, chunked requests do not.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Manner = Literal["whole", "short", "reset", "silence"]
"""How a reply goes out: complete; fewer bytes than announced; a TCP reset; nothing until the client leaves."""

Charset = Literal["utf-8", "cp1252-declared", "cp1252-silent"]
"""How a server of TOTVS writes its text, and whether it says so."""

_LONGEST_LINE: Final = 8192
_BAD_REQUEST: Final = 400
_URI_TOO_LONG: Final = 414


@dataclass(frozen=True, slots=True)
class Request:
    """One request; query and header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; without `content_type` the header is left out."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"


def json_reply(status: int, content: Any, charset: Charset = "utf-8") -> Reply:
    """JSON in this charset; what CP1252 cannot say becomes a question mark."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    if charset == "utf-8":
        return Reply(status, text.encode("utf-8", "replace"), "application/json")
    declared = "; charset=iso-8859-1" if charset == "cp1252-declared" else ""
    return Reply(status, text.encode("cp1252", "replace"), f"application/json{declared}")


_HTML: Final = b"<html><head><title>Erro</title></head><body><h1>Internal Server Error</h1></body></html>"
ROUGH: Final[Mapping[str, Reply]] = {
    "html": Reply(500, _HTML, "text/html"),
    "html_200": Reply(200, _HTML, "text/html"),
    "503": Reply(503),
    "503_retry_after": Reply(503, headers={"Retry-After": "1"}),
    "429": Reply(429, headers={"Retry-After": "1"}),
    "401_empty": Reply(401),
    "empty": Reply(200, content_type="application/json"),
    "reset": Reply(0, manner="reset"),
    "timeout": Reply(0, manner="silence"),
}
"""Answers that no program of an ERP gives: those of what stands around it, and none at all."""

Answer = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def serve(answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve until the block ends; gives the port (a free one unless named). Open connections are cut at the end."""
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(answer, reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


async def _converse(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await _read(reader)) is not None:
            reply = request if isinstance(request, Reply) else await answer(request)
            if not await _send(reply, reader, writer):
                return
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request | Reply | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *rest = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return Reply(_BAD_REQUEST)
    named = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in named}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if len(first) > _LONGEST_LINE:
        return Reply(_URI_TOO_LONG)
    target = urlsplit(words[1])
    query = {name.lower(): value for name, value in parse_qsl(target.query, keep_blank_values=True)}
    return Request(words[0], unquote(target.path), query, headers, body)


async def _send(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send, or misbehave; answers whether the connection goes on."""
    if reply.manner == "reset":
        _reset(writer)
        return False
    if reply.manner == "silence":
        with suppress(ConnectionError):
            await reader.read(1)
        return False
    writer.write(_head(reply) + (reply.body if reply.manner == "whole" else reply.body[: len(reply.body) // 2]))
    await writer.drain()
    return reply.manner == "whole"


def _head(reply: Reply) -> bytes:
    known = {"Content-Length": str(len(reply.body)), **reply.headers}
    if reply.content_type:
        known["Content-Type"] = reply.content_type
    lines = "".join(f"{name}: {value}\r\n" for name, value in known.items())
    return f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\n{lines}\r\n".encode("latin-1")


def _phrase(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "")


def _reset(writer: asyncio.StreamWriter) -> None:
    at_once = struct.pack("ii", 1, 0)  # linger on, zero seconds: close() sends RST instead of FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()
