"""What this Tryton has and this user may read: a missing module or right costs fields, not orders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_OPTIONAL: Final = ("stock.move", "account.invoice", "account.invoice.line")


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields to ask for, the rules' sources that are not there, the custom fields that are, and what to watch."""

    fields: tuple[str, ...]
    hidden: frozenset[str]
    custom_fields: tuple[str, ...]
    line_custom_fields: tuple[str, ...]
    feeds: tuple[Feed, ...]
    warnings: tuple[str, ...]


async def schema_of(rpc: Rpc, custom_fields: Iterable[str], line_custom_fields: Iterable[str]) -> Schema:
    """Ask Tryton; raises what `Rpc.call` raises, Unsupported when purchases are not installed or not readable."""
    header = await _names(rpc, "purchase.purchase")
    line = await _names(rpc, "purchase.line")
    access = await rpc.call("model.ir.model.access.get_access", list(_OPTIONAL))
    closed = frozenset(model for model in _OPTIONAL if not _may_read(access, model))
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
    )


async def _names(rpc: Rpc, model: str) -> frozenset[str]:
    found = await rpc.call(f"model.{model}.fields_get", [])
    if not isinstance(found, Mapping):
        raise UnexpectedReply(f"the fields of {model} came as something else")
    return frozenset(found) | _ALWAYS


def _may_read(access: Any, model: str) -> bool:
    rights = access.get(model) if isinstance(access, Mapping) else None
    return isinstance(rights, Mapping) and bool(rights.get("read"))


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
