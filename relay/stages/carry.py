"""Carry: one command to its ERP, as far as it goes this time.

    read -> permitted? -> prepared -> row says "sending" -> written -> read back -> Receipt(applied)
    in doubt -> looked for, by its mark or by what its order shows -> Receipt(applied) | again | Receipt(unknown)

Whatever breaks off behind "sending" leaves the command in doubt. While it is, it is only looked for; it may be sent
again once the ERP can no longer be working on it and its order is as it was. A create is looked for before it is sent,
always.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from relay.domain.capabilities import Capabilities
from relay.domain.commands import Create, mark
from relay.domain.connections import Lease
from relay.domain.effects import Effect, effect, state
from relay.domain.errors import CredentialsRefused, Permanent, RecordRejected, Transient, Unsupported
from relay.domain.orders import PurchaseOrder
from relay.domain.permits import refusals
from relay.domain.results import Outcome, Refusal, RefusalReason, WriteRefused
from relay.ports import Clock, Commands, Connector, OpenCommand, Prepared
from relay.stages.doubts import Doubts
from relay.stages.receipts import Again, Receipt, expired, failed, problem, unknown

MOST_RACES: Final = 5
"""How often a command that names no version is sent when others change its order at the same moment."""
GIVEN_UP: Final = timedelta(days=1)
"""After this a command of which the ERP never said whether it was done is unknown."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long an ERP may `settle`, and after what a command is `stale` that was marked as being sent.

    Settling: working on a request that relay no longer waits for. Stale: another worker may hold the lease by then, so
    it does not go out any more.
    """

    settle: timedelta
    stale: timedelta


@dataclass
class Carry:
    """Carries one connection's commands. Times are of the clock on the wall: it goes on while a machine sleeps."""

    lease: Lease
    connector: Connector
    store: Commands
    doubts: Doubts
    clock: Clock
    times: Times

    def __post_init__(self) -> None:
        self._writer = self.connector.writer()

    async def run_once(self, work: OpenCommand) -> tuple[OpenCommand, Receipt | Again]:
        """Carry it as far as it goes now; it as it is then. Raises LeaseLost, and Unavailable of the store."""
        if work.written:
            return work, _late(await self._read_back(work, work.written))
        if work.sent_at is not None:
            return work, _late(await self._look(work, work.sent_at))
        if work.expires_at <= self.clock():
            return work, expired(work)
        prepared = await self._prepare(work)
        if isinstance(prepared, Receipt | Again):
            return work, prepared
        return await self._send(work, *prepared)

    def settled(self, work: OpenCommand) -> datetime:
        """When its ERP no longer works on what it was sent."""
        return (work.sent_at or self.clock()) + self.times.settle

    async def _prepare(self, work: OpenCommand) -> tuple[Prepared, PurchaseOrder | None] | Receipt | Again:
        command, writer = work.command, self._writer
        try:
            order = None if isinstance(command, Create) else await self.connector.read(command.remote_id)
            refused = refusals(command, self._capabilities(), order)
            if refused or writer is None:
                return Receipt(Outcome.REJECTED, refusals=refused)
            if isinstance(command, Create) and writer.finds and (found := await writer.find(command)):
                return await self._there(work, found)
            prepared = await writer.prepare(command, order)
        except (Transient, Permanent) as error:
            return failed(error, doubt=False)
        if command.dry_run:
            return Receipt(Outcome.CHECKED, preview=prepared.preview)
        return prepared, order

    def _capabilities(self) -> Capabilities:
        known = self.connector.capabilities()
        return known if self._writer else known.model_copy(update={"commands": ()})

    async def _there(self, work: OpenCommand, remote_id: str) -> Receipt | Again:
        """An order with the mark of a new one is there before it is sent."""
        if work.attempts:
            self.doubts.note(work)
            return _late(await self._made(work, remote_id))
        refusal = Refusal(
            reason=RefusalReason.CONFLICT,
            field="external_reference",
            message=f"order {remote_id} bears the mark {mark(work.command)} already",
            fix="Give an external_reference of its own to each new order, or change that order with update",
        )
        return Receipt(Outcome.REJECTED, remote_id, refusals=(refusal,))

    async def _send(
        self, work: OpenCommand, prepared: Prepared, order: PurchaseOrder | None
    ) -> tuple[OpenCommand, Receipt | Again]:
        marked, before = self.clock(), None if order is None else state(order)
        if work.expires_at <= marked:
            return work, expired(work)
        await self.store.save_sending(self.lease, work.id, marked, before)
        sent = replace(work, sent_at=marked, before=before, attempts=work.attempts + 1)
        self.doubts.note(sent)
        if self.clock() - marked > self.times.stale:
            return sent, Again(f"{RefusalReason.UPSTREAM_DOWN}: this worker stood still before it sent it", doubt=False)
        assert self._writer
        try:
            remote_id = await self._writer.write(prepared)
        except (Transient, Permanent) as error:
            return sent, _raced(sent, error) or failed(error, doubt=True)
        return sent, await self._read_back(sent, remote_id)

    async def _read_back(self, work: OpenCommand, remote_id: str) -> Receipt | Again:
        """The order as it is after the command was surely written."""
        try:
            order = await self.connector.read(remote_id)
        except CredentialsRefused as error:
            return Receipt(Outcome.APPLIED, remote_id, refused=error)
        except (RecordRejected, Unsupported):
            pass
        except (Transient, Permanent) as error:
            if self.clock() < max(work.expires_at, self.settled(work)):
                return Again(problem(error), doubt=True, error=error, written=remote_id)
        else:
            return Receipt(Outcome.APPLIED, remote_id, order, gone=order is None)
        return Receipt(Outcome.APPLIED, remote_id)

    async def _made(self, work: OpenCommand, remote_id: str) -> Receipt | Again:
        """A new order that was found."""
        self.doubts.made(work.id, remote_id)
        return await self._read_back(work, remote_id)

    async def _look(self, work: OpenCommand, sent_at: datetime) -> Receipt | Again:
        """Whether a command in doubt took effect."""
        now = self.clock()
        over = now >= self.settled(work)
        try:
            seen = await self._seen(work)
        except (Unsupported, RecordRejected) as error:
            return unknown(work, str(error)) if over else Again(problem(error), doubt=True)
        except (Transient, Permanent) as error:
            if now >= max(work.expires_at, sent_at + GIVEN_UP):
                return unknown(work, str(error))
            return Again(problem(error), doubt=True, error=error)
        return self._settled(work, seen, now) if over and isinstance(seen, Effect) else _still(seen)

    def _settled(self, work: OpenCommand, seen: Effect, now: datetime) -> Receipt | Again:
        """What becomes of one that shows no effect although its ERP no longer works on it."""
        if seen is Effect.UNCLEAR:
            return unknown(work, "the order was changed by somebody, and does not show what was asked for")
        if work.expires_at <= now:
            return expired(work)
        return Again(f"{RefusalReason.UPSTREAM_DOWN}: it was sent, and the ERP did not do it", doubt=False)

    async def _seen(self, work: OpenCommand) -> Receipt | Again | Effect:
        command = work.command
        if isinstance(command, Create):
            if self._writer is None or not self._writer.finds:
                return unknown(work, "this system keeps no key by which a new order could be found")
            found = await self._writer.find(command)
            return await self._made(work, found) if found else Effect.NO
        order = await self.connector.read(command.remote_id)
        known = self.connector.capabilities()
        seen = effect(command, work.before, None if order is None else state(order), known)
        if seen is not Effect.YES:
            return seen
        if effect(command, work.before, work.before, known) is Effect.YES and self.clock() < self.settled(work):
            # It was so before: the ERP may be at work on it all the same, and the next command must not overtake it.
            return Effect.NO
        return Receipt(Outcome.APPLIED, command.remote_id, order, gone=order is None)


def _still(seen: Receipt | Again | Effect) -> Receipt | Again:
    if isinstance(seen, Effect):
        return Again(f"{RefusalReason.UPSTREAM_DOWN}: it is open whether it was done", doubt=True)
    return seen


def _late(came: Receipt | Again) -> Receipt | Again:
    return replace(came, late=True) if isinstance(came, Receipt) else came


def _raced(sent: OpenCommand, error: Transient | Permanent) -> Again | None:
    """Somebody changed the order between its reading and the write: whoever names no version means any."""
    if not isinstance(error, WriteRefused) or sent.attempts >= MOST_RACES:
        return None
    if getattr(sent.command, "expected_version", "") is not None:
        return None  # a new order has none to be asked for
    if {each.reason for each in error.refusals} != {RefusalReason.CONFLICT}:
        return None
    return Again(f"{RefusalReason.CONFLICT}: {error}", doubt=False)
