"""The list of movements as one connection sees it: whose a record is, when it changed, and in which order they come."""

import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.assembly import is_collapsed, remote_id_of, type_of
from relay.connectors.rm.movements import NAMING, Movements
from relay.connectors.rm.settings import RmSettings
from relay.connectors.rm.times import LONG_AGO, local_of
from relay.connectors.rm.walk import BY_CHANGE, BY_ID, NEWEST_FIRST, Movement, NotInOrder, Order, Place, Window, windows
from relay.domain.errors import RecordRejected, Unavailable, UnexpectedReply, Unsupported

PROBED: Final = 10
"""Movements from either end of the list, to see whether RM orders it by change."""
NAMES_PER_RECORD: Final = 5
"""Pages that only name movements hold this many times the records."""


class Listing:
    """One connection's walks through the list; `clock` gives aware times."""

    def __init__(self, settings: RmSettings, movements: Movements, clock: Callable[[], dt.datetime]) -> None:
        self._settings = settings
        self._movements = movements
        self._clock = clock
        self.stamped: bool | None = {"on": True, "off": False}.get(settings.stamps)
        """Whether the list can be had by change; None while it is not known, or RM cannot do it so far."""
        self._believed = settings.stamps == "on"

    def windows(self, order: Order, place: Place | None = None) -> AsyncIterator[Window]:
        """All movements in this order, whole."""
        return windows(self._page, order, self._settings.page_size, place)

    def names(self) -> AsyncIterator[Window]:
        """All movements by id, with nothing but what names them."""
        return windows(self._names, BY_ID, self._settings.page_size * NAMES_PER_RECORD)

    def newest_first(self, name: str) -> AsyncIterator[Window]:
        """All movements, the one made last first, with what names them, when they were made, and this field."""

        async def ask(order: str, page: int, size: int) -> tuple[Sequence[Movement], bool]:
            fields = (*NAMING, fields_of.BORN, name)
            return self._read(*await self._movements.page(order, page, size, fields=fields))

        return windows(ask, NEWEST_FIRST, self._settings.page_size * NAMES_PER_RECORD)

    async def first(self) -> tuple[Sequence[Movement], bool]:
        """The first page of what names movements, and whether more follow."""
        return await self._names(BY_ID.text, 1, self._settings.page_size)

    async def whole(self, movements: Iterable[Movement]) -> list[Mapping[str, Any]]:
        """The records with their lines: those that came without are read by their id, unless they are gone."""
        records: list[Mapping[str, Any]] = []
        for each in movements:
            if each.record is not None and not is_collapsed(each.record):
                records.append(each.record)
            elif each.id and (read := await self._movements.read(f"{each.id[0]}|{each.id[1]}")):
                records.append(read)
        return records

    def movement(self, record: Any) -> Movement:
        """A record with what names it, as far as it says."""
        try:
            company, _, number = remote_id_of(record).partition("|")
            named = int(company), int(number)
        except (RecordRejected, AttributeError):
            return Movement(None, None, record)
        try:
            return Movement(named, local_of(record.get(fields_of.STAMP), self._settings.time_zone), record)
        except ValueError:
            return Movement(named, None, record)

    def ours(self, movements: Iterable[Movement]) -> list[Movement]:
        """Those that are purchase orders of this connection's company."""
        return [
            each
            for each in movements
            if each.id
            and each.id[0] == self._settings.company
            and type_of(each.record) in self._settings.purchase_types
        ]

    async def has_stamps(self) -> bool:
        """Whether to poll by stamp; asked again on every poll until the answer is yes."""
        if self.stamped is not None:
            return self.stamped
        try:
            found = await self._is_ordered()
        except (Unavailable, UnexpectedReply, Unsupported):
            # An unknown order and a sick server fail alike: one that answers the simplest question is not sick.
            await self._names(BY_ID.text, 1, 1)
            found = False
        self.stamped = found or None
        return found

    def distrust(self, error: NotInOrder) -> None:
        """The list came out of order, although it had looked as if it could: by id from now on. Raises when told so."""
        if self._believed:
            raise error
        self.stamped = False

    async def newest(self) -> dt.datetime:
        """The time of the newest change."""
        found, _ = await self._names(BY_CHANGE.text, 1, 1)
        return min(max((each.stamp for each in found if each.stamp), default=LONG_AGO), self.now())

    def now(self) -> dt.datetime:
        """The time as RM's clock shows it."""
        return local_of(self._clock().isoformat(), self._settings.time_zone) or LONG_AGO

    async def _is_ordered(self) -> bool:
        """Whether the list goes by RECMODIFIEDON when asked to, both ways; every movement must have one."""
        down, _ = await self._names(BY_CHANGE.text, 1, PROBED)
        up, _ = await self._names(BY_CHANGE.text.removeprefix("-"), 1, PROBED)
        newest, oldest = ([each.stamp for each in found if each.stamp] for found in (down, up))
        if len(newest) < len(down) or len(oldest) < len(up):
            return False
        if newest[:1] == oldest[:1]:
            return False  # All alike, one, or none: that says nothing of an order.
        return newest == sorted(newest, reverse=True) and oldest == sorted(oldest)

    async def _page(self, order: str, page: int, size: int) -> tuple[Sequence[Movement], bool]:
        return self._read(*await self._movements.page(order, page, size))

    async def _names(self, order: str, page: int, size: int) -> tuple[Sequence[Movement], bool]:
        return self._read(*await self._movements.page(order, page, size, fields=NAMING))

    def _read(self, records: Sequence[Any], more: bool) -> tuple[Sequence[Movement], bool]:  # noqa: FBT001 - a page's two halves
        return [self.movement(record) for record in records], more
