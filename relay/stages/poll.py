"""Poll: read what changed, tell what differs, store both with the cursor.

    pages of whole orders -> diff against snapshots -> one transaction per page: snapshots + outbox + cursor

A crash between pages resumes at the last stored cursor; a page read twice makes no second event.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from relay import metrics
from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection, ConnectionState, Cursor, Lease, Polled
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.messages import Reason
from relay.domain.retry import backoff
from relay.ports import Clock, Connector, Dice, Orders, OutboxEntry, Page, Rejected
from relay.stages.observe import observed

log = structlog.get_logger()

MOST_NOTICES = 20
MOST_MET = 10_000
"""Rejected records remembered per connection, so that each is told once while a worker runs."""
RECONNECT = (
    "Check in the ERP that this user exists, may log in to its API and has this password; then `relay connections "
    "resume`. For another user or password: `relay connections reconnect`"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait after an ERP failed: `base` doubled per failure, at most `limit`."""

    base: timedelta
    limit: timedelta


@dataclass
class Poll:
    """One connection's polling. `saved` is called when a page has put something into the outbox."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Orders
    clock: Clock
    dice: Dice
    patience: Patience
    saved: Callable[[], None]
    cursor: Cursor | None = field(init=False)
    synced: bool = field(init=False)
    failures: int = field(init=False)
    _met: set[str] = field(default_factory=set, init=False)

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
        while isinstance(page := await _next(pages), Page):
            events += await self._take(page)
            if len(notices) < MOST_NOTICES:
                notices.update(dict.fromkeys(page.warnings))
        polled = self._polled(page, tuple(notices)[:MOST_NOTICES])
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
        first = ChangeKind.CREATED if self.synced else ChangeKind.SNAPSHOT
        before = await self.store.snapshots(self.connection.id, [order.remote_id for order in page.orders])
        snapshots, entries = observed(self.connection, page.orders, before, now=self.clock(), first=first)
        letters = self._new_letters(page.rejected)
        await self.store.save_page(self.lease, self.connection, snapshots, [*entries, *letters], page.cursor)
        self.cursor = page.cursor
        self._tell(letters)
        metrics.EVENTS_MADE.inc(len(entries))
        metrics.RECORDS_REJECTED.inc(len(letters))
        if entries or letters:
            self.saved()
        return len(entries)

    def _polled(self, error: Transient | Permanent | None, notices: tuple[str, ...]) -> Polled:
        if error is None:
            self.synced, self.failures = True, 0
            return Polled(ConnectionState.ACTIVE, self.clock() + self.connection.poll_every, notices=notices)
        self.failures += 1
        if isinstance(error, CredentialsRefused):
            # Never tried again by itself: ERPs lock accounts that keep knocking.
            problem = f"{error}. {RECONNECT}"
            return Polled(ConnectionState.NEEDS_RECONNECT, self.clock(), self.failures, problem, notices)
        return Polled(ConnectionState.ACTIVE, self.clock() + self._wait(error), self.failures, str(error), notices)

    def _wait(self, error: Transient | Permanent) -> timedelta:
        wait = backoff(self.failures, self.dice(), base=self.patience.base, cap=self.patience.limit)
        if isinstance(error, Transient) and error.retry_after is not None:
            # Capped as a number: what an ERP writes there may be more than a time span can hold.
            asked = min(error.retry_after, self.patience.limit.total_seconds())
            wait = timedelta(seconds=max(wait.total_seconds(), asked))
        return wait

    def _new_letters(self, rejected: Iterable[Rejected]) -> list[OutboxEntry]:
        """Letters for what was not met before: an ERP that is read whole shows the same junk in every pass."""
        return [letter for each in rejected if (letter := self._letter(each)).event_id not in self._met]

    def _tell(self, letters: Sequence[OutboxEntry]) -> None:
        if len(self._met) > MOST_MET:
            self._met.clear()
        for letter in letters:
            self._met.add(letter.event_id)
            log.warning(
                "record.rejected", connection=self.connection.id, remote_id=letter.remote_id, problem=letter.problem
            )

    def _letter(self, rejected: Rejected) -> OutboxEntry:
        remote_id, place, reason = map(_encodable, (rejected.remote_id, rejected.field, rejected.reason))
        seed = f"{self.connection.id}\n{remote_id}\n{place}\n{reason}\n"
        digest = hashlib.sha256(seed.encode(errors="replace") + rejected.raw).hexdigest()
        return OutboxEntry(
            # Derived from the record: a pass that meets the same junk again writes no second letter.
            event_id=f"rej_{digest[:32]}",
            stream="dead-letters",
            remote_id=remote_id or "?",
            sequence=0,
            type=Reason.REJECTED_RECORD,
            occurred_at=self.clock(),
            body=rejected.raw,
            problem=f"{place or 'record'}: {reason}",
        )


async def _next(pages: AsyncIterator[Page]) -> Page | Transient | Permanent | None:
    """The next page, what stands in its way, or None at the end. Only the ERP's failures: the store's are others'."""
    try:
        return await anext(pages, None)
    except (Transient, Permanent) as error:
        return error


def _encodable(text: str) -> str:
    """Text of a record that nobody could read: half a surrogate pair may stand in it."""
    return text.encode(errors="backslashreplace").decode()
