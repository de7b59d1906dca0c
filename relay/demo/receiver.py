"""A local webhook receiver: verifies, answers, and keeps count of what came.

    request -> signature -> answer -> tally -> `received`

`relay listen`, the demo, the flow tests and the bench use it. It takes any path, and whatever body is signed: one that
is not an event of ours has the type "?". It proves that it wants webhooks when it is asked to, by a challenge or a
CloudEvents handshake. It is for one's own machine: no TLS, no protection against slow clients.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

from relay.demo.listener import NOTHING_MORE, Connection, Reply
from relay.demo.received import Kind, Received, challenge_of, handshake_of, problem, webhook_of
from relay.domain.errors import UserError
from relay.domain.signing import TOLERANCE, VerifyingKey
from relay.domain.verification import ALLOWED_ORIGIN, ALLOWED_RATE

KEPT = 10_000
"""Receipts kept in `received` when nobody takes them out; older ones make room."""

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
    tests: int = 0
    challenges: int = 0
    """Challenges and handshakes; neither these nor tests are in the counts above, unless their signature is bad."""
    latest: dict[str, int] = field(default_factory=dict)
    """Order id -> its latest sequence."""
    _seen: set[str] = field(default_factory=set, repr=False)

    def count(self, each: Received, status: int) -> None:
        """Count one request and what it was answered."""
        if each.kind is Kind.HANDSHAKE or (each.kind is Kind.CHALLENGE and each.verified):
            self.challenges += 1
            return
        if each.kind is Kind.TEST and each.verified:
            self.tests += 1
            return
        self.received += 1
        self.unverified += not each.verified
        if not each.verified or not _taken(status):
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

    allowed_rate = "*"
    """Webhooks per minute that a handshake allows."""

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

    def handle(self, method: str, headers: dict[str, str], body: bytes) -> Reply | Awaitable[Reply]:
        """One request, header names in lower case: verify, ask `answer` about good ones, count, and reply."""
        each = handshake_of(headers) if method == "OPTIONS" else self._read(headers, body)
        if not each.verified and each.kind is not Kind.HANDSHAKE:
            return self._done(each, HTTPStatus.UNAUTHORIZED)
        status = self._answer(each)
        return self._done(each, status) if isinstance(status, int) else self._later(each, status)

    def _read(self, headers: dict[str, str], body: bytes) -> Received:
        return webhook_of(headers, body, problem(self._secrets, headers, body, self._tolerance))

    async def _later(self, each: Received, status: Awaitable[int]) -> Reply:
        return self._done(each, await status)

    def _done(self, each: Received, status: int) -> Reply:
        self.tally.count(each, status)
        if self.received.qsize() >= KEPT:
            self.received.get_nowait()
        self.received.put_nowait(each)
        if each.kind is Kind.CHALLENGE and _taken(status):
            return HTTPStatus.OK, challenge_of(each.body), NOTHING_MORE
        if each.kind is Kind.HANDSHAKE and _taken(status):
            allowed = {ALLOWED_ORIGIN: each.asked_by, ALLOWED_RATE: self.allowed_rate} if each.asked_by else {}
            return HTTPStatus.OK, "", {"allow": "OPTIONS, POST", **allowed}
        return status, each.problem, NOTHING_MORE


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

    It is asked about tests, challenges and handshakes, too; what it does not answer 2xx is not proved.

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


def _taken(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
