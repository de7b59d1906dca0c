"""Shapes: what is wrong with one given value by itself: its type, length, decimals, or that it is none of a few.

Canonical fields are typed where a command is read; custom fields come as text, and are judged by what it says.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, Final

from relay.domain.capabilities import FieldCapability
from relay.domain.results import Refusal, RefusalReason

MOST_NAMED: Final = 20
"""Values that a refusal lists."""

_SHAPES: Final = {
    "amount": "a decimal number",
    "date": "a date, as 2026-01-31",
    "datetime": "a time with its zone, as 2026-01-31T12:00:00Z",
    "boolean": "true or false",
    "text": "text",
    "code": "text",
}


def misshapen(place: str, value: Any, field: FieldCapability) -> Iterator[Refusal]:
    """Why the field at `place` does not take this value."""
    if not _fits(value, field.type):
        yield _wrong(place, f"must be {_SHAPES[field.type]}", "Write it so")
        return
    text = _text(value)
    if field.max_length is not None and field.type in {"text", "code"} and len(text) > field.max_length:
        yield _wrong(place, f"has {len(text)} characters, and at most {field.max_length} fit", "Shorten it")
    if field.decimals is not None and field.type == "amount" and (places := _places(text)) > field.decimals:
        yield _wrong(place, f"has {places} decimals, and at most {field.decimals} are kept", "Round it yourself")
    if field.allowed and text not in field.allowed:
        yield _wrong(place, f"must be one of {listed(field.allowed)}", "Give one of these")


def listed(values: Sequence[str], last: str = "and") -> str:
    """Values for people, the first ones of many."""
    texts = list(map(str, values))
    if len(texts) > MOST_NAMED:
        texts = [*texts[:MOST_NAMED], f"{len(texts) - MOST_NAMED} more"]
    *first, end = texts
    return " ".join(chain([", ".join(first), last] if first else [], [end]))


def _wrong(place: str, rule: str, fix: str) -> Refusal:
    return Refusal(reason=RefusalReason.VALIDATION, field=place, message=f"{place} {rule}", fix=fix)


def _fits(value: Any, type: str) -> bool:  # noqa: A002 - the capability's own word
    """Whether it is of the type; of a canonical field it always is, custom fields come as text."""
    match type:
        case "amount":
            return isinstance(value, Decimal) or (isinstance(value, str) and _number(value) is not None)
        case "date":
            return isinstance(value, dt.date) or (isinstance(value, str) and _read(dt.date.fromisoformat, value))
        case "datetime":
            return isinstance(value, str) and _read(_zoned, value)
        case "boolean":
            return isinstance(value, bool)
        case "text" | "code":
            return not isinstance(value, bool)
        case _:
            return True


def _zoned(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no zone")
    return time


def _read(reader: Callable[[str], object], text: str) -> bool:
    try:
        reader(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _places(text: str) -> int:
    """Decimals that are not zeros at the end."""
    return len(format(Decimal(text), "f").partition(".")[2].rstrip("0"))


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)
