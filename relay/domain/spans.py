"""Time spans as people write them: 250ms, 15s, 2m, 1h, 3d, or ISO 8601 (PT15S)."""

import re
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_WRITTEN = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def span_words(span: timedelta) -> str:
    """A time span as settings take it: 250ms, 15s, 2m, 1h, 3d."""
    milliseconds = span // timedelta(milliseconds=1)
    for unit, size in _WRITTEN:
        whole, rest = divmod(milliseconds, size * 1000)
        if whole and not rest:
            return f"{whole}{unit}"
    return f"{milliseconds}ms"


def _span(value: object) -> object:
    if not isinstance(value, str) or value.lstrip("+-").startswith("P"):
        return value
    if found := _SPAN.fullmatch(value.strip()):
        with suppress(OverflowError):
            return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
        raise ValueError("this time span is too long")
    raise ValueError("write a time span as 250ms, 15s, 2m, 1h, 3d or PT15S")


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("a time span cannot be negative")
    return value


Span = Annotated[timedelta, BeforeValidator(_span), AfterValidator(_not_negative)]
"""A time span: `250ms`, `15s`, `2m`, `1h`, `3d`, or ISO 8601 (`PT15S`)."""
