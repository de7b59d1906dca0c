"""A local webhook receiver: verifies, answers, and keeps count of what came.

    request -> signature -> answer -> tally -> `received`

`relay listen`, the demo, the flow tests and the bench use it. It takes any path, and whatever body is signed: one that
is not an event of ours has the type "?". It is for one's own machine: no TLS, no protection against slow clients.
"""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson

from relay.demo.listener import Connection, Reply
from relay.domain.errors import UserError
from relay.domain.signing import ATTEMPT, DELIVERY, ID, TIMESTAMP, TOLERANCE, SignatureRefused, VerifyingKey, verify

KEPT = 10_000
"""Receipts kept in `received` when nobody takes them out; older ones make room."""
LONGEST_NUMBER = 18


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came. `problem` says why `verified` is false."""

    event_id: str
    delivery: str
    attempt: int
    timestamp: int
    """The attempt's time as signed, unix seconds."""
    type: str
    """"?" when the body is not an event."""
    order_id: str
    sequence: int
    body: bytes
    verified: bool
    problem: str = ""


AnswerWith: TypeAlias = Callable[[Received], int | Awaitable[int]]


@dataclass(slots=True)
class Tally:
    """Is everything here, once and in order? Only what was answered 2xx counts as taken.

    A retry after a 2xx that the sender never saw is a duplicate; one after a refusal is not.
    """

    received: int = 0
    refused: int = 0
    """Answered other than 2xx, for a bad signature or because the answer said so."""
    unverified: int = 0
    unique: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    """New events whose sequence is not above the latest one of their order."""
    latest: dict[str, int] = field(default_factory=dict)
    """Order id -> its latest sequence."""
    _seen: set[str] = field(default_factory=set, repr=False)

    def count(self, each: Received, status: int) -> None:
        """Count one request and what it was answered."""
        self.received += 1
        self.unverified += not each.verified
        if not each.verified or not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            self.refused += 1
        elif each.event_id in self._seen:
            self.duplicates += 1
        else:
            self._take(each)

    def _take(self, each: Received) -> None:
        self._seen.add(each.event_id)
        self.unique += 1
        if not each.order_id:
            return
        latest = self.latest.get(each.order_id, 0)
        self.out_of_order += each.sequence <= latest
        self.latest[each.order_id] = max(latest, each.sequence)


class Receiver:
    """A running receiver: its `url`, what it `received` (a queue), and the `tally`."""

    def __init__(self, secrets: Sequence[VerifyingKey], answer: AnswerWith, tolerance: int) -> None:
        self.url = ""
        self.received: asyncio.Queue[Received] = asyncio.Queue()
        self.tally = Tally()
        self._secrets = tuple(secrets)
        self._answer = answer
        self._tolerance = tolerance

    def trust(self, secrets: Sequence[VerifyingKey]) -> None:
        """Verify with these keys from now on: an endpoint's secret is made after its URL is known."""
        self._secrets = tuple(secrets)

    def handle(self, headers: dict[str, str], body: bytes) -> Reply | Awaitable[Reply]:
        """One request, header names in lower case: verify, ask `answer` about good ones, count, and reply."""
        each = self._read(headers, body)
        if not each.verified:
            return self._done(each, HTTPStatus.UNAUTHORIZED)
        status = self._answer(each)
        return self._done(each, status) if isinstance(status, int) else self._later(each, status)

    def _read(self, headers: dict[str, str], body: bytes) -> Received:
        try:
            verify(self._secrets, headers, body, int(time.time()), self._tolerance)
            problem = ""
        except SignatureRefused as refused:
            problem = str(refused)
        kind, order_id, sequence = _event(body)
        return Received(
            event_id=headers.get(ID, ""),
            delivery=headers.get(DELIVERY, ""),
            attempt=_number(headers.get(ATTEMPT, "")),
            timestamp=_number(headers.get(TIMESTAMP, "")),
            type=kind,
            order_id=order_id,
            sequence=sequence,
            body=body,
            verified=not problem,
            problem=problem,
        )

    async def _later(self, each: Received, status: Awaitable[int]) -> Reply:
        return self._done(each, await status)

    def _done(self, each: Received, status: int) -> Reply:
        self.tally.count(each, status)
        if self.received.qsize() >= KEPT:
            self.received.get_nowait()
        self.received.put_nowait(each)
        return status, each.problem


def always(_: Received) -> int:
    """Take everything: 204 No Content."""
    return HTTPStatus.NO_CONTENT


@asynccontextmanager
async def receiver(
    secrets: Sequence[VerifyingKey],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    answer: AnswerWith = always,
    tolerance: int = TOLERANCE,
) -> AsyncIterator[Receiver]:
    """Listen until the block ends. `answer` gives the status of each verified webhook, at once or as an awaitable.

    Port 0 lets the system choose; `url` says which one it was.

    Raises:
        UserError: The address cannot be listened on.
    """
    running = Receiver(secrets, answer, tolerance)
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(running.handle, connections), host, port)
    except (OSError, OverflowError) as error:
        raise UserError(_why_not(host, port, error)) from error
    running.url = f"http://{f'[{host}]' if ':' in host else host}:{server.sockets[0].getsockname()[1]}/"
    try:
        yield running
    finally:
        server.close()
        for each in tuple(connections):
            await each.end()
        await server.wait_closed()


def _why_not(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop the program that holds it, or choose another port (0 for any)"
    return f"cannot listen on {host} port {port}: {error}"


def _event(body: bytes) -> tuple[str, str, int]:
    """The type, order id and sequence of an event; "?", "" and 0 for what is none."""
    try:
        event = _table(orjson.loads(body))
    except orjson.JSONDecodeError:
        return "?", "", 0
    data = _table(event.get("data"))
    kind, order_id, sequence = event.get("type"), data.get("order_id"), data.get("sequence")
    return (
        kind if isinstance(kind, str) else "?",
        order_id if isinstance(order_id, str) else "",
        sequence if isinstance(sequence, int) else 0,
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else 0
