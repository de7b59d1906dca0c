"""From canonical values to the values of SC7's columns, and what no column can hold.

vendor.code "FOR001" -> C7_FORNECE "FOR001"      currency "USD" -> C7_MOEDA 2      null -> blank, or 0
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from relay.connectors.kit.mapping import LINES
from relay.connectors.protheus.codes import CURRENCIES, Codes
from relay.connectors.protheus.mapping import BRANCH, FREIGHT
from relay.connectors.protheus.wrapper import Wrapper
from relay.connectors.protheus.writable import CUSTOM, Table
from relay.domain.commands import LineGiven, OrderGiven, given
from relay.domain.results import Refusal, RefusalReason, WriteRefused

Cell = str | Decimal | dt.date | bool
"""One value of a column; an empty text or date is "", an empty number 0."""
_OURS: Final = frozenset({"type", "company.remote_id"})
"""A standard order of this company is all that there is: others have been refused before."""


class Cells:
    """Makes cells as one connection's mapping and wrapper say."""

    def __init__(self, wrapper: Wrapper, table: Table, codes: Codes) -> None:
        self._wrapper = wrapper
        self._table = table
        self._indexes = {name: index for index, name in {**CURRENCIES, **codes.own.currencies}.items()}

    def of(self, part: OrderGiven | LineGiven, place: str = "") -> dict[str, Cell]:
        """The given fields of a header, or of the line at `place` (`lines[0].`), by column. Raises WriteRefused."""
        cells: dict[str, Cell] = {}
        for path, value in given(part):
            if path in _OURS:
                continue
            if path == "branch.remote_id":
                cells[BRANCH] = str(value)
                continue
            column = self._column(f"{LINES if place else ''}{path}")
            if column is None:
                rule, fix = f"{place}{path} is nothing that MATA120 takes", "Leave it out"
                raise refused(RefusalReason.NOT_WRITABLE_FIELD, f"{place}{path}", rule, fix)
            for named, cell in self._named(f"{place}{path}", path, column, value):
                if cells.setdefault(named, cell) != cell:
                    raise wrong(f"{place}{path}", "names another one than the key beside it", "Give one of them")
        return cells

    def _named(self, place: str, path: str, column: str, value: Any) -> Iterator[tuple[str, Cell]]:
        """The columns of one field: two where a vendor's own key holds its store."""
        code, bar, store = str(value).partition("|") if path == "vendor.remote_id" and value else (value, "", "")
        yield column, self._cell(place, path, column, code)
        if bar:
            yield "C7_LOJA", self._cell(place, path, "C7_LOJA", store)

    def _column(self, path: str) -> str | None:
        """The column of a field, or of an object that is emptied as a whole."""
        columns = self._table.columns
        inside = (column for known, column in columns.items() if known.startswith(f"{path}."))
        return columns.get(path) or next(inside, None)

    def _cell(self, place: str, path: str, column: str, value: Any) -> Cell:
        if value is None:
            return Decimal(0) if self._table.is_number(column) else ""
        if path == "currency":
            if value not in self._indexes:
                raise wrong(place, "is no currency of this connection", "Add it to currencies in the mapping")
            return Decimal(self._indexes[value])
        if path == "freight_type":
            return next((code for code, meaning in FREIGHT.items() if meaning == value), str(value))
        if self._table.is_number(column):
            return _number(place, value)
        if path.startswith(CUSTOM) and self._wrapper.declared(column).type == "D":
            value = _day(place, value)
        if isinstance(value, (dt.date, bool)):
            return value
        storable(place, str(value))
        return str(value)


def storable(place: str, text: str) -> None:
    """What the server's encoding lacks would be kept as question marks, and a key in it never be found again."""
    if lacking := sorted({each for each in text if not each.encode("cp1252", "ignore")}):
        shown = " ".join(lacking[:5])
        raise wrong(place, f"holds {shown}, which the ERP's encoding (Windows-1252) lacks", "Replace it")


def wrong(place: str, rule: str, fix: str) -> WriteRefused:
    """A value that is wrong."""
    return refused(RefusalReason.VALIDATION, place, f"{place} {rule}", fix)


def refused(reason: RefusalReason, place: str, message: str, fix: str) -> WriteRefused:
    """One reason why nothing is written."""
    return WriteRefused((Refusal(reason=reason, field=place, message=message, fix=fix),))


def only(cells: Mapping[str, Cell], names: tuple[str, ...]) -> dict[str, Cell]:
    """The cells of these columns."""
    return {name: value for name, value in cells.items() if name in names}


def without(cells: Mapping[str, Cell], names: tuple[str, ...]) -> dict[str, Cell]:
    """The cells of all other columns."""
    return {name: value for name, value in cells.items() if name not in names}


def _number(place: str, value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise wrong(place, "must be a number", "Write it so")
    return number


def _day(place: str, value: Any) -> dt.date:
    try:
        return dt.date.fromisoformat(str(value))
    except ValueError:
        raise wrong(place, "must be a date, as 2026-01-31", "Write it so") from None
