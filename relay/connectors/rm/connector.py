"""TOTVS RM: its movements of the types that are purchase orders, over its REST API.

    stamps:     movements by RECMODIFIEDON, newest first, down to the last change - overlap; then told oldest first
    no stamps:  every poll walks through all movements by id; the difference to what is known is found by others

The list holds movements of every kind, so the walk counts all of them and takes those of the connection's company and
types. The first poll is a full pass in both cases.
"""

import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

import httpx

from relay.connectors.kit.mapping import LINES, Rule, capabilities
from relay.connectors.kit.own_columns import own_rules
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.assembly import Assembler, raw_bytes
from relay.connectors.rm.contract import writable
from relay.connectors.rm.cursor import Reached, reached
from relay.connectors.rm.listing import Listing
from relay.connectors.rm.movements import Movements
from relay.connectors.rm.own import absent, expanded, unread
from relay.connectors.rm.settings import RmCredentials, RmSettings
from relay.connectors.rm.times import LONG_AGO, before
from relay.connectors.rm.told import Told
from relay.connectors.rm.walk import BY_CHANGE, BY_ID, Movement, NotInOrder, Place
from relay.connectors.rm.writing import COMMANDS, RmWriter
from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.errors import RecordRejected
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.ports import Found, Mappings, Page, Rejected, Sample, Writer

_AS_IT_IS: Final = Mappings()
HELD: Final = 1000
"""Changed records kept in memory until they are told; older ones are read again by their id."""
WINDOWS_SAMPLED: Final = 10
"""Windows that are looked through for a sample."""
CHANGES_BY_STAMP: Final = "by RECMODIFIEDON: each poll reads what was changed since the one before"
CHANGES_BY_COMPARING: Final = "by comparing all orders at every poll: RM does not list movements by RECMODIFIEDON"
READ_LESS: Final = (
    "Every poll reads all movements, because RM does not list them by RECMODIFIEDON, or not all of them have one: give "
    "a `filter` that leaves out other movements, poll less often, and set `stamps` to off if it is to stay so"
)


def utc_now() -> dt.datetime:
    """The time now, aware."""
    return dt.datetime.now(dt.UTC)


class RmConnector:
    """Reads the purchase orders of one company of one RM; see `relay.ports.Connector` for what the methods promise."""

    def __init__(  # noqa: PLR0913 - what every connector is given, the clock and a bound of memory
        self,
        settings: RmSettings,
        credentials: RmCredentials,
        client: httpx.AsyncClient,
        mappings: Mappings = _AS_IT_IS,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        held: int = HELD,
    ) -> None:
        self._settings = settings
        self._mapping = mappings.current
        self._movements = Movements(settings, credentials, client, expanded(mappings))
        self._listing = Listing(settings, self._movements, clock)
        self._held = held
        self._missing: frozenset[str] = frozenset()
        self._told = Told()
        assembler = self._assembler(self._mapping)
        self._writer = RmWriter(settings, self._mapping, self._movements, self._listing, assembler)

    async def changed_since(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Whole orders that changed since `cursor`; everything on None, and on every call without stamps."""
        at = reached(cursor)
        stamped = await self._listing.has_stamps()
        if not stamped or at.stamp is None:
            async for page in self.walk(cursor, None):
                yield page
                at = reached(page.cursor)
        if stamped and at.stamp:
            try:
                async for page in self._by_stamp(at.stamp):
                    yield page
            except NotInOrder as error:
                self._listing.distrust(error)
                async for page in self.walk(None, None):
                    yield page

    async def walk(self, cursor: Cursor | None, begin: dt.date | None) -> AsyncIterator[Page]:
        """Every order by id, or with `begin` those changed since, newest first; the last page leads to the stamps.

        `begin` narrows only where there are stamps: without them every poll reads all movements anyway.
        """
        at = reached(cursor)
        stamped = await self._listing.has_stamps()
        if stamped and at.stamp:
            return
        since = (at.since or await self._listing.newest()) if stamped else None
        # A pass begun without stamps cannot end with them: it is not known when its first orders were read.
        place = at.place if at.since or not stamped else None
        try:
            async for page in self._pass(place, since, _midnight(begin) if stamped else None):
                yield page
        except NotInOrder as error:
            self._listing.distrust(error)
            since = None
            async for page in self._pass(None, None, None):
                yield page
        yield Page((), Reached(stamp=since).text())

    async def count(self, begin: dt.date | None) -> int | None:
        """The orders of the first page, when it is the only one; RM does not count."""
        since = (_midnight(begin) if await self._listing.has_stamps() else None) or LONG_AGO
        found, more = await self._listing.first()
        return None if more else sum(_is_since(each, since) for each in self._listing.ours(found))

    async def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        """The ids of all orders in batches; cancelled ones are there, deleted ones are not."""
        async for window in self._listing.names():
            yield tuple(f"{each.id[0]}|{each.id[1]}" for each in self._listing.ours(window.movements) if each.id)

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        """One order; None when RM does not have it, or it is none of this connection's. Raises RecordRejected."""
        company, _, number = remote_id.partition("|")
        if company != str(self._settings.company) or not (number.isascii() and number.isdecimal()):
            return None
        record = await self._movements.read(remote_id)
        if record is None or not self._listing.ours([self._listing.movement(record)]):
            return None
        order, _ = self._assembler(self._mapping).order(record)
        return order

    async def sample(self, most: int) -> Sample:
        """The orders changed last, or else the first ones, with all fields of their records; see `Connector.sample`."""
        found: list[Movement] = []
        looked = 0
        async for window in self._listing.windows(BY_CHANGE if await self._listing.has_stamps() else BY_ID):
            found += self._listing.ours(window.movements)
            looked += 1
            if len(found) >= most or looked >= WINDOWS_SAMPLED:
                break
        records = await self._listing.whole(found[:most])
        self._missing = frozenset(absent(self._own_rules(), records))
        return Sample(self._page(records, Cursor("")), unread(self._rules(), records), tuple(sorted(self._missing)))

    async def found(self) -> Found:
        """How changes are found; RM's API does not tell its version."""
        stamped = bool(self._listing.stamped)
        return Found(
            changes=CHANGES_BY_STAMP if stamped else CHANGES_BY_COMPARING,
            time_zone=f"times are local ones of {self._settings.time_zone}; days have no time zone",
            fix=() if stamped or self._settings.stamps == "off" else (READ_LESS,),
        )

    def capabilities(self) -> Capabilities:
        """The field mapping of this connection; what RM takes comes from its contract."""
        rules = self._rules()
        known = capabilities("rm", rules, hidden=self._missing, writable=writable(rules))
        return known.model_copy(update={"commands": COMMANDS, "custom_fields": True})

    def writer(self) -> Writer:
        """Its movements are written over the same API."""
        # One for good: it remembers which marks it has seen.
        return self._writer

    def _rules(self) -> tuple[Rule, ...]:
        header, line = fields_of.header_rules(self._mapping), fields_of.line_rules(self._mapping)
        return (*header, *fields_of.MADE, *line, *fields_of.MADE_OF_LINES)

    def _own_rules(self) -> tuple[Rule, ...]:
        return *own_rules(self._mapping.fields), *own_rules(self._mapping.line_fields, LINES)

    async def _pass(
        self, place: Place | None, since: dt.datetime | None, begin: dt.datetime | None
    ) -> AsyncIterator[Page]:
        order = BY_CHANGE if begin else BY_ID
        resumed = place if place and len(place.last) == order.parts else None
        async for window in self._listing.windows(order, resumed):
            ours = self._listing.ours(window.movements)
            records = await self._listing.whole(each for each in ours if begin is None or _is_since(each, begin))
            cursor = Reached(place=window.place, since=since).text()
            yield self._page(records, cursor, _strays(window.movements))
            if since:
                self._told.note(each for each in ours if _is_since(each, self._overlapping(since)))
            if begin and not all(_is_since(each, begin) for each in window.movements):
                return

    async def _by_stamp(self, stamp: dt.datetime) -> AsyncIterator[Page]:
        """Orders changed since then, overlap included, oldest change first; each page moves the cursor on."""
        changed, strays, newest = await self._changed(self._overlapping(stamp))
        due = [each for each in reversed(changed) if not self._told.knows(each)]
        told, now = stamp, self._listing.now()
        for start in range(0, len(due), self._settings.page_size):
            part = due[start : start + self._settings.page_size]
            # A stamp in the future must not carry the cursor there: what is changed until then would be skipped.
            told = max(told, min(part[-1].stamp or told, now))
            yield self._page(await self._listing.whole(part), Reached(stamp=told).text())
            self._told.note(part)
        end = max(told, min(newest, now))
        if strays or end != told:
            yield Page((), Reached(stamp=end).text(), tuple(strays))
        self._told.keep(changed)

    async def _changed(self, begin: dt.datetime) -> tuple[list[Movement], list[Rejected], dt.datetime]:
        """Our movements changed since `begin`, newest first; records that do not name themselves; the newest stamp."""
        changed: list[Movement] = []
        strays: list[Rejected] = []
        newest = LONG_AGO
        async for window in self._listing.windows(BY_CHANGE):
            strays += _strays(window.movements)
            newest = max([newest, *(each.stamp for each in window.movements if each.stamp)])
            for each in self._listing.ours(window.movements):
                if _is_since(each, begin):
                    changed.append(each if len(changed) < self._held else Movement(each.id, each.stamp, None))
            if not all(_is_since(each, begin) for each in window.movements):
                break
        return changed, strays, newest

    def _overlapping(self, stamp: dt.datetime) -> dt.datetime:
        return before(stamp, self._settings.overlap, self._settings.time_zone)

    def _page(self, records: list[Mapping[str, Any]], cursor: Cursor, strays: Iterable[Rejected] = ()) -> Page:
        assembler = self._assembler(self._mapping)
        rejected = list(strays)
        orders: list[PurchaseOrder] = []
        warnings: dict[str, None] = {}
        for record in records:
            try:
                order, told = assembler.order(record)
            except RecordRejected as error:
                rejected.append(Rejected(error.remote_id, error.field, str(error), raw_bytes(record)))
            else:
                orders.append(order)
                warnings |= dict.fromkeys(told)

        def under(mapping: MappingOverrides) -> dict[str, PurchaseOrder]:
            return self._assembler(mapping).orders(records)

        return Page(tuple(orders), cursor, tuple(rejected), tuple(warnings), under)

    def _assembler(self, mapping: MappingOverrides) -> Assembler:
        return Assembler(self._settings, mapping, self.capabilities().unreadable())


def _midnight(day: dt.date | None) -> dt.datetime | None:
    return dt.datetime.combine(day, dt.time()) if day else None


def _is_since(each: Movement, begin: dt.datetime) -> bool:
    """Whether a movement was changed then or later; one that does not say may have been."""
    return each.stamp is None or each.stamp >= begin


def _strays(movements: Iterable[Movement]) -> list[Rejected]:
    reason = "a movement without a readable company and number"
    named = f"{fields_of.COMPANY}, {fields_of.MOVEMENT}"
    return [Rejected("", named, reason, raw_bytes(each.record)) for each in movements if each.id is None]
