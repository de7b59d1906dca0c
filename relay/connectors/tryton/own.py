"""A connection's own mapping on Tryton: its extra fields with those passed through anyway, and what no rule reads."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.kit.mapping import LINES, Rule
from relay.connectors.kit.own_columns import own_rules
from relay.connectors.kit.sampling import source_fields
from relay.connectors.tryton.derive import Record, flattened
from relay.connectors.tryton.rpc import ErpSaidNo, Rpc
from relay.connectors.tryton.rules import FIELDS, LINE_FIELDS, plain
from relay.connectors.tryton.schema import Schema
from relay.connectors.tryton.watch import listed
from relay.domain.capabilities import SourceField
from relay.domain.mapping import MappingOverrides, ReaderName
from relay.ports import Mappings

_TYPES: Final = """
    char text integer bigint float numeric boolean date datetime timestamp timedelta time selection multiselection
"""
_PLAIN: Final = frozenset(_TYPES.split())
_LINES: Final = "lines."


@dataclass(frozen=True, slots=True)
class Own:
    """The extra fields of some mappings."""

    mappings: Mappings

    @property
    def fields(self) -> tuple[str, ...]:
        """The order's, of all the mappings."""
        return tuple(dict.fromkeys(name for each in self._every() for name in each.fields))

    @property
    def line_fields(self) -> tuple[str, ...]:
        """The lines', of all the mappings."""
        return tuple(dict.fromkeys(name for each in self._every() for name in each.line_fields))

    def missing(self, schema: Schema) -> tuple[str, ...]:
        """Fields of the current mapping that this Tryton does not have, or hides from this user."""
        current = completed(self.mappings.current)
        header = (name for name in current.fields if name not in schema.custom_fields)
        line = (f"{_LINES}{name}" for name in current.line_fields if name not in schema.line_custom_fields)
        return *header, *line

    def rules(self) -> tuple[Rule, ...]:
        """The current mapping's extra fields as rules, for the field mapping."""
        current = completed(self.mappings.current)
        return *own_rules(current.fields), *own_rules(current.line_fields, LINES)

    def _every(self) -> Iterable[MappingOverrides]:
        return map(completed, (self.mappings.current, *self.mappings.beside))


def completed(overrides: MappingOverrides) -> MappingOverrides:
    """The overrides with the fields that are passed through anyway, and without those that they omit."""
    return overrides.model_copy(
        update={
            "fields": _kept({**FIELDS, **overrides.fields}),
            "line_fields": _kept({**LINE_FIELDS, **overrides.line_fields}),
        }
    )


def there(overrides: MappingOverrides, schema: Schema) -> MappingOverrides:
    """The overrides with those extra fields that this Tryton has."""
    whole = completed(overrides)
    return whole.model_copy(
        update={
            "fields": _only(whole.fields, schema.custom_fields),
            "line_fields": _only(whole.line_fields, schema.line_custom_fields),
        }
    )


async def unread(rpc: Rpc, ids: Collection[int], schema: Schema) -> tuple[SourceField, ...]:
    """The plain fields of these orders and their lines that nobody asks for, with samples; none when they are refused.

    A related record is shown by its name.
    """
    heads = {name.removeprefix(_LINES).partition(".")[0] for name in schema.fields if name.startswith(_LINES)}
    own = {name.partition(".")[0] for name in schema.fields}
    header = await _free(rpc, "purchase.purchase", own)
    line = await _free(rpc, "purchase.line", heads | {"purchase"})
    asked = [*header, *(f"{_LINES}{name}" for name in line)]
    try:
        found = await rpc.call(
            "model.purchase.purchase.search_read", [["id", "in", list(ids)]], 0, None, [["id", "ASC"]], ["id", *asked]
        )
    except ErpSaidNo:
        return ()
    orders = [dict(flattened(record)) for record in listed(found)]
    lines = [dict(flattened(each)) for order in orders for each in order.get(_LINES) or ()]
    return source_fields(_gathered(header, orders), _gathered(line, lines))


async def _free(rpc: Rpc, model: str, asked: Collection[str]) -> list[str]:
    told = await rpc.call(f"model.{model}.fields_get", [])
    types = {name: each.get("type") for name, each in told.items() if isinstance(each, Mapping)}
    free = {name: kind for name, kind in types.items() if name not in asked and name not in _SYSTEM}
    plain_ones = [name for name, kind in free.items() if kind in _PLAIN]
    return sorted([*plain_ones, *(f"{name}.rec_name" for name, kind in free.items() if kind == "many2one")])


_SYSTEM: Final = frozenset({"id", "rec_name", "create_uid", "write_uid", "create_date", "write_date", "xml_id"})


def _gathered(names: Iterable[str], records: Sequence[Record]) -> dict[str, list[Any]]:
    return {name: [value for record in records for value in _readable(record.get(name))] for name in names}


def _readable(value: Any) -> Iterable[Any]:
    with suppress(ValueError, ArithmeticError):
        yield plain(value)


def _kept(columns: Mapping[str, ReaderName]) -> dict[str, ReaderName]:
    return {name: kind for name, kind in columns.items() if kind is not ReaderName.OMIT}


def _only(columns: Mapping[str, ReaderName], names: Collection[str]) -> dict[str, ReaderName]:
    return {name: kind for name, kind in columns.items() if name in names}
