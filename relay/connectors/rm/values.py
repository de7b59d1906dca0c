"""Values of commands as the types of RM's contract want them; ValueError says what a value must be."""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.readers import number_of
from relay.connectors.rm.times import day_of, local_of


def emptied(told: Mapping[str, Any]) -> Any:
    """What empties a field of this type."""
    return _EMPTY.get(_TIME if "pattern" in told else str(told["type"]))


def wired(told: Mapping[str, Any], value: Any) -> Any:
    """A value as the contract's type wants it. Raises ValueError saying what it must be."""
    return _WIRED[_TIME if "pattern" in told else str(told["type"])](value)


def _whole(value: Any) -> int:
    number = exact(value)
    if number != number.to_integral_value():
        raise ValueError("must be a whole number")
    return int(number)


def exact(value: Any) -> Decimal:
    """A number, also one that is text, with all its digits. Raises ValueError."""
    try:
        number = number_of(value)
    except ValueError:
        number = None
    if number is None:
        raise ValueError("must be a number")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _time(value: Any) -> str:
    """A day, or a time of RM's own clock, as RM writes times."""
    text = value.isoformat() if isinstance(value, dt.date) else str(value)
    try:
        day, time = day_of(text), local_of(text, "UTC") if "T" in text else None
    except ValueError:
        day, time = None, None
    if day is None:
        raise ValueError("must be a day, as 2026-01-31, or a time, as 2026-01-31T12:00:00")
    return time.isoformat() if time else f"{day}T00:00:00"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError("must be text")  # noqa: TRY004 - what cannot be wired is told alike
    return str(value)


_TIME: Final = "time"
_EMPTY: Final[Mapping[str, Any]] = {"string": "", "number": Decimal(0), "boolean": False}
_WIRED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "integer": _whole,
    "number": exact,
    "boolean": _flag,
    "string": _text,
    _TIME: _time,
}
