"""Recording together: what the runners of one worker record at the same time goes into one transaction.

    record(recording) ... -> one transaction for all that came meanwhile -> the next heads of each

With thousands of endpoints each would otherwise pay for a transaction of its own. A recording whose lease is lost, or
whose endpoint somebody holds just now, is left out and goes by itself: it fails, or waits, for no other.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt
from relay.ports import Heads, Rules

MOST = 500
"""Attempts in one transaction."""
AT_ONCE = 2
"""Transactions under way: while one is committed the next is made."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What one runner records."""

    lease: Lease
    attempts: Sequence[Attempt]
    rules: Rules
    done: "asyncio.Future[Heads]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


Write = Callable[[Sequence[Recording]], Awaitable[dict[str, Heads]]]
"""Records in one transaction; heads by endpoint, without those that were left out. One alone is never left out."""


class Together:
    """Collects recordings while others are written."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: deque[Recording] = deque()
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def record(self, mine: Recording) -> Heads:
        """Write it: at once when nobody else writes, with others otherwise. Raises what writing it alone raises."""
        if self._writing or self._waiting:
            self._waiting.append(mine)
            self._go_on()
            # A runner that is cancelled does not take back what is written with others.
            return await asyncio.shield(mine.done)
        self._writing += 1
        try:
            return (await self._write([mine]))[mine.lease.subject]
        finally:
            self._writing -= 1
            self._go_on()

    def _go_on(self) -> None:
        if self._waiting and self._writing < AT_ONCE:
            self._writing += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._waiting:
            some = self._next()
            left = await self._write_all(some) if len(some) > 1 else some
            for each in left:
                await self._write_all([each])
        self._writing -= 1

    def _next(self) -> list[Recording]:
        some = [self._waiting.popleft()]
        size = len(some[0].attempts)
        while self._waiting and size + len(self._waiting[0].attempts) <= MOST:
            some.append(self._waiting.popleft())
            size += len(some[-1].attempts)
        return some

    async def _write_all(self, some: Sequence[Recording]) -> list[Recording]:
        """Write them; those that were left out."""
        try:
            heads = await self._write(some)
        except Exception as error:  # noqa: BLE001 - it is the runners' to know: each gets it
            for each in some:
                _told(each, error)
            return []
        for each in some:
            if each.lease.subject in heads:
                _told(each, heads[each.lease.subject])
        return [each for each in some if each.lease.subject not in heads]


def _told(each: Recording, found: Heads | Exception) -> None:
    if each.done.done():  # nobody waits for it any more
        return
    if isinstance(found, Exception):
        each.done.set_exception(found)
    else:
        each.done.set_result(found)
