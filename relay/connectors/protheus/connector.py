"""TOTVS Protheus: genericQuery over SC7, one row per line, grouped into whole orders.

    stamps:     rows with S_T_A_M_P_ >= newest - overlap -> which orders -> those orders read back, whole
    no stamps:  every poll walks through all orders by key; the difference to what is known is found by others

The first poll is a full pass in both cases, because rows older than the switch to stamps carry none.
"""

import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx

from relay.connectors.kit.mapping import capabilities
from relay.connectors.protheus.assembly import Assembler
from relay.connectors.protheus.cursor import Reached, reached
from relay.connectors.protheus.mapping import (
    BRANCH,
    DELETED,
    ITEM,
    MADE,
    NUMBER,
    header_rules,
    line_rules,
    wanted_columns,
)
from relay.connectors.protheus.names import Names
from relay.connectors.protheus.own import OwnColumns, unread
from relay.connectors.protheus.query import GenericQuery, quoted
from relay.connectors.protheus.rows import Key, key_of, raw_bytes, remote_id_of
from relay.connectors.protheus.settings import ProtheusCredentials, ProtheusSettings
from relay.connectors.protheus.walk import (
    BY_ORDER,
    FIRST_STAMP,
    Batch,
    Raw,
    Touched,
    Walk,
    like,
    newest_stamp,
    one_of,
    raw_key,
    stamps_of,
    trimmed,
)
from relay.connectors.protheus.writable import Table
from relay.connectors.protheus.writing import ProtheusWriter
from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.errors import RecordRejected, Unavailable, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.ports import Found, Mappings, Page, Rejected, Sample, Writer

Seen = tuple[frozenset[str], int]
"""The stamps with which an order was read, and how often with just these."""

READ_BACK: Final = 40
"""Orders named in one question."""
LATELY: Final = dt.timedelta(days=30)
"""How old the orders of a sample may be, while there are some."""
_AS_IT_IS: Final = Mappings()
CHANGES_BY_STAMP: Final = "by row stamp (S_T_A_M_P_): each poll reads what was stamped since the one before"
CHANGES_BY_COMPARING: Final = "by comparing all orders at every poll: SC7 shows no row stamp"
SWITCH_ON: Final = (
    "Every poll reads all orders, because SC7 has no S_T_A_M_P_ that this user sees: switch on UseRowStamp in the "
    "appserver's DBAccess section and update SC7's structure, or set `stamps` to off if it is to stay so"
)
CLOCK_MARGIN: Final = dt.timedelta(days=1)
"""How far the ERP's clock may be off: stamps count from this long before the first pass began."""


def utc_now() -> dt.datetime:
    """The time now, aware."""
    return dt.datetime.now(dt.UTC)


class ProtheusConnector:
    """Reads the purchase orders of one Protheus; see `relay.ports.Connector` for what the methods promise."""

    def __init__(
        self,
        settings: ProtheusSettings,
        credentials: ProtheusCredentials,
        client: httpx.AsyncClient,
        mappings: Mappings = _AS_IT_IS,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._query = GenericQuery(settings, credentials, client)
        self._walk = Walk(self._query, settings)
        self._names = Names(self._query)
        self._mapping = mappings.current
        self._own = OwnColumns(self._walk, mappings, settings.absent_columns)
        writing = settings.writing
        self._writer = ProtheusWriter(settings, writing, self._query, self._mapping, self.read) if writing else None
        self._with_deleted = DELETED not in settings.absent_columns
        self._stamped: bool | None = {"on": True, "off": False}.get(settings.stamps)
        self._hidden: frozenset[str] = frozenset()
        self._seen: dict[Key, Seen] = {}

    async def changed_since(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Whole orders that changed since `cursor`; everything on None, and on every call without stamps."""
        at = reached(cursor)
        stamped = await self._has_stamps()
        if not stamped or at.stamp is None:
            async for page in self.walk(cursor, None):
                yield page
                at = reached(page.cursor)
        if stamped and at.stamp:
            async for page in self._by_stamp(at.stamp):
                yield page

    async def walk(self, cursor: Cursor | None, begin: dt.date | None) -> AsyncIterator[Page]:
        """Every order by key, and on the last page the way to the stamps from here on, or back to the start.

        `begin` narrows only where there are stamps: without them every poll reads all orders anyway.
        """
        at = reached(cursor)
        stamped = await self._has_stamps()
        if stamped and at.stamp:
            return
        since = (at.since or self._clock() - CLOCK_MARGIN) if stamped else None
        # A pass begun without stamps cannot end with them: it is not known when its first orders were read.
        after = at.after if at.since or not stamped else None
        pages = self._pass(after, since) if begin is None or not stamped else self._window(after, since, begin)
        async for page in pages:
            yield page
        yield Page((), Reached(stamp=since).text())

    async def count(self, begin: dt.date | None) -> int | None:
        """The orders that have a first line, if this Protheus counts what remains."""
        window = begin if await self._has_stamps() else None
        return await self._walk.count(window, with_deleted=self._with_deleted)

    async def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        """The ids of all orders with a row that is not deleted, in batches."""
        async for batch in self._walk.orders((BRANCH, NUMBER, "C7_ITEM"), with_deleted=False):
            yield tuple(remote_id_of(key) for key in batch.orders)

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        """One order, deleted ones marked so; None when no row of it is left. Raises RecordRejected."""
        branch, bar, number = remote_id.rpartition("|")
        if not bar or not number:
            return None
        async for batch in self._orders(only=like((branch, number))):
            if rows := batch.orders.get((branch, number)):
                order, _ = self._assembler(self._mapping).order((branch, number), await self._names.beside(rows))
                return order
        return None

    async def sample(self, most: int) -> Sample:
        """Orders issued lately, or else the first ones, with all columns of their rows; see `Connector.sample`."""
        since = f"{self._clock() - LATELY:%Y%m%d}"
        keys: list[Raw] = []
        for only in (f"SC7.C7_EMISSAO >= {quoted(since)}", ""):
            async for batch in self._walk.orders((BRANCH, NUMBER, ITEM), only=only, with_deleted=False):
                keys += batch.raw
                if len(keys) >= most:
                    break
            if keys:
                break
        found = keys[:most]
        if not found:
            await self._own.there()
            return Sample(Page((), Cursor("")), missing=tuple(sorted(self._own.missing)))
        batches = [batch async for batch in self._orders(only=one_of(found))]
        rows = {key: own for batch in batches for key, own in batch.orders.items()}
        page = await self._page(rows, Cursor(""))
        asked = frozenset(wanted_columns(self._settings, stamps=True, own=await self._own.there()))
        unmapped = await unread(self._walk, one_of(found), asked)
        return Sample(page, unmapped, tuple(sorted(self._own.missing)))

    async def found(self) -> Found:
        """How changes are found. A Protheus that is only queried does not tell its version."""
        stamped = bool(self._stamped)
        return Found(
            changes=CHANGES_BY_STAMP if stamped else CHANGES_BY_COMPARING,
            time_zone="stamps (S_T_A_M_P_) are UTC; dates have no time zone",
            fix=() if stamped or self._settings.stamps == "off" else (SWITCH_ON,),
        )

    def capabilities(self) -> Capabilities:
        """The field mapping of this connection, with what the ERP keeps back from its user once that is known."""
        rules = (*header_rules(self._mapping), *line_rules(self._mapping), *MADE)
        unasked = frozenset(self._settings.absent_columns) | self._own.missing
        hidden = self._hidden | self._names.hidden | unasked
        return Table(self._settings, self._mapping).capabilities(capabilities("protheus", rules, hidden=hidden))

    def writer(self) -> Writer | None:
        """The writing half, when the settings declare a way in."""
        return self._writer

    async def _pass(self, after: Raw | None, since: dt.datetime | None) -> AsyncIterator[Page]:
        async for batch in self._orders(after=after):
            yield await self._page(batch.orders, Reached(after=batch.after, since=since).text(), batch.strays)

    async def _window(self, after: Raw | None, since: dt.datetime | None, begin: dt.date) -> AsyncIterator[Page]:
        """Orders with a row that was issued or stamped since `begin`. Whole: a row that is older is read with them."""
        async for batch in self._walk.orders(BY_ORDER, after=after, only=self._walk.begun(begin)):
            keys = [raw for rows in batch.orders.values() for raw in [raw_key(rows[0])] if raw]
            async for page in self._read_again(keys, Reached(after=after, since=since).text(), None):
                yield page
            after = batch.after
            yield Page((), Reached(after=after, since=since).text())

    async def _by_stamp(self, stamp: dt.datetime) -> AsyncIterator[Page]:
        """Every order with a row stamped since then, overlap included; the last page of a step moves the cursor on."""
        start = stamp - self._settings.overlap
        met: set[Key] = set()
        async for touched in self._walk.touched(start):
            before = Reached(stamp=stamp).text()
            met.update(trimmed(raw) for raw in touched.stamps)
            async for page in self._read_again(self._unsettled(touched), before, start):
                yield page
            # A stamp in the future must not carry the cursor there: what is stamped until then would be skipped.
            stamp = max(stamp, min(touched.newest, self._clock()))
            strays = tuple(_stray(row) for row in touched.strays)
            if strays or Reached(stamp=stamp).text() != before:
                yield Page((), Reached(stamp=stamp).text(), strays)
        self._seen = {key: seen for key, seen in self._seen.items() if key in met}

    def _unsettled(self, touched: Touched) -> list[Raw]:
        """Orders to read: those of the overlap that were read twice with these very stamps are left out.

        Twice, because a transaction that waited for another may commit the same stamp after the first reading.
        """
        never: Seen = frozenset(), 0
        seen = {raw: self._seen.get(trimmed(raw), never) for raw in touched.stamps}
        return [raw for raw, stamps in touched.stamps.items() if seen[raw][1] < 2 or not seen[raw][0] >= stamps]  # noqa: PLR2004 - twice

    def _note(self, batch: Batch, since: dt.datetime) -> None:
        """Remember with which stamps these orders were read; called once their page is stored."""
        for key, rows in batch.orders.items():
            if newest_stamp(rows) >= since:
                stamps = stamps_of(rows)
                known, times = self._seen.get(key, (frozenset(), 0))
                self._seen[key] = stamps, times + 1 if known == stamps else 1

    async def _read_again(self, orders: list[Raw], cursor: Cursor, since: dt.datetime | None) -> AsyncIterator[Page]:
        """Pages of these orders, whole, oldest change first; none of them carries the cursor on."""
        for start in range(0, len(orders), READ_BACK):
            async for batch in self._orders(only=one_of(orders[start : start + READ_BACK])):
                page = await self._page(batch.orders, cursor, batch.strays)
                yield replace(page, orders=tuple(sorted(page.orders, key=_changed_at)))
                if since:
                    self._note(batch, since)

    async def _orders(self, *, after: Raw | None = None, only: str = "") -> AsyncIterator[Batch]:
        fields = wanted_columns(self._settings, stamps=bool(self._stamped), own=await self._own.there())
        async for batch in self._walk.orders(fields, after=after, only=only, with_deleted=self._with_deleted):
            self._hidden |= batch.hidden
            yield batch

    async def _page(self, orders: Mapping[Key, Sequence[Any]], cursor: Cursor, strays: Iterable[Any] = ()) -> Page:
        named = await self._names.beside(row for rows in orders.values() for row in rows)
        rows_of: dict[Key, list[Mapping[str, Any]]] = {}
        for row in named:
            if key := key_of(row):
                rows_of.setdefault(key, []).append(row)
        assembler = self._assembler(self._mapping)
        read: list[PurchaseOrder] = []
        rejected = [_stray(row) for row in strays]
        warnings: dict[str, None] = dict.fromkeys(self._own.warnings)
        for key, rows in rows_of.items():
            try:
                order, told = assembler.order(key, rows)
            except RecordRejected as error:
                rejected.append(Rejected(remote_id_of(key), error.field, str(error), raw_bytes(orders[key])))
            else:
                read.append(order)
                warnings |= dict.fromkeys(told)

        def under(mapping: MappingOverrides) -> dict[str, PurchaseOrder]:
            return self._assembler(mapping).orders(rows_of)

        return Page(tuple(read), cursor, tuple(rejected), tuple(warnings), under)

    def _assembler(self, mapping: MappingOverrides) -> Assembler:
        return Assembler(self._settings, mapping, self.capabilities().unreadable())

    async def _has_stamps(self) -> bool:
        """Whether to poll by stamp; asked again on every poll until the answer is yes."""
        if self._stamped is not None:
            return self._stamped
        try:
            found = await self._walk.stamped()
        except (Unavailable, UnexpectedReply, Unsupported):
            # An unknown column and a sick server fail alike: one that answers the simplest question is not sick.
            await self._walk.answers()
            found = False
        self._stamped = found or None
        return found


def _changed_at(order: PurchaseOrder) -> dt.datetime:
    return order.remote_updated_at or FIRST_STAMP


def _stray(row: Any) -> Rejected:
    return Rejected("", f"{BRANCH}, {NUMBER}", "a row without a readable branch and number", raw_bytes(row))
