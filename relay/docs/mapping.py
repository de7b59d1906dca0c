"""The field mapping of a connector's page, from its `capabilities()`; no ERP is asked."""

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
from pydantic import BaseModel, SecretStr

from relay.docs.markdown import code, rows
from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.mapping import MappingOverrides
from relay.ports import ConnectorKind, Mappings

LINES = "lines[]."
COLUMNS = ("field", "source", "how it is read", "type", "the ERP takes it")
PARTS = ("part", "names", "what for")


def mapping_part(kind: ConnectorKind) -> str:
    """Tables of the order's and the lines' fields, what this system cannot give, and what a connection may override."""
    fields = capabilities_of(kind).fields
    known = [each for each in fields if each.readable and each.source]
    lacking = ", ".join(code(each.path) for each in fields if not each.readable)
    tables = (
        ("The order:", (each for each in known if not each.path.startswith(LINES))),
        ("Each line:", (each for each in known if each.path.startswith(LINES))),
    )
    parts = [f"{title}\n\n{rows(COLUMNS, _lines(some))}\n" for title, some in tables]
    parts.append(f'{kind.title} cannot give these, so null there means "not supported" and not "empty": {lacking}.\n')
    parts.append(f"A connection's [mapping](../mapping.md) may hold:\n\n{rows(PARTS, _parts(kind))}\n")
    return "".join(parts)


def _lines(fields: Iterable[FieldCapability]) -> Iterable[tuple[str, str, str, str, str]]:
    for each in fields:
        length = f", at most {each.max_length}" if each.max_length else ""
        yield code(each.path), each.source or "", each.rule, f"{each.type}{length}", written(each)


def written(each: FieldCapability) -> str:
    """What the ERP takes of a field, in words; empty: nothing."""
    until = f"until {each.updatable_until}" if each.updatable else ""
    new = "needed in a new order" if each.required else "in a new order" if each.creatable else ""
    return ", ".join(part for part in (new, until) if part)


def _parts(kind: ConnectorKind) -> Iterable[tuple[str, str, str]]:
    for part, names in kind.overridable.items():
        yield code(part), names.words, MappingOverrides.model_fields[part].description or ""


def capabilities_of(kind: ConnectorKind) -> Capabilities:
    """What a connector gives and takes as it comes, without a connection's own mapping."""
    return asyncio.run(_capabilities(kind))


async def _capabilities(kind: ConnectorKind) -> Capabilities:
    async with httpx.AsyncClient() as client:
        given = _placeholder(kind.settings), _placeholder(kind.credentials)
        return kind.build(*given, client, Mappings()).capabilities()


def _placeholder(model: type[BaseModel]) -> Any:
    """A model whose required fields hold a word: it is never used to reach anything."""
    words: dict[str, Any] = {
        name: SecretStr("example") if field.annotation is SecretStr else "example"
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    return model.model_construct(**words)
