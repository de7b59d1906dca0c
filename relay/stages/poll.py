"""Poll: read what changed, tell what differs, store both with the cursor.

    pages of whole orders -> diff against snapshots -> one transaction per page: snapshots + outbox + cursor

A crash between pages resumes at the last stored cursor; a page read twice makes no second event.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from relay import metrics
from relay.domain.connections import Connection, ConnectionState, Cursor, Lease, Polled
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.retry import backoff
from relay.domain.schedules import Rhythm, interval
from relay.ports import Clock, Connector, Dice, Orders, OutboxEntry, Page
from relay.stages.observe import Telling
from relay.stages.take import Take, Taken

log = structlog.get_logger()

MOST_NOTICES = 20
RECONNECT = (
    "Check in the ERP that this user exists, may log in to its API and has this password; then `relay connections "
    "resume`. For another user or password: `relay connections reconnect`"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait after an ERP failed: `base` doubled per failure, at most `limit`."""

    base: timedelta
    limit: timedelta

    def wait(self, failures: int, error: Transient | Permanent, dice: float) -> timedelta:
        """The wait after so many failures in a row; a wish of the ERP is obeyed up to the limit."""
        wait = backoff(failures, dice, base=self.base, cap=self.limit)
        if isinstance(error, Transient) and error.retry_after is not None:
            # Capped as a number: what an ERP writes there may be more than a time span can hold.
            asked = min(error.retry_after, self.limit.total_seconds())
            wait = timedelta(seconds=max(wait.total_seconds(), asked))
        return wait


@dataclass
class _Sum:
    """What the pages of one poll came to."""

    began: datetime
    read: int = 0
    told: int = 0
    notices: dict[str, None] = field(default_factory=dict)


@dataclass
class Poll:
    """One connection's polling. `floor` is the shortest wait between two polls that its ERP is given."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Orders
    take: Take
    clock: Clock
    dice: Dice
    patience: Patience
    floor: timedelta = timedelta(0)
    cursor: Cursor | None = field(init=False)
    failures: int = field(init=False)
    quiet: int = field(init=False)

    def __post_init__(self) -> None:
        self.cursor, self.failures, self.quiet = (
            self.connection.cursor,
            self.connection.failures,
            self.connection.quiet,
        )

    def begin_at(self, cursor: Cursor | None) -> None:
        """The first sync is through: changes are read from here on."""
        self.cursor = cursor

    async def run_once(self) -> Polled:
        """One poll: everything that changed since the cursor. How it ended is stored and returned.

        An ERP that fails is no error here: it is polled again later. Raises LeaseLost, and Unavailable when the
        store is not there.
        """
        came = _Sum(self.clock())
        pages = self.connector.changed_since(self.cursor)
        while True:
            async with self.take.gate.page():
                page = await self.take.next(pages)
                if not isinstance(page, Page):
                    break
                await self._take(page, came)
            if not self.connection.schedule.hours.is_open(self.clock()):
                # What is left is read when the ERP may be asked again, from the cursor on.
                return await self._ended(None, came)
        return await self._ended(page, came)

    async def failed(self, error: Transient | Permanent) -> Polled:
        """A sync for whose end polls wait met a failure, or any sync refused credentials: as if a poll had."""
        return await self._ended(error, _Sum(self.clock()))

    async def recovered(self) -> None:
        """A sync for whose end polls wait goes on after failures."""
        self.failures = 0
        await self.store.save_polled(self.lease, Polled(ConnectionState.ACTIVE, self.clock()))

    async def _ended(self, error: Transient | Permanent | None, came: _Sum) -> Polled:
        polled = self._polled(error, came)
        await self.store.save_polled(self.lease, polled)
        metrics.POLLS.labels("failed" if polled.failures else "well").inc()
        # A quiet poll is no news; ten thousand connections would fill the log with it.
        tell = log.info if came.told or polled.failures else log.debug
        tell(
            "connection.polled",
            connection=self.connection.id,
            events=came.told,
            problem=polled.problem,
            failures=polled.failures,
            notices=len(polled.notices),
        )
        return polled

    async def _take(self, page: Page, came: _Sum) -> None:
        async def keep(snapshots: Sequence[Snapshot], entries: Sequence[OutboxEntry], _: Taken) -> bool:
            await self.store.save_page(self.lease, self.connection, snapshots, entries, page.cursor)
            return True

        taken = await self.take.page(page, Telling(begin=self.connection.history_from), keep)
        self.cursor = page.cursor
        came.read += taken.read
        came.told += taken.told
        if len(came.notices) < MOST_NOTICES:
            came.notices.update(dict.fromkeys(page.warnings))

    def _polled(self, error: Transient | Permanent | None, came: _Sum) -> Polled:
        notices = tuple(came.notices)[:MOST_NOTICES]
        if isinstance(error, CredentialsRefused):
            self.failures += 1
            # Never tried again by itself: ERPs lock accounts that keep knocking.
            refusal = f"{error}. {RECONNECT}"
            return Polled(ConnectionState.NEEDS_RECONNECT, self.clock(), self.failures, refusal, notices)
        if error is None:
            self.failures, self.quiet = 0, 0 if came.told else self.quiet + 1
            wait, why = interval(self._rhythm(came), self.dice())
        else:
            self.failures += 1
            wait, why = self.patience.wait(self.failures, error, self.dice()), "after a failure"
        problem = None if error is None else str(error)
        due_at, why = self._opened(self.clock() + wait, why)
        counts = (self.quiet, came.read, came.told)
        return Polled(ConnectionState.ACTIVE, due_at, self.failures, problem, notices, why, *counts)

    def _rhythm(self, came: _Sum) -> Rhythm:
        connection = self.connection
        took = self.clock() - came.began
        return Rhythm(connection.poll_every, connection.schedule.slowest, self.floor, self.quiet, took)

    def _opened(self, due_at: datetime, why: str) -> tuple[datetime, str]:
        opens = self.connection.schedule.hours.next_open(due_at)
        return (opens, "its hours begin then") if opens and opens > due_at else (due_at, why)
