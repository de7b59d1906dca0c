"""Sync: read orders page by page beside the polls, and tell of them what the sync is for.

    open sync -> its next page -> one transaction: snapshots + outbox + the sync's own cursor and counts -> ended

One page at a time, between two polls and never during one: what is stored was always read after what it replaces.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from relay.domain.connections import Connection, Cursor, Lease, Polled
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.syncs import Announce, Moved, OpenSync, SyncKind
from relay.ports import Clock, Connector, Dice, OutboxEntry, Page, Syncs
from relay.stages.observe import Telling
from relay.stages.poll import Patience
from relay.stages.take import Take, Taken

log = structlog.get_logger()


@dataclass
class Sync:
    """One connection's syncs, one after the other. `synced` is told where polls begin once the first is through."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Syncs
    take: Take
    clock: Clock
    dice: Dice
    patience: Patience
    synced: Callable[[Cursor | None], None] = field(default=lambda _: None, init=False)
    open: OpenSync | None = field(default=None, init=False)
    asked: OpenSync | None = field(default=None, init=False)
    """A poll that somebody asked for."""
    due_at: datetime | None = field(default=None, init=False)
    """When there is something to read; None: nothing is."""
    _pages: AsyncIterator[Page] | None = field(default=None, init=False)
    _told: set[str] = field(default_factory=set, init=False)
    _compare_at: datetime | None = field(init=False)

    def __post_init__(self) -> None:
        self._compare_at = self.connection.compare_due_at if self.connection.schedule.compare_every else None

    @property
    def holds_polls(self) -> bool:
        """Whether polls wait for the end of what is open."""
        return self.open is not None and self.open.holds_polls

    async def look(self) -> None:
        """Look for what is to be done: something new, or nothing any more. Raises Unavailable."""
        found = await self.store.open_syncs(self.connection.id)
        self.asked = next((each for each in found if each.kind is SyncKind.POLL), None)
        walk = next((each for each in found if each.kind is not SyncKind.POLL), None)
        if walk is None or self.open is None or walk.id != self.open.id:
            await self._turn_to(walk)

    async def answer(self, asked: OpenSync, polled: Polled) -> None:
        """Tell what came of a poll that was asked for. Raises LeaseLost, Unavailable."""
        await self.store.save_poll_asked(self.lease, asked.id, polled)
        self.asked = None

    async def run_once(self) -> Transient | Permanent | None:
        """The next page, or the end. What is handed on concerns the polls: refused credentials, or what they wait for.

        Any other failure only delays the sync. Raises LeaseLost, and Unavailable when the store is not there.
        """
        if self.open is None:
            await self._compare()
            return None
        async with self.take.gate.page():
            return await self._page(self.open)

    async def _page(self, sync: OpenSync) -> Transient | Permanent | None:
        began = self.clock()
        page = await self._next(sync)
        if isinstance(page, Page):
            await self._taken(sync, page, began)
            return None
        if page is None:
            await self._ended(sync)
            return None
        await self._failed(sync, page)
        return page if sync.holds_polls or isinstance(page, CredentialsRefused) else None

    async def _next(self, sync: OpenSync) -> Page | Transient | Permanent | None:
        if not sync.started:
            try:
                total = await self.connector.count(sync.begin)
            except (Transient, Permanent) as error:
                return error
            await self.store.begin_sync(self.lease, sync.id, total)
            self.open = replace(sync, started=True)
        if self._pages is None:
            self._pages = self.connector.walk(sync.cursor, sync.begin)
        return await self.take.next(self._pages)

    async def _taken(self, sync: OpenSync, page: Page, began: datetime) -> None:
        new = tuple(each for each in dict.fromkeys(page.warnings) if each not in self._told)

        async def keep(snapshots: Sequence[Snapshot], entries: Sequence[OutboxEntry], taken: Taken) -> bool:
            moved = Moved(sync.id, page.cursor, taken.read, taken.told, taken.rejected, new)
            return await self.store.save_sync_page(self.lease, self.connection, snapshots, entries, moved)

        taken = await self.take.page(page, self._telling(sync), keep)
        if taken.kept:
            self._told.update(new)
            self.open = replace(sync, started=True, cursor=page.cursor, failures=0)
            # What nobody waits for leaves the ERP half of the time to others.
            rest = self.clock() - began if sync.kind is SyncKind.COMPARE else timedelta(0)
            self.due_at = self._in_its_hours(sync, self.clock() + rest)
        else:
            # Somebody cancelled it while its page was read.
            await self._turn_to(None)
            await self.look()

    async def _ended(self, sync: OpenSync) -> None:
        await self.store.end_sync(self.lease, sync.id)
        log.info("sync.ended", connection=self.connection.id, sync=sync.id, kind=sync.kind)
        if sync.kind is SyncKind.FIRST:
            self.synced(sync.cursor)
        await self._turn_to(None)
        await self.look()

    async def _failed(self, sync: OpenSync, error: Transient | Permanent) -> None:
        failures = sync.failures + 1
        await self.store.save_sync_failure(self.lease, sync.id, failures, str(error))
        await self._turn_to(replace(self.open or sync, failures=failures))
        self.due_at = self.clock() + self.patience.wait(failures, error, self.dice())
        log.warning("sync.delayed", connection=self.connection.id, sync=sync.id, problem=str(error), failures=failures)

    async def _compare(self) -> None:
        """All orders are to be compared again."""
        every = self.connection.schedule.compare_every
        assert every is not None
        self._compare_at = self.clock() + every
        await self.store.start_compare(self.lease, self._compare_at)
        await self.look()

    async def _turn_to(self, sync: OpenSync | None) -> None:
        if isinstance(self._pages, AsyncGenerator):
            await self._pages.aclose()
        self._pages, self.open = None, sync
        self.due_at = self._in_its_hours(sync, self.clock()) if sync else self._next_compare()

    def _next_compare(self) -> datetime | None:
        return self._compare_at and self._at_night(self._compare_at)

    def _in_its_hours(self, sync: OpenSync, at: datetime) -> datetime:
        return self._at_night(at) if sync.kind is SyncKind.COMPARE else at

    def _at_night(self, at: datetime) -> datetime:
        return self.connection.schedule.off_peak().next_open(at) or at

    def _telling(self, sync: OpenSync) -> Telling:
        own = sync.announce is Announce.SNAPSHOT
        begin = sync.begin if own else self.connection.history_from
        return Telling(sync.announce, begin, known_only=sync.kind is SyncKind.MAPPING)
