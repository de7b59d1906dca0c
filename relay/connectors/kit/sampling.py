"""Samples of source fields for people: few, short, and never of a field that may hold a secret."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.domain.capabilities import SourceField

MOST: Final = 3
LONGEST: Final = 40
MASKED: Final = "***"
_SECRET: Final = re.compile(r"pass|pwd|senha|secret|segredo|token|api_?key|credential|private|userlg", re.IGNORECASE)


def source_fields(header: Mapping[str, Iterable[Any]], lines: Mapping[str, Iterable[Any]]) -> tuple[SourceField, ...]:
    """The fields of orders and of their lines by name, with samples of their values."""
    return tuple(
        SourceField(source=name, per_line=per_line, samples=samples_of(name, values[name]))
        for values, per_line in ((header, False), (lines, True))
        for name in sorted(values)
    )


def samples_of(name: str, values: Iterable[Any]) -> tuple[str, ...]:
    """Some different values of a field as short text; blank ones say nothing."""
    texts = dict.fromkeys(text for value in values if (text := _short(value)))
    if texts and _SECRET.search(name):
        return (MASKED,)
    return tuple(texts)[:MOST]


def _short(value: Any) -> str:
    if value is None or isinstance(value, (list, dict)):
        return ""
    text = "".join(each if each.isprintable() else " " for each in str(value)).strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3].rstrip()}..."
