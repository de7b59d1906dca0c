"""Readers of extra columns, by the names that people give in a connection's mapping.

A connector turns its ERP's own wrappings into plain values first (`plain`); what they mean is the same everywhere.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import FieldType, Reader, Rule
from relay.connectors.kit.readers import bare, date_of, number_of, text_of
from relay.domain.mapping import ReaderName

DECIMALS: Final = 8
"""No dictionary says how many decimals an own column has: eight are kept, float noise is beyond them."""
_TRUE: Final = frozenset({"S", "Y", "T", ".T.", "1", "TRUE", "SIM", "YES"})
_FALSE: Final = frozenset({"N", "F", ".F.", "0", "FALSE", "NAO", "NÃO", "NO"})


def own_rules(
    columns: Mapping[str, ReaderName], prefix: str = "", *, plain: Callable[[Any], Any] = lambda value: value
) -> tuple[Rule, ...]:
    """A rule for each extra column, which keeps its source name."""
    return tuple(
        Rule(f"{prefix}custom_fields.{name}", name, own_reader(kind, plain))
        for name, kind in columns.items()
        if kind is not ReaderName.OMIT
    )


def own_reader(kind: ReaderName, plain: Callable[[Any], Any] = lambda value: value) -> Reader:
    """The reader of this name; what it cannot read raises ValueError."""
    read, type_ = _READ[kind]
    return Reader(f"own column, {kind}", type_, lambda value: read(plain(value)))


def _auto(value: Any) -> str | bool | None:
    return value if isinstance(value, bool) else _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return _number(value)
    return text_of(value)


def _number(value: Any) -> str | None:
    number = bare(value, DECIMALS)
    return None if number is None else format(number, "f")


def _date(value: Any) -> str | None:
    day = date_of(value)
    return None if day is None else day.isoformat()


def _code(value: Any) -> str | None:
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        number = number_of(value)
        if number is None or number != number.to_integral_value():
            raise ValueError("expected a code: text or a whole number")
        return format(number.to_integral_value(), "f")
    return (text_of(value) or "").strip() or None


def _boolean(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().upper()
    if word in _TRUE:
        return True
    if word and word not in _FALSE:
        raise ValueError("expected true or false")
    return False if word else None


_READ: Final[Mapping[ReaderName, tuple[Callable[[Any], Any], FieldType]]] = {
    ReaderName.AUTO: (_auto, "text"),
    ReaderName.TEXT: (_text, "text"),
    ReaderName.NUMBER: (_number, "amount"),
    ReaderName.DATE: (_date, "date"),
    ReaderName.CODE: (_code, "code"),
    ReaderName.BOOLEAN: (_boolean, "boolean"),
}
