"""The receiver, in a process of its own: it takes what comes at once, and looks at it when the clock has stopped.

    parent: sink(folder) -> Sink.url, Sink.tls_url, Sink.count(), Sink.taken()
    child: python -m bench.sink, told on its standard input what to do

So that it is faster than any client, a request is answered (204) as soon as it is there. Signatures, order and
duplicates are judged from the kept bytes when `taken` is asked; beyond 40,000, the oldest as others come, and of these
every hundredth signature. What is sent to a path that begins with /hang is never answered. Times are of the monotonic
clock, which all processes of a machine share.
"""

import asyncio
import re
import ssl
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import orjson
import uvloop

from bench.certificate import certificate
from relay.domain.signing import SignatureRefused, parse_secret, verify

HANG = "hang"
"""Begins the paths that are never answered."""
KEPT = 40_000
SAMPLE = 100
LONGEST_LINE = 2**28
BACKLOG = 4096

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ORDER = re.compile(rb'"order_id": ?"([^"]*)"')
_SEQUENCE = re.compile(rb'"sequence": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Taken:
    """What was answered since the last look: requests, different deliveries, and when each event came first."""

    requests: int
    unique: int
    unverified: int
    out_of_order: int
    times: dict[str, float]


@dataclass(frozen=True, slots=True)
class Sink:
    """A running receiver. `authority` is the file of the certificate that its TLS certificate is from."""

    url: str
    tls_url: str
    authority: Path
    secret: str = field(repr=False)
    process: asyncio.subprocess.Process = field(repr=False)

    async def count(self) -> int:
        """How many requests were answered since they were last taken."""
        return int(await _asked(self.process, b"count"))

    async def taken(self) -> Taken:
        """What came since the last call."""
        return Taken(**orjson.loads(await _asked(self.process, b"taken")))


@asynccontextmanager
async def sink(folder: Path, secret: str) -> AsyncIterator[Sink]:
    """Run a receiver for as long as the block lasts; its certificate is written to `folder`."""
    authority, own = certificate(folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.sink"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )
    try:
        told = await _asked(process, orjson.dumps({"secret": secret, "certificate": str(own)}))
        yield Sink(**orjson.loads(told), authority=authority, secret=secret, process=process)
    finally:
        assert process.stdin
        # It ends when nobody can tell it anything any more, however this process ends.
        process.stdin.close()
        await process.wait()


async def _asked(process: asyncio.subprocess.Process, what: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    process.stdin.write(what + b"\n")
    answer = await process.stdout.readline()
    if not answer:
        raise RuntimeError("the receiver's process has ended")
    return answer


@dataclass(slots=True)
class _Book:
    """What came, and what was found in it."""

    key: bytes
    requests: int = 0
    unverified: int = 0
    out_of_order: int = 0
    _raw: deque[tuple[float, bytes, int]] = field(default_factory=deque)
    _deliveries: set[str] = field(default_factory=set)
    _times: dict[str, float] = field(default_factory=dict)
    _latest: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def add(self, request: bytes, body: int) -> None:
        """A whole request, and where its body begins."""
        self.requests += 1
        self._raw.append((time.monotonic(), request, body))
        if len(self._raw) > KEPT:
            # One at a time: who waits for an answer must not wait for a long look back.
            self._look(verified=self.requests % SAMPLE == 0)

    def said(self) -> bytes:
        while self._raw:
            self._look(verified=True)
        found = {"unverified": self.unverified, "out_of_order": self.out_of_order, "times": self._times}
        return orjson.dumps({"requests": self.requests, "unique": len(self._deliveries), **found})

    def _look(self, *, verified: bool) -> None:
        """Judge the oldest."""
        at, request, start = self._raw.popleft()
        first, *lines = request[: start - 4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._times.setdefault(headers["webhook-id"], at)
        if headers["relay-delivery"] not in self._deliveries:
            self._deliveries.add(headers["relay-delivery"])
            self._follow(first, request)
        if verified:
            self._verify(headers, request[start:], int(time.time() - (time.monotonic() - at)))

    def _follow(self, first: str, request: bytes) -> None:
        """Whether it is above what came before for this order, on this path."""
        order, sequence = _ORDER.search(request), _SEQUENCE.search(request)
        if order and sequence:
            lane = first, order[1]
            self.out_of_order += int(sequence[1]) <= self._latest.get(lane, 0)
            self._latest[lane] = max(int(sequence[1]), self._latest.get(lane, 0))

    def _verify(self, headers: dict[str, str], body: bytes, at: int) -> None:
        try:
            verify([self.key], headers, body, at)
        except SignatureRefused:
            self.unverified += 1


class _Shelf:
    """The book that is open."""

    def __init__(self, key: bytes) -> None:
        self.book = _Book(key)

    def taken(self) -> bytes:
        """What the book says; a new one is opened."""
        book, self.book = self.book, _Book(self.book.key)
        return book.said()


class _Caller(asyncio.Protocol):
    """One connection: POST requests with a length, as our clients send them."""

    def __init__(self, shelf: _Shelf) -> None:
        self._shelf, self._buffer = shelf, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(buffer) < whole:
                break
            if not buffer.startswith(f"POST /{HANG}".encode()):
                self._shelf.book.add(buffer[:whole], end + 4)
                self._transport.write(_ANSWER)
            buffer = buffer[whole:]
        self._buffer = buffer


async def _serve() -> None:
    told = orjson.loads(await _told())
    shelf, loop = _Shelf(parse_secret(told["secret"])), asyncio.get_running_loop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(told["certificate"])
    servers = [
        await loop.create_server(lambda: _Caller(shelf), "127.0.0.1", 0, backlog=BACKLOG, ssl=each)
        for each in (None, tls)
    ]
    plain, secure = (each.sockets[0].getsockname()[1] for each in servers)
    _tell(orjson.dumps({"url": f"http://127.0.0.1:{plain}/", "tls_url": f"https://127.0.0.1:{secure}/"}))
    while asked := (await _told()).strip():
        _tell(str(shelf.book.requests).encode() if asked == "count" else shelf.taken())


async def _told() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
