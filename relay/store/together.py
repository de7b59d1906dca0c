"""Recording together: what the runners of one worker record at the same time goes into one transaction.

    record(recording) ... -> one transaction for all that came meanwhile -> the next heads of each

With thousands of endpoints each would otherwise pay for a transaction of its own. Nobody waits for another: a recording
whose rows somebody holds just now is left out and comes again, for as long as that takes, and one that fails, fails
alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt
from relay.domain.errors import LeaseLost, Transient
from relay.ports import Heads, Rules

MOST = 500
"""Attempts in one transaction."""
AT_ONCE = 2
"""Transactions under way: while one is committed the next is made."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds until one that was left out comes again, doubling: most rows are held for milliseconds, few for minutes."""


@dataclass(slots=True, eq=False)
class Recording:
    """What one runner records."""

    lease: Lease
    attempts: Sequence[Attempt]
    rules: Rules
    done: "asyncio.Future[Heads]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    pause: float = FIRST_PAUSE
    left_out: bool = False
    """Whether others held its rows when it was to be written."""


Write = Callable[[Sequence[Recording]], Awaitable[dict[str, Heads | LeaseLost]]]
"""Records in one transaction; what came of it by endpoint, without those that were left out."""


class Together:
    """Collects recordings while others are written."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: deque[Recording] = deque()
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def record(self, mine: Recording) -> Heads:
        """Write it: at once when nobody else writes, with others otherwise. Raises what writing it alone raises."""
        self._waiting.append(mine)
        self._go_on()
        # A runner that is cancelled does not take back what is written with others.
        return await asyncio.shield(mine.done)

    def _go_on(self) -> None:
        if self._waiting and self._writing < AT_ONCE:
            self._writing += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._waiting:
            for each in await self._left(self._next()):
                asyncio.get_running_loop().call_later(each.pause, self._again, each)
        self._writing -= 1

    def _again(self, left: Recording) -> None:
        left.pause, left.left_out = min(2 * left.pause, LONGEST_PAUSE), True
        self._waiting.append(left)
        self._go_on()

    def _next(self) -> list[Recording]:
        """One of each endpoint: of a lease that was lost and the one after it, each is judged by itself."""
        some = {self._waiting[0].lease.subject: self._waiting.popleft()}
        size = len(next(iter(some.values())).attempts)
        while self._waiting and size + len(self._waiting[0].attempts) <= MOST:
            if self._waiting[0].lease.subject in some:
                break
            each = self._waiting.popleft()
            some[each.lease.subject] = each
            size += len(each.attempts)
        return list(some.values())

    async def _left(self, some: Sequence[Recording]) -> list[Recording]:
        """Write them; those that were left out."""
        found: Mapping[str, Heads | Exception]
        try:
            found = await self._write(some)
        except Transient as error:
            found = dict.fromkeys((each.lease.subject for each in some), error)
        except Exception as error:  # noqa: BLE001 - it is the runner's to know whose recording it was
            if len(some) > 1:
                return [left for each in some for left in await self._left([each])]
            found = {some[0].lease.subject: error}
        for each in some:
            if each.lease.subject in found:
                _told(each, found[each.lease.subject])
        return [each for each in some if each.lease.subject not in found]


def _told(each: Recording, found: Heads | Exception) -> None:
    if isinstance(found, Exception):
        each.done.set_exception(found)
    else:
        each.done.set_result(found)
