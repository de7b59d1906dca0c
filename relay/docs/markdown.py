"""Markdown: tables and the words for values."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table; bars inside cells are escaped, line ends become blanks."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(_cell(each) for each in line)} |\n" for line in lines)


def code(text: str) -> str:
    """Text as code, or nothing for nothing."""
    return f"`{text}`" if text else ""


def span_words(span: timedelta) -> str:
    """A time span as settings take it: 250ms, 15s, 2m, 1h, 3d."""
    seconds = span.total_seconds()
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
