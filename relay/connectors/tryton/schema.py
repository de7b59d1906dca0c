"""What this Tryton has and this user may read: a missing module or right costs fields, not orders."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from relay.connectors.kit.mapping import LINES, Rule
from relay.connectors.tryton.rpc import Rpc
from relay.connectors.tryton.rules import (
    HEADER,
    HEADER_EXTRAS,
    INVOICE_LINE_EXTRAS,
    LINE,
    LINE_EXTRAS,
    MOVE_EXTRAS,
    RULES,
)
from relay.domain.errors import UnexpectedReply

_ALWAYS: Final = frozenset({"id", "_timestamp"})


@dataclass(frozen=True, slots=True)
class Feed:
    """Records whose stamps tell that an order changed: their model, and where they name the order and the company."""

    model: str
    order: str
    company: str


FEEDS: Final = (
    Feed("purchase.purchase", "id", "company"),
    Feed("purchase.line", "purchase", "purchase.company"),
    Feed("stock.move", "purchase", "company"),
    Feed("account.invoice", "purchases", "company"),
)
ENGLISH: Final[Mapping[str, Any]] = MappingProxyType({"language": "en"})
"""A context in which labels and refusals are not translated."""
_OWN: Final = ("purchase.purchase", "purchase.line")
_OPTIONAL: Final = ("stock.move", "account.invoice", "account.invoice.line")


@dataclass(frozen=True, slots=True)
class Definition:
    """What Tryton says of one of its fields to this user; `readonly` counts his rights in."""

    label: str = ""
    type: str = ""
    readonly: bool = False
    required: bool = False
    size: int | None = None
    decimals: int | None = None
    choices: tuple[str, ...] = ()


Definitions = Mapping[str, Definition]


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields to ask for, the rules' sources that are not there, the custom fields that are, and what to watch.

    `header` and `line` are all fields of purchases and their lines; `creates` and `writes` whether this user may make
    and change both.
    """

    fields: tuple[str, ...]
    hidden: frozenset[str]
    custom_fields: tuple[str, ...]
    line_custom_fields: tuple[str, ...]
    feeds: tuple[Feed, ...]
    warnings: tuple[str, ...]
    header: Definitions
    line: Definitions
    creates: bool
    writes: bool


async def schema_of(rpc: Rpc, custom_fields: Iterable[str], line_custom_fields: Iterable[str]) -> Schema:
    """Ask Tryton; raises what `Rpc.call` raises, Unsupported when purchases are not installed or not readable."""
    header_fields, line_fields = await _defined(rpc, "purchase.purchase"), await _defined(rpc, "purchase.line")
    header, line = frozenset(header_fields) | _ALWAYS, frozenset(line_fields) | _ALWAYS
    access = await rpc.call("model.ir.model.access.get_access", [*_OPTIONAL, *_OWN])
    closed = frozenset(model for model in _OPTIONAL if not _may(access, model, "read"))
    received = "moves" in line and "stock.move" not in closed
    invoiced = "invoice_lines" in line and not closed & {"account.invoice", "account.invoice.line"}
    custom = _there(custom_fields, header)
    line_custom = _there(line_custom_fields, line)
    fields = (
        *_there((*(rule.source for rule in HEADER), *HEADER_EXTRAS, *custom), header),
        *_under("lines", _there((*(rule.source for rule in LINE), *LINE_EXTRAS, *line_custom), line)),
        *_under("lines.moves", MOVE_EXTRAS if received else ()),
        *_under("lines.invoice_lines", INVOICE_LINE_EXTRAS if invoiced else ()),
    )
    return Schema(
        fields=tuple(dict.fromkeys(fields)),
        hidden=frozenset(_hidden(header, line, received=received, invoiced=invoiced)),
        custom_fields=custom,
        line_custom_fields=line_custom,
        feeds=tuple(feed for feed in FEEDS if feed.model not in closed),
        warnings=tuple(
            f"this user may not read {model}: quantities that come from it are left out" for model in sorted(closed)
        ),
        header=header_fields,
        line=line_fields,
        creates=all(_may(access, model, "create") for model in _OWN),
        writes=all(_may(access, model, "write") for model in _OWN),
    )


async def _defined(rpc: Rpc, model: str) -> Definitions:
    # In English: Tryton's refusals name fields by their labels, and relay asks for refusals in English.
    found = await rpc.call(f"model.{model}.fields_get", [], context=ENGLISH)
    if not isinstance(found, Mapping):
        raise UnexpectedReply(f"the fields of {model} came as something else")
    return {name: _definition(each) for name, each in found.items() if isinstance(each, Mapping)}


def _definition(told: Mapping[str, Any]) -> Definition:
    choices, size = told.get("selection"), told.get("size")
    return Definition(
        label=str(told.get("string") or ""),
        type=str(told.get("type") or ""),
        readonly=bool(told.get("readonly")),
        required=bool(told.get("required")),
        size=size if isinstance(size, int) and size > 0 else None,
        decimals=_decimals(told.get("digits")),
        choices=tuple(
            each[0]
            for each in (choices if isinstance(choices, list) else ())
            if isinstance(each, list) and each and isinstance(each[0], str) and each[0]
        ),
    )


def _decimals(digits: Any) -> int | None:
    """Of "[null, 4]"; a name, like that of the unit, says nothing here."""
    try:
        parsed = json.loads(digits) if isinstance(digits, str) else None
    except ValueError:
        return None
    match parsed:
        case [_, int() as decimals]:
            return decimals
        case _:
            return None


def _may(access: Any, model: str, right: str) -> bool:
    rights = access.get(model) if isinstance(access, Mapping) else None
    return isinstance(rights, Mapping) and bool(rights.get(right))


def _there(names: Iterable[str], known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.partition(".")[0] in known)


def _under(prefix: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


def _hidden(header: frozenset[str], line: frozenset[str], *, received: bool, invoiced: bool) -> Iterable[str]:
    for rule in RULES:
        known = line if rule.path.startswith(LINES) else header
        if not _there(_heads(rule), known):
            yield rule.source
    if not received:
        yield from ("moves", "lines.moves")
    if not invoiced:
        yield from ("invoice_lines", "lines.invoice_lines")


def _heads(rule: Rule) -> list[str]:
    return rule.source.split(", ")
