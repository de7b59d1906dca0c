"""Poll: read what changed, tell what differs, store both with the cursor.

    pages of whole orders -> diff against snapshots -> one transaction per page: snapshots + outbox + cursor

A crash between pages resumes at the last stored cursor; a page read twice makes no second event.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from relay import metrics
from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection, ConnectionState, Cursor, Lease, Polled
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.retry import backoff
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
class Poll:
    """One connection's polling."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Orders
    take: Take
    clock: Clock
    dice: Dice
    patience: Patience
    cursor: Cursor | None = field(init=False)
    synced: bool = field(init=False)
    failures: int = field(init=False)

    def __post_init__(self) -> None:
        self.cursor, self.synced, self.failures = (
            self.connection.cursor,
            self.connection.synced,
            self.connection.failures,
        )

    async def run_once(self) -> Polled:
        """One poll: everything that changed since the cursor. How it ended is stored and returned.

        An ERP that fails is no error here: it is polled again later. Raises LeaseLost, and Unavailable when the
        store is not there.
        """
        notices: dict[str, None] = {}
        events = 0
        pages = self.connector.changed_since(self.cursor)
        while isinstance(page := await next_page(pages), Page):
            events += await self._take(page)
            if len(notices) < MOST_NOTICES:
                notices.update(dict.fromkeys(page.warnings))
        return await self._ended(page, events, tuple(notices)[:MOST_NOTICES])

    async def refused(self, error: CredentialsRefused) -> Polled:
        """A sync met refused credentials: the connection needs a person, as after a poll."""
        return await self._ended(error, 0, ())

    async def _ended(self, error: Transient | Permanent | None, events: int, notices: tuple[str, ...]) -> Polled:
        polled = self._polled(error, notices)
        await self.store.save_polled(self.lease, polled)
        metrics.POLLS.labels("failed" if polled.failures else "well").inc()
        # A quiet poll is no news; ten thousand connections would fill the log with it.
        tell = log.info if events or polled.failures else log.debug
        tell(
            "connection.polled",
            connection=self.connection.id,
            events=events,
            problem=polled.problem,
            failures=polled.failures,
            notices=len(polled.notices),
        )
        return polled

    async def _take(self, page: Page) -> int:
        telling = Telling(first=ChangeKind.CREATED if self.synced else ChangeKind.SNAPSHOT)

        async def keep(snapshots: Sequence[Snapshot], entries: Sequence[OutboxEntry], _: Taken) -> bool:
            await self.store.save_page(self.lease, self.connection, snapshots, entries, page.cursor)
            return True

        taken = await self.take.page(page, telling, keep)
        self.cursor = page.cursor
        return taken.told

    def _polled(self, error: Transient | Permanent | None, notices: tuple[str, ...]) -> Polled:
        if error is None:
            self.synced, self.failures = True, 0
            return Polled(ConnectionState.ACTIVE, self.clock() + self.connection.poll_every, notices=notices)
        self.failures += 1
        if isinstance(error, CredentialsRefused):
            # Never tried again by itself: ERPs lock accounts that keep knocking.
            problem = f"{error}. {RECONNECT}"
            return Polled(ConnectionState.NEEDS_RECONNECT, self.clock(), self.failures, problem, notices)
        due_at = self.clock() + self.patience.wait(self.failures, error, self.dice())
        return Polled(ConnectionState.ACTIVE, due_at, self.failures, str(error), notices)


async def next_page(pages: AsyncIterator[Page]) -> Page | Transient | Permanent | None:
    """The next page, what stands in its way, or None at the end. Only the ERP's failures: the store's are others'."""
    try:
        return await anext(pages, None)
    except (Transient, Permanent) as error:
        return error
