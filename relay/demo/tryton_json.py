"""Values in the clothes of Tryton's JSON: exact numbers, dates and times are objects with a `__class__`."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any


def dressed(value: Any) -> Any:
    """Dress values JSON does not know as Tryton's protocol does."""
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": str(value)}
        case datetime():
            parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
            return {"__class__": "datetime", **{part: getattr(value, part) for part in parts}}
        case date():
            return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
        case Mapping():
            return {key: dressed(each) for key, each in value.items()}
        case list() | tuple():
            return [dressed(each) for each in value]
        case _:
            return value


def undressed(found: dict[str, Any]) -> Any:
    """Turn what a JSON object stands for into it, exact numbers and dates at least."""
    match found:
        case {"__class__": "Decimal", "decimal": text}:
            return Decimal(text)
        case {"__class__": "date", "year": year, "month": month, "day": day}:
            return date(year, month, day)
        case _:
            return found


def words(error: Any) -> list[str]:
    """Flatten an error, which comes as nested lists of texts and nulls."""
    if isinstance(error, list | tuple):
        return [word for part in error for word in words(part)]
    return [str(error)] if error else []
