"""The named rules that mappings are made of. Each says what it cannot read without quoting it."""

import datetime as dt
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import Reader

_PADDING: Final = " \0\t\r\n"
_LARGEST: Final = Decimal(10) ** 17
_FINEST: Final = Decimal("1e-12")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_SIGNIFICANT: Final = Context(prec=15, rounding=ROUND_HALF_EVEN)
"""A binary float gives 15 significant digits back unharmed; what follows is noise."""
_NUMBER: Final = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?")
_DATE: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_BLANK_DATES: Final = frozenset({"", "00000000", "/  /"})


def text() -> Reader:
    """Text without the padding at its end; blank is null. Inner blanks stay."""
    return Reader("text, padding trimmed", "text", text_of)


def code(meanings: Mapping[str, str]) -> Reader:
    """A code by its meaning; a code without one stays as it is."""
    return Reader("code, mapped", "code", lambda value: meanings.get(text_of(value) or "", text_of(value)))


def money(decimals: int) -> Reader:
    """An exact number shown with its column's decimals: 125 is "125.00"."""
    return Reader(f"number, {decimals} decimals", "amount", lambda value: fixed(value, decimals), decimals)


def quantity(decimals: int) -> Reader:
    """An exact number without trailing zeros: 40.00 is "40"."""
    return Reader(f"number, up to {decimals} decimals", "amount", lambda value: bare(value, decimals), decimals)


def date() -> Reader:
    """`YYYYMMDD` or `YYYY-MM-DD` as a date without zone; blanks and zeros are null."""
    return Reader("date", "date", date_of)


def text_of(value: Any) -> str | None:
    """See `text`; raises ValueError for anything that is not text."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("expected text")  # noqa: TRY004 - readers speak ValueError
    return value.rstrip(_PADDING) or None


def date_of(value: Any) -> dt.date | None:
    """See `date`; raises ValueError."""
    plain = (text_of(value) or "").strip()
    if plain in _BLANK_DATES:
        return None
    match = _DATE.fullmatch(plain)
    if not match:
        raise ValueError("expected a date (YYYYMMDD)")
    try:
        return dt.date(*(int(part) for part in match.groups()))
    except ValueError:
        raise ValueError("no such day") from None


def fixed(value: Any, decimals: int) -> Decimal | None:
    """The number with at least `decimals` places; more when the value truly has more (a widened column).

    Float noise goes: 12.2999999 in a column of two decimals is 12.30. Raises ValueError.
    """
    number = number_of(value)
    if number is None:
        return None
    rounded = number.quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
    if abs(number - rounded) <= Decimal(1).scaleb(-decimals - 4):
        return rounded
    return plain(_SIGNIFICANT.plus(number).quantize(_FINEST, context=_EXACT))


def bare(value: Any, decimals: int) -> Decimal | None:
    """As `fixed`, without trailing zeros. Raises ValueError."""
    number = fixed(value, decimals)
    return None if number is None else plain(number)


def plain(number: Decimal) -> Decimal:
    """The number without trailing zeros and without an exponent."""
    short = number.normalize(_EXACT)
    return short.quantize(Decimal(1), context=_EXACT) if short.as_tuple().exponent > 0 else short  # type: ignore[operator]


def number_of(value: Any) -> Decimal | None:
    """A JSON number, or a number as text, exactly; blank is null. Raises ValueError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not _NUMBER.fullmatch(str(value).strip()):
        raise ValueError("expected a number")
    number = Decimal(str(value).strip())
    if abs(number) > _LARGEST:
        raise ValueError("number out of range")
    return number
