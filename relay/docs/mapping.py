"""The field mapping of a connector's page, from its `capabilities()`; no ERP is asked."""

import asyncio
from collections.abc import Iterable

from relay.control.systems import system_of
from relay.docs.markdown import code, rows
from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.capability_words import (
    COMMAND_COLUMNS,
    FIELD_COLUMNS,
    OWN_FIELDS,
    READ_ONLY,
    command_rows,
    field_rows,
    typed,
)
from relay.domain.mapping import MappingOverrides
from relay.ports import ConnectorKind

LINES = "lines[]."
COLUMNS = ("field", "source", "how it is read", "type")
PARTS = ("part", "names", "what for")


def mapping_part(kind: ConnectorKind) -> str:
    """Tables of what is read and what is written, what this system cannot give, and what a connection may override."""
    system = asyncio.run(system_of(kind))
    fields = system.fields
    known = [each for each in fields if each.readable and each.source]
    lacking = ", ".join(code(each.path) for each in fields if not each.readable)
    tables = (
        ("The order:", (each for each in known if not each.path.startswith(LINES))),
        ("Each line:", (each for each in known if each.path.startswith(LINES))),
    )
    parts = [f"{title}\n\n{rows(COLUMNS, _lines(some))}\n" for title, some in tables]
    parts.append(f'{kind.title} cannot give these, so null there means "not supported" and not "empty": {lacking}.\n\n')
    parts.append(f"A connection's [mapping](../mapping.md) may hold:\n\n{rows(PARTS, _parts(kind))}\n")
    return "".join((*parts, "\n### What is written, and until when\n\n", *_written(system)))


def _lines(fields: Iterable[FieldCapability]) -> Iterable[tuple[str, str, str, str]]:
    return ((code(each.path), each.source or "", each.rule, typed(each)) for each in fields)


def _written(system: Capabilities) -> Iterable[str]:
    if not system.commands:
        yield f"{READ_ONLY}\n"
        return
    commands = ((code(each), *rest) for each, *rest in command_rows(system.commands))
    yield "[Commands](../commands.md) that there are, and in which status of the order:\n\n"
    yield f"{rows(COMMAND_COLUMNS, commands)}\nFields that are taken:\n\n"
    yield rows(FIELD_COLUMNS, ((code(each), *rest) for each, *rest in field_rows(system)))
    if system.custom_fields:
        yield f"\n{OWN_FIELDS}\n"


def _parts(kind: ConnectorKind) -> Iterable[tuple[str, str, str]]:
    for part, names in kind.overridable.items():
        yield code(part), names.words, MappingOverrides.model_fields[part].description or ""
