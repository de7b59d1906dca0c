"""Poll: read what changed, tell what differs, store both with the cursor.

    pages of whole orders -> diff against snapshots -> one transaction per page: snapshots + outbox + cursor

A crash between pages resumes at the last stored cursor; a page read twice makes no second event.
"""

import hashlib
from collections.abc import Callable
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
        try:
            async for page in self.connector.changed_since(self.cursor):
                events += await self._take(page)
                notices.update(dict.fromkeys(page.warnings))
        except (Transient, Permanent) as error:
            polled = self._failed(error)
        else:
            self.synced, self.failures = True, 0
            polled = Polled(
                ConnectionState.ACTIVE,
                self.clock() + self.connection.poll_every,
                notices=tuple(notices)[:MOST_NOTICES],
            )
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
            notices=len(notices),
        )
        return polled

    async def _take(self, page: Page) -> int:
        first = ChangeKind.CREATED if self.synced else ChangeKind.SNAPSHOT
        before = await self.store.snapshots(self.connection.id, [order.remote_id for order in page.orders])
        snapshots, entries = observed(self.connection, page.orders, before, now=self.clock(), first=first)
        letters = [self._letter(rejected) for rejected in page.rejected]
        await self.store.save_page(self.lease, self.connection, snapshots, [*entries, *letters], page.cursor)
        self.cursor = page.cursor
        metrics.EVENTS_MADE.inc(len(entries))
        metrics.RECORDS_REJECTED.inc(len(letters))
        if entries or letters:
            self.saved()
        return len(entries)

    def _failed(self, error: Transient | Permanent) -> Polled:
        self.failures += 1
        if isinstance(error, CredentialsRefused):
            # Never tried again by itself: ERPs lock accounts that keep knocking.
            return Polled(ConnectionState.NEEDS_RECONNECT, self.clock(), self.failures, str(error))
        wait = backoff(self.failures, self.dice(), base=self.patience.base, cap=self.patience.limit)
        if isinstance(error, Transient) and error.retry_after is not None:
            wait = max(wait, min(timedelta(seconds=error.retry_after), self.patience.limit))
        return Polled(ConnectionState.ACTIVE, self.clock() + wait, self.failures, str(error))

    def _letter(self, rejected: Rejected) -> OutboxEntry:
        seed = f"{self.connection.id}\n{rejected.remote_id}\n{rejected.field}\n{rejected.reason}\n"
        digest = hashlib.sha256(seed.encode() + rejected.raw).hexdigest()
        log.warning(
            "record.rejected",
            connection=self.connection.id,
            remote_id=rejected.remote_id,
            field=rejected.field,
            reason=rejected.reason,
        )
        return OutboxEntry(
            # Derived from the record: a pass that meets the same junk again writes no second letter.
            event_id=f"rej_{digest[:32]}",
            stream="dead-letters",
            remote_id=rejected.remote_id or "?",
            sequence=0,
            type=Reason.REJECTED_RECORD,
            occurred_at=self.clock(),
            body=rejected.raw,
            problem=f"{rejected.field or 'record'}: {rejected.reason}",
        )
