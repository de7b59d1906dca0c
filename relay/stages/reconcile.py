"""Reconcile: find the orders that vanished, and believe it late.

    full pass of ids -> missing from it -> missing from N passes in a row -> a direct read says gone -> deleted

A lost permission or a changed branch makes everything vanish at once: a pass that misses more than a set share of the
known orders is broken off and deletes nothing.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from relay.domain.changes import ChangeKind
from relay.domain.connections import Connection, Lease
from relay.domain.errors import Permanent, Transient
from relay.domain.orders import PurchaseOrder
from relay.ports import Clock, Connector, Orders
from relay.stages.observe import observed

log = structlog.get_logger()

FEW = 5
"""So many missing orders are never too many, however few there are in all."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """When a missing order is believed to be gone: passes in a row, and the share that stops a pass."""

    passes: int
    share: float


@dataclass
class Reconcile:
    """One connection's full passes."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Orders
    clock: Clock
    doubt: Doubt

    async def run_once(self) -> int:
        """One full pass; how many orders were found deleted.

        An ERP that fails ends the pass without a word about any order. Raises LeaseLost, and Unavailable when the
        store is not there.
        """
        problem, deleted = None, 0
        known = await self.store.alive(self.connection.id)
        try:
            missing = await self._missing(known)
        except (Transient, Permanent) as error:
            problem = f"the full pass broke off: {error}"
        else:
            if len(missing) > max(FEW, self.doubt.share * len(known)):
                problem = (
                    f"a full pass misses {len(missing)} of {len(known)} orders, which is too many to believe: nothing "
                    "was deleted. Check the user's permissions and the branch; if they are really gone, remove the "
                    "connection and add it again"
                )
            else:
                deleted = await self._believe(missing)
        due_at = self.clock() + self.connection.reconcile_every
        await self.store.save_reconciled(self.lease, problem=problem, due_at=due_at)
        log.info("connection.reconciled", connection=self.connection.id, deleted=deleted, problem=problem)
        return deleted

    async def _missing(self, known: set[str]) -> set[str]:
        missing = set(known)
        async for ids in self.connector.remote_ids():
            missing.difference_update(ids)
        return missing

    async def _believe(self, missing: set[str]) -> int:
        passes = await self.store.save_missing(self.lease, sorted(missing))
        gone = [remote_id for remote_id in sorted(missing) if passes.get(remote_id, 0) >= self.doubt.passes]
        deleted = 0
        for remote_id in gone:
            try:
                deleted += await self._look(remote_id)
            except (Transient, Permanent) as error:
                log.warning("order.unread", connection=self.connection.id, remote_id=remote_id, problem=str(error))
        return deleted

    async def _look(self, remote_id: str) -> bool:
        """The direct read that a delete needs; what it finds is told either way."""
        now = self.clock()
        order = await self.connector.read(remote_id)
        before = await self.store.snapshots(self.connection.id, [remote_id])
        if order is None:
            order = PurchaseOrder.model_validate(before[remote_id].tree).deleted()
        await self._tell(order, now)
        return order.remote_was_deleted

    async def _tell(self, order: PurchaseOrder, now: datetime) -> None:
        before = await self.store.snapshots(self.connection.id, [order.remote_id])
        snapshots, entries = observed(self.connection, [order], before, now=now, first=ChangeKind.CREATED)
        await self.store.save_page(self.lease, self.connection, snapshots, entries, None)
