"""Sync: read orders page by page beside the polls, and tell of them what the sync is for.

    open sync -> its next page -> one transaction: snapshots + outbox + the sync's own cursor and counts -> ended

One page at a time, between two polls and never during one: what is stored was always read after what it replaces.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from relay.domain.connections import Connection, Lease
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.syncs import Announce, Moved, OpenSync
from relay.ports import Clock, Connector, Dice, OutboxEntry, Page, Syncs
from relay.stages.observe import Telling
from relay.stages.poll import Patience, next_page
from relay.stages.take import Take, Taken

log = structlog.get_logger()


@dataclass
class Sync:
    """One connection's syncs, one after the other."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Syncs
    take: Take
    clock: Clock
    dice: Dice
    patience: Patience
    open: OpenSync | None = field(default=None, init=False)
    due_at: datetime | None = field(default=None, init=False)
    """When there is something to do; None: nothing is."""
    _pages: AsyncIterator[Page] | None = field(default=None, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    @property
    def holds_polls(self) -> bool:
        """Whether polls wait for the end of what is open."""
        return self.open is not None and self.open.holds_polls

    async def look(self) -> None:
        """Look for what is to be done: a new sync, or none any more. Raises Unavailable."""
        found = await self.store.open_sync(self.connection.id)
        if found is None or self.open is None or found.id != self.open.id:
            await self._turn_to(found)

    async def run_once(self) -> CredentialsRefused | None:
        """The next page, or the end. An ERP that fails is asked again later; only refused credentials are handed on.

        Raises LeaseLost, and Unavailable when the store is not there.
        """
        assert self.open is not None
        sync = self.open
        page = await self._next(sync)
        if isinstance(page, Page):
            await self._taken(sync, page)
        elif page is None:
            await self.store.end_sync(self.lease, sync.id)
            log.info("sync.ended", connection=self.connection.id, sync=sync.id, kind=sync.kind)
            await self._turn_to(await self.store.open_sync(self.connection.id))
        else:
            await self._failed(sync, page)
        return page if isinstance(page, CredentialsRefused) else None

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
        return await next_page(self._pages)

    async def _taken(self, sync: OpenSync, page: Page) -> None:
        new = tuple(each for each in dict.fromkeys(page.warnings) if each not in self._told)

        async def keep(snapshots: Sequence[Snapshot], entries: Sequence[OutboxEntry], taken: Taken) -> bool:
            moved = Moved(sync.id, page.cursor, taken.read, taken.told, taken.rejected, new)
            return await self.store.save_sync_page(self.lease, self.connection, snapshots, entries, moved)

        taken = await self.take.page(page, self._telling(sync), keep)
        if taken.kept:
            self._told.update(new)
            self.open = replace(sync, started=True, cursor=page.cursor, failures=0)
            self.due_at = self.clock()
        else:
            # Somebody cancelled it while its page was read.
            await self._turn_to(await self.store.open_sync(self.connection.id))

    async def _failed(self, sync: OpenSync, error: Transient | Permanent) -> None:
        failures = sync.failures + 1
        await self.store.save_sync_failure(self.lease, sync.id, failures, str(error))
        await self._turn_to(replace(self.open or sync, failures=failures))
        self.due_at = self.clock() + self.patience.wait(failures, error, self.dice())
        log.warning("sync.delayed", connection=self.connection.id, sync=sync.id, problem=str(error), failures=failures)

    async def _turn_to(self, sync: OpenSync | None) -> None:
        if isinstance(self._pages, AsyncGenerator):
            await self._pages.aclose()
        self._pages, self.open = None, sync
        self.due_at = self.clock() if sync else None

    def _telling(self, sync: OpenSync) -> Telling:
        return Telling(sync.announce, sync.begin if sync.announce is Announce.SNAPSHOT else None)
