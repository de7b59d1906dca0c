"""The real stores, with a count: they say when the last one is done."""

import asyncio
import time
from collections.abc import Sequence

from relay.domain.admission import Admitted
from relay.domain.connections import Connection, Cursor, Lease
from relay.domain.events import Snapshot
from relay.ports import OutboxEntry
from relay.store.admission import AdmitStore
from relay.store.database import Database
from relay.store.orders import OrderStore


class Count:
    """Rings when `goal` are done."""

    def __init__(self, goal: int) -> None:
        self.goal, self.done = goal, asyncio.Event()
        self._sum = 0

    def add(self, some: int) -> None:
        self._sum += some
        if self._sum >= self.goal:
            self.done.set()


class CountedAdmissions(AdmitStore):
    """Admission that counts events, and knows when its first batch came."""

    def __init__(self, database: Database, count: Count) -> None:
        super().__init__(database)
        self.began = asyncio.Event()
        self._count = count

    async def admit(self, event_ids: Sequence[str]) -> Admitted:
        self.began.set()
        admitted = await super().admit(event_ids)
        self._count.add(admitted.events)
        return admitted


class TimedOrders(OrderStore):
    """Orders that remember when each event was committed, by the monotonic clock."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.committed: dict[str, float] = {}

    async def save_page(
        self,
        lease: Lease,
        origin: Connection,
        snapshots: Sequence[Snapshot],
        entries: Sequence[OutboxEntry],
        cursor: Cursor | None,
    ) -> None:
        await super().save_page(lease, origin, snapshots, entries, cursor)
        now = time.monotonic()
        self.committed.update((each.event_id, now) for each in entries)
