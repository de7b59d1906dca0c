"""A connection's own columns on RM: which of them its records do not hold, and what no rule reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relay.connectors.kit.mapping import LINES, Rule
from relay.connectors.kit.sampling import source_fields
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.assembly import flat
from relay.connectors.rm.codes import COMPLEMENTARY
from relay.domain.capabilities import SourceField
from relay.ports import Mappings

Record = Mapping[str, Any]


def expanded(mappings: Mappings) -> tuple[str, ...]:
    """What is asked for beside the lines: the complementary fields, when a mapping names one."""
    every = (mappings.current, *mappings.beside)
    named = any(name.startswith(f"{COMPLEMENTARY}.") for each in every for name in (*each.fields, *each.line_fields))
    return (COMPLEMENTARY,) if named else ()


def absent(rules: Iterable[Rule], records: Sequence[Record]) -> Iterator[str]:
    """The sources of these rules that none of the records holds."""
    header, lines = [flat(record) for record in records], _lines(records)
    for rule in rules:
        held = lines if rule.path.startswith(LINES) else header
        if held and not any(rule.source in record for record in held):
            yield rule.source


def unread(rules: Iterable[Rule], records: Sequence[Record]) -> tuple[SourceField, ...]:
    """The plain fields of these records that no rule reads, with samples."""
    sources = [(part, rule.path.startswith(LINES)) for rule in rules for part in rule.source.split(", ")]
    asked = [frozenset(part for part, per_line in sources if per_line is wanted) for wanted in (False, True)]
    return source_fields(_plain([flat(record) for record in records], asked[0]), _plain(_lines(records), asked[1]))


def _lines(records: Sequence[Record]) -> list[dict[str, Any]]:
    items = [record.get(fields_of.ITEMS) for record in records]
    return [flat(line) for each in items if isinstance(each, list) for line in each if isinstance(line, Mapping)]


def _plain(records: Sequence[Record], asked: frozenset[str]) -> dict[str, list[Any]]:
    names = sorted({name for record in records for name in record if not name.startswith(("_", COMPLEMENTARY))} - asked)
    values = {name: [record.get(name) for record in records] for name in names}
    return {name: found for name, found in values.items() if not any(isinstance(each, list | dict) for each in found)}
