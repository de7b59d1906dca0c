"""Conclude: a command is over: its result, and the change of its order that came of it, in one transaction.

receipt -> order against its snapshot -> change event with caused_by + result -> outbox
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from relay import metrics
from relay.domain.commands import Cancel, Create
from relay.domain.connections import Connection, Lease
from relay.domain.effects import shown
from relay.domain.events import Origin, Snapshot, document, gone
from relay.domain.orders import OrderDocument, PurchaseOrder, order_id
from relay.domain.remapping import Remapping
from relay.domain.results import Outcome, ResultData
from relay.ports import Clock, Commands, Connector, Ended, OpenCommand, Orders, OutboxEntry
from relay.stages.doubts import Doubts
from relay.stages.observe import Causes, Telling, observed
from relay.stages.receipts import Receipt
from relay.stages.tell import END, told

log = structlog.get_logger()

MOST_SAID: Final = 2000
"""Characters of an ERP's own words that are kept."""


@dataclass
class Conclude:
    """Ends one connection's commands. `saved` is called when there is something in the outbox."""

    connection: Connection
    lease: Lease
    connector: Connector
    store: Commands
    orders: Orders
    doubts: Doubts
    clock: Clock
    saved: Callable[[], None]
    syncing: Callable[[], bool]
    """Whether the connection's first sync still goes on: it tells of orders that nobody has been told of."""
    remapping: Remapping = field(default_factory=Remapping)

    async def run_once(self, work: OpenCommand, receipt: Receipt) -> None:
        """Tell it. Raises LeaseLost and Unavailable."""
        now = self.clock()
        snapshots, entries, order = await self._seen(work, receipt, now)
        data = self._result(work, receipt, order)
        entries = [*entries, told(data, END, now)]
        await self.store.save_ended(
            self.lease,
            self.connection,
            Ended(work.id, receipt.outcome, entries, snapshots, receipt.remote_id),
        )
        self.doubts.clear(work.id)
        self.saved()
        metrics.EVENTS_MADE.inc(len(entries) - 1)
        metrics.COMMANDS.labels(receipt.outcome).inc()
        metrics.COMMAND_SECONDS.observe(max(0.0, (now - work.accepted_at).total_seconds()))
        tell = log.info if receipt.outcome in {Outcome.APPLIED, Outcome.CHECKED} else log.warning
        tell(
            "command.ended",
            connection=self.connection.id,
            command=work.id,
            type=work.command.type,
            outcome=receipt.outcome,
            remote_id=data.remote_id,
            attempts=work.attempts,
            reasons=[each.reason for each in receipt.refusals],
        )

    async def _seen(
        self, work: OpenCommand, receipt: Receipt, now: datetime
    ) -> tuple[Sequence[Snapshot], Sequence[OutboxEntry], OrderDocument | None]:
        """What is to be told of the order that was read back, and how it is told as."""
        if receipt.outcome is not Outcome.APPLIED or receipt.remote_id is None:
            return [], [], None
        before = await self.orders.snapshots(self.connection.id, [receipt.remote_id])
        last = before.get(receipt.remote_id)
        order = receipt.order or self._cancelled(work, receipt, last)
        if order is None:
            return [], [], None
        known_only = self.syncing() and not isinstance(work.command, Create)
        snapshots, entries = observed(
            self.connection,
            [order],
            before,
            now=now,
            telling=Telling(begin=self.connection.history_from, known_only=known_only),
            remapping=self.remapping if receipt.order else None,
            causes=self.doubts.causes if receipt.late else self._first(work),
        )
        return snapshots, entries, self._document(snapshots[-1] if snapshots else last, order, now)

    def _first(self, work: OpenCommand) -> Causes:
        """The command asked for what differs, unless it asked for what was told before: nobody saw it before this."""

        def causes(last: Snapshot | None, _: PurchaseOrder) -> tuple[str, ...]:
            known = self.connector.capabilities()
            already = shown(work.command, work.before, last.tree if last else None, known)
            return () if already else (work.command.command_id,)

        return causes

    def _cancelled(self, work: OpenCommand, receipt: Receipt, last: Snapshot | None) -> PurchaseOrder | None:
        """Some systems cancel an order by deleting it: it is told as gone, without the doubt of one that vanished."""
        if isinstance(work.command, Cancel) and receipt.gone and last:
            return gone(last, self.connector.capabilities().unreadable())
        return None

    def _document(self, last: Snapshot | None, order: PurchaseOrder, now: datetime) -> OrderDocument | None:
        if last is None or not last.sequence:
            return None  # Nothing was ever told of it: it has no number yet.
        return document(self._origin, last, order, now)

    @property
    def _origin(self) -> Origin:
        return Origin(self.connection.customer_id, self.connection.id, self.connection.connector)

    def _result(self, work: OpenCommand, receipt: Receipt, order: OrderDocument | None) -> ResultData:
        command, connection = work.command, self.connection
        remote_id = receipt.remote_id or (None if isinstance(command, Create) else command.remote_id)
        return ResultData(
            id=work.id,
            command_id=command.command_id,
            type=command.type,
            customer_id=connection.customer_id,
            connection_id=connection.id,
            outcome=receipt.outcome,
            dry_run=command.dry_run,
            external_reference=command.external_reference,
            remote_id=remote_id,
            order_id=remote_id and order_id(connection.id, remote_id),
            refusals=receipt.refusals,
            said=receipt.said[:MOST_SAID] or None,
            attempts=work.attempts,
            would_send=receipt.preview,
            order=order,
        )
