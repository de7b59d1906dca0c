"""Take: one page of orders into the store: what is to be told of it, and letters for records that nobody could read.

    page -> against the snapshots -> snapshots, events, letters -> kept by whoever reads, in one transaction

Polls and syncs of a connection share one: records that both meet are told once.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import structlog

from relay import metrics
from relay.domain.connections import Connection
from relay.domain.errors import Permanent, Transient
from relay.domain.events import Snapshot
from relay.domain.mapping import MappingOverrides
from relay.domain.messages import Reason
from relay.domain.orders import PurchaseOrder
from relay.domain.remapping import Remapping
from relay.ports import Clock, Orders, OutboxEntry, Page, Rejected
from relay.stages.doubts import Doubts
from relay.stages.gate import NEW, Gate
from relay.stages.observe import Telling, observed

log = structlog.get_logger()

MOST_MET = 10_000
"""Rejected records remembered per connection, so that each is told once while a worker runs."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a page came to: orders read, events told, records rejected, and whether it was kept."""

    read: int
    told: int
    rejected: int
    kept: bool = True


Keep = Callable[[Sequence[Snapshot], Sequence[OutboxEntry], Taken], Awaitable[bool]]
"""Stores snapshots and entries with the place that was reached, all or nothing; False: it was not to be."""


@dataclass
class Take:
    """Takes one connection's pages. `saved` is called when one has put something into the outbox.

    Whoever asks for a page and takes it is in the `gate` meanwhile: no command has an order of that page in between.
    """

    connection: Connection
    store: Orders
    clock: Clock
    saved: Callable[[], None]
    remapping: Remapping = field(default_factory=Remapping)
    gate: Gate = field(default_factory=Gate)
    doubts: Doubts = field(default_factory=Doubts)
    _met: set[str] = field(default_factory=set, init=False)

    async def next(self, pages: AsyncIterator[Page]) -> Page | Transient | Permanent | None:
        """The next page, what stands in its way, or None at the end. Only the ERP's failures: the store's are others'.

        Its orders are held in the gate from then on. New orders of commands in doubt are looked for before the page
        that may show them is taken.
        """
        try:
            page = await anext(pages, None)
        except (Transient, Permanent) as error:
            return error
        if page is None or not page.orders:
            return page
        ids = {order.remote_id for order in page.orders}
        new = (self.gate.making or self.doubts.making) and await self._any_new(ids)
        told = await self.gate.hold({*ids, NEW} if new else ids)
        return (await self.doubts.look() if new else None) or await self._anew(page, told)

    async def _any_new(self, remote_ids: AbstractSet[str]) -> bool:
        return bool(remote_ids - (await self.store.snapshots(self.connection.id, list(remote_ids))).keys())

    async def _anew(self, page: Page, remote_ids: AbstractSet[str]) -> Page | Transient:
        """The page with these orders as they are now: commands told of them while it was read.

        One that cannot be read is left as the command told it.
        """
        if not remote_ids:
            return page
        assert self.doubts.connector
        now: dict[str, PurchaseOrder | None] = {}
        for remote_id in sorted(remote_ids):
            try:
                now[remote_id] = await self.doubts.connector.read(remote_id)
            except Transient as error:
                return error
            except Permanent:
                now[remote_id] = None
        orders = (now.get(each.remote_id, each) for each in page.orders)

        def under(mapping: MappingOverrides) -> Mapping[str, PurchaseOrder]:
            return {key: order for key, order in page.under(mapping).items() if key not in remote_ids}

        return replace(page, orders=tuple(each for each in orders if each), under=under)

    async def page(self, page: Page, telling: Telling, keep: Keep) -> Taken:
        """Take one page, stored by `keep`. Raises what that raises."""
        before = await self.store.snapshots(self.connection.id, [order.remote_id for order in page.orders])
        snapshots, entries = observed(
            self.connection,
            page.orders,
            before,
            now=self.clock(),
            telling=telling,
            remapping=self.remapping,
            under=page.under,
            causes=self.doubts.causes,
        )
        letters = self._new_letters(page.rejected)
        taken = Taken(len(page.orders), len(entries), len(letters))
        if not await keep(snapshots, [*entries, *letters], taken):
            return Taken(0, 0, 0, kept=False)
        self._tell(letters)
        metrics.EVENTS_MADE.inc(len(entries))
        metrics.RECORDS_REJECTED.inc(len(letters))
        if entries or letters:
            self.saved()
        return taken

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


def _encodable(text: str) -> str:
    """Text of a record that nobody could read: half a surrogate pair may stand in it."""
    return text.encode(errors="backslashreplace").decode()
