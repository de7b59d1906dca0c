"""Rows of SC7 as they come: whose they are, whether they live, when they were stamped."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.readers import text_of
from relay.connectors.protheus import mapping as columns

Row = Mapping[str, Any]
Key = tuple[str, str]
"""Branch and number, trimmed at their ends."""

_VERSIONED: Final = (*columns.usual_columns(), columns.DELETED)
_FINE: Final = 8
"""Decimals that make numbers different; noise is beyond them."""
_LARGEST: Final = 40
"""Digits before the point of a number that is written out."""
_STAMP: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(\.\d{1,9})?(Z|[+-]00:?00)?")


def key_of(row: Any) -> Key | None:
    """What names the order of a row; None when the row cannot say."""
    if not isinstance(row, dict):
        return None
    branch, number = row.get(columns.BRANCH), row.get(columns.NUMBER)
    if not isinstance(branch, str) or not isinstance(number, str) or not number.strip():
        return None
    return text_of(branch) or "", text_of(number) or ""


def remote_id_of(key: Key) -> str:
    """`branch|number`."""
    return "|".join(key)


def raw_bytes(rows: Any) -> bytes:
    """Rows as they came, for the dead letters."""
    return json.dumps(rows, default=str).encode()


def version_of(rows: Sequence[Row]) -> str:
    """A text that is another one whenever a usual column of some row is; stamps and own columns do not count.

    Stamps are not always asked for, and columns of the customer's own only while a mapping names them. How a number is
    written does not count either.
    """
    told = sorted("\0".join(f"{name}={_settled(row[name])}" for name in _VERSIONED if name in row) for row in rows)
    return hashlib.sha256("\n".join(told).encode("utf-8", "replace")).hexdigest()[:20]


def _settled(value: Any) -> str:
    match value:
        case str():
            return value.rstrip()
        case Decimal() if value.is_finite() and value.adjusted() < _LARGEST:
            return format(value, f".{_FINE}f")
        case int():
            return f"{value}.{'0' * _FINE}"
        case _:
            return str(value)


def stamp_of(value: Any) -> dt.datetime | None:
    """A row stamp (UTC, with or without saying so) as an aware time; raises ValueError."""
    text = (text_of(value) or "").strip()
    if not text:
        return None
    match = _STAMP.fullmatch(text)
    if not match:
        raise ValueError("expected a time")
    day, time, fraction, _ = match.groups()
    return dt.datetime.fromisoformat(f"{day}T{time}{(fraction or '')[:7]}+00:00")


def one_per_line(rows: Sequence[Row]) -> list[Row]:
    """Rows without deleted ones whose line lives again, or was deleted more than once (the newest stands)."""
    kept: dict[Any, Row] = {}
    extra: list[Row] = []
    for row in sorted(rows, key=_row_number):
        name = str(row.get(columns.ITEM)), str(row.get(columns.SEQUENCE))
        if name not in kept or is_deleted(kept[name]):
            kept[name] = row
        elif not is_deleted(row):
            extra.append(row)  # two living rows of one line: the order is refused, not guessed at
    return [*kept.values(), *extra]


def _row_number(row: Row) -> int:
    number = row.get(columns.ROW_ID)
    return number if isinstance(number, int) else 0


def is_deleted(row: Row) -> bool:
    """Whether the row carries the mark."""
    return row.get(columns.DELETED) == "*"
