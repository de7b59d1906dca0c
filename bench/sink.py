"""The receiver in a process of its own: the one that `relay listen` uses, verifying every signature.

    parent: sink() -> Sink.url, Sink.taken()        child: python -m bench.sink, told on its standard input what to do

Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
import uvloop

from relay.demo.received import Received
from relay.demo.receiver import Tally, receiver
from relay.domain.signing import new_secret, parse_secret

LONGEST_LINE = 2**28


@dataclass(frozen=True, slots=True)
class Taken:
    """What arrived since the last look: requests, how many different deliveries, and when each event came first."""

    requests: int
    unique: int
    unverified: int
    out_of_order: int
    times: dict[str, float]


@dataclass(frozen=True, slots=True)
class Sink:
    """A running receiver and the secret that it trusts."""

    url: str
    secret: str = field(repr=False)
    process: asyncio.subprocess.Process = field(repr=False)

    async def taken(self) -> Taken:
        """What came since the last call."""
        return Taken(**orjson.loads(await _asked(self.process, "taken")))


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Run a receiver for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.sink",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )
    try:
        secret = new_secret(os.urandom(32))
        url = (await _asked(process, secret)).decode().strip()
        yield Sink(url, secret, process)
    finally:
        assert process.stdin
        # It ends when nobody can tell it anything any more, however this process ends.
        process.stdin.close()
        await process.wait()


async def _asked(process: asyncio.subprocess.Process, what: str) -> bytes:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{what}\n".encode())
    answer = await process.stdout.readline()
    if not answer:
        raise RuntimeError("the receiver's process has ended")
    return answer


@dataclass(slots=True)
class _Book:
    requests: int = 0
    deliveries: set[str] = field(default_factory=set)
    times: dict[str, float] = field(default_factory=dict)

    def answer(self, each: Received) -> int:
        self.requests += 1
        self.times.setdefault(each.event_id, time.monotonic())
        self.deliveries.add(each.delivery)
        return HTTPStatus.NO_CONTENT

    def said(self, tally: Tally) -> bytes:
        taken = {"requests": self.requests, "unique": len(self.deliveries), "times": self.times}
        return orjson.dumps({**taken, "unverified": tally.unverified, "out_of_order": tally.out_of_order})


async def _serve() -> None:
    book = _Book()

    def answer(each: Received) -> int:
        return book.answer(each)

    secret = parse_secret((await _told()).strip())
    async with receiver([secret], answer=answer) as running:
        _tell(running.url.encode())
        while await _told():
            _tell(book.said(running.tally))
            book, running.tally = _Book(), Tally()


async def _told() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
