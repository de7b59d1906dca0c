"""Reconcile: find the orders that vanished, and believe it late.

    full pass of ids -> missing from it -> missing from N passes in a row -> a direct read says gone -> deleted

A lost permission or a changed branch makes everything vanish at once: a pass that misses more than a set share of the
known orders is broken off and deletes nothing.
"""

from dataclasses import dataclass, field

import structlog

from relay import metrics
from relay.domain.connections import Connection, Lease
from relay.domain.errors import CredentialsRefused, Permanent, Transient
from relay.domain.events import gone
from relay.domain.orders import PurchaseOrder
from relay.domain.remapping import Remapping
from relay.ports import Clock, Connector, Orders
from relay.stages.doubts import Doubts
from relay.stages.gate import Gate
from relay.stages.observe import Telling, observed

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
    remapping: Remapping = field(default_factory=Remapping)
    gate: Gate = field(default_factory=Gate)
    doubts: Doubts = field(default_factory=Doubts)

    async def run_once(self) -> int:
        """One full pass; how many orders were found deleted.

        An ERP that fails ends the pass without a word about any order. Raises LeaseLost, and Unavailable when the
        store is not there.
        """
        deleted = 0
        known = await self.store.alive(self.connection.id)
        missing, problem = await self._missing(known)
        if problem is None:
            deleted, problem = await self._believe(missing)
        due_at = self.clock() + self.connection.reconcile_every
        await self.store.save_reconciled(self.lease, problem=problem, due_at=due_at)
        tell = log.warning if problem else log.info
        tell("connection.reconciled", connection=self.connection.id, deleted=deleted, problem=problem)
        return deleted

    async def _missing(self, known: set[str]) -> tuple[set[str], str | None]:
        """The known orders that a full pass does not show, or why the pass cannot be believed."""
        missing = set(known)
        try:
            async for ids in self.connector.remote_ids():
                missing.difference_update(ids)
                if not self._may_ask():
                    return set(), "the full pass broke off: its hours ended before it did"
        except (Transient, Permanent) as error:
            return set(), f"the full pass broke off: {error}"
        if len(missing) > max(FEW, self.doubt.share * len(known)):
            return set(), (
                f"a full pass misses {len(missing)} of {len(known)} orders, which is too many to believe: nothing "
                "was deleted. Check the user's permissions and the branch; if they are really gone, remove the "
                "connection and add it again"
            )
        return missing, None

    def _may_ask(self) -> bool:
        return self.connection.schedule.hours.is_open(self.clock())

    async def _believe(self, missing: set[str]) -> tuple[int, str | None]:
        """How many of the missing orders are told as deleted, and what ended the looking early."""
        passes = await self.store.save_missing(self.lease, sorted(missing))
        gone = [remote_id for remote_id in sorted(missing) if passes.get(remote_id, 0) >= self.doubt.passes]
        deleted = 0
        for remote_id in gone:
            if not self._may_ask():
                return deleted, "looking for vanished orders broke off: its hours ended before it did"
            async with self.gate.page():
                try:
                    order = await self.connector.read(remote_id)
                except (Transient, CredentialsRefused) as error:
                    # It would meet every other order too: an ERP that is down, or an account that locks after logins.
                    return deleted, f"looking for vanished orders broke off: {error}"
                except Permanent as error:
                    log.warning("order.unread", connection=self.connection.id, remote_id=remote_id, problem=str(error))
                else:
                    if not await self.gate.hold({remote_id}):  # else a command has told what became of it
                        deleted += await self._tell(remote_id, order)
        return deleted, None

    async def _tell(self, remote_id: str, order: PurchaseOrder | None) -> bool:
        """Tell what the direct read found, either way; whether it is a delete."""
        before = await self.store.snapshots(self.connection.id, [remote_id])
        remapping: Remapping | None = self.remapping
        if order is None:
            order = gone(before[remote_id], self.connector.capabilities().unreadable())
            remapping = None  # it is the last told state, and mapped as that was
        snapshots, entries = observed(
            self.connection,
            [order],
            before,
            now=self.clock(),
            telling=Telling(),
            remapping=remapping,
            causes=self.doubts.causes,
        )
        await self.store.save_page(self.lease, self.connection, snapshots, entries, None)
        metrics.EVENTS_MADE.inc(len(entries))
        return order.remote_was_deleted
