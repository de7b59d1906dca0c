"""What Tryton takes of each field, until which status, and which commands it has: tried field by field on 8.2.

In draft it takes everything below. A quotation, which is a draft to relay, takes only terms, dates, notes and own
columns; after confirming only notes and those own columns that have no states of their own. What this user may not
write is taken off once the schema is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.kit.mapping import LINES, Writable
from relay.connectors.tryton.bodies import is_plain
from relay.connectors.tryton.rules import STATUS
from relay.connectors.tryton.schema import Definition, Definitions, Schema
from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.commands import CommandType
from relay.domain.orders import Status

_DRAFT: Final = Writable(until=Status.DRAFT)
_ALWAYS: Final = Writable(until=Status.CANCELLED)
_NEW: Final = Writable()

WRITABLE: Final[Mapping[str, Writable]] = {
    # Tryton's own screens fix these three as soon as there are lines, whose taxes and prices come from them.
    **dict.fromkeys(("company.remote_id", "vendor.remote_id", "vendor.code", "currency", "currency_raw"), _NEW),
    "type": _NEW,
    **dict.fromkeys(("payment_terms.remote_id", "ship_to.location_code", "order_date", "delivery_date"), _DRAFT),
    "notes": _ALWAYS,
    **dict.fromkeys(("lines[].item.remote_id", "lines[].item.code"), _NEW),
    "lines[].quantity": Writable(required=True, until=Status.DRAFT),
    **dict.fromkeys(("lines[].unit", "lines[].unit_raw", "lines[].unit_price"), _DRAFT),
    **dict.fromkeys(("lines[].item.description", "lines[].promised_date"), _DRAFT),
}
"""What a new purchase is made of, and until when it changes."""
_STATES: Final = frozenset({"description"})
"""Columns passed through that Tryton takes in draft only."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path is written: its field in Tryton, and its list when it must be in one."""

    source: str
    reference: str | None = None


_WRITTEN: Final[Mapping[str, _Place]] = {
    "company.remote_id": _Place("company", "companies"),
    "vendor.remote_id": _Place("party", "vendors"),
    "vendor.code": _Place("party", "vendors"),
    "currency": _Place("currency", "currencies"),
    "currency_raw": _Place("currency", "currencies"),
    "payment_terms.remote_id": _Place("payment_term", "payment_terms"),
    "ship_to.location_code": _Place("warehouse", "warehouses"),
    "order_date": _Place("purchase_date"),
    "delivery_date": _Place("delivery_date"),
    "notes": _Place("comment"),
    "lines[].item.remote_id": _Place("product", "items"),
    "lines[].item.code": _Place("product", "items"),
    "lines[].item.description": _Place("description"),
    "lines[].quantity": _Place("quantity"),
    "lines[].unit": _Place("unit", "units"),
    "lines[].unit_raw": _Place("unit", "units"),
    "lines[].unit_price": _Place("unit_price"),
    "lines[].promised_date": _Place("delivery_date"),
}
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("integer", "float", "numeric"), "amount"),
    "date": "date",
    "boolean": "boolean",
}
_NOT_NEW: Final[Mapping[str, Any]] = {"creatable": False, "required": False}
_NOT_CHANGED: Final[Mapping[str, Any]] = {"updatable": False, "updatable_until": None}
_LATER: Final = frozenset({"payment_terms.remote_id", "order_date", "delivery_date", "lines[].promised_date"})
"""What a quotation still takes."""
_IN_STATE_DRAFT: Final = "In the state draft; a quotation goes back to draft in Tryton first."
_OF_FIELDS: Final = "Which fields until when, the fields say."
_NOTES: Final[Mapping[CommandType, tuple[tuple[str, ...], str]]] = {
    CommandType.CREATE: ((), "A draft; approve makes an order of it."),
    CommandType.UPDATE: ((), _OF_FIELDS),
    CommandType.ADD_LINES: (("draft",), _IN_STATE_DRAFT),
    CommandType.UPDATE_LINES: ((), _OF_FIELDS),
    CommandType.CANCEL_LINES: (("draft",), f"They are deleted. {_IN_STATE_DRAFT}"),
    CommandType.CANCEL: (
        ("draft", "quotation"),
        "Takes drafts and quotations; later ones are cancelled in Tryton by what came of them. It keeps no reason.",
    ),
    CommandType.APPROVE: (
        ("draft", "quotation"),
        "Takes drafts, which it quotes, so that they get their number, and quotations; it confirms both.",
    ),
}
"""The commands there are: the states of a purchase that take them, and what to know of them."""


def taken(capabilities: Capabilities, schema: Schema | None, own: Mapping[str, Status]) -> Capabilities:
    """With what is taken by this Tryton of this user: of any, before its schema is known.

    `own` are the statuses that the connection's mapping gives to states.
    """
    statuses = {**STATUS, **own}
    commands = (
        CommandCapability(type=type_, statuses=tuple(dict.fromkeys(statuses[each] for each in states)), note=note)
        for type_, (states, note) in _NOTES.items()
        if schema is None or _may(type_, schema)
    )
    fields = (_until(_field(each, schema), statuses) for each in capabilities.fields)
    return capabilities.model_copy(update={"fields": tuple(fields), "commands": tuple(commands)})


def _until(each: FieldCapability, statuses: Mapping[str, Status]) -> FieldCapability:
    if each.updatable_until is not Status.DRAFT:
        return each
    state = "quotation" if each.path in _LATER else "draft"
    return each.model_copy(update={"updatable_until": statuses[state]})


def _may(command: CommandType, schema: Schema) -> bool:
    return schema.creates if command is CommandType.CREATE else schema.writes


def _field(each: FieldCapability, schema: Schema | None) -> FieldCapability:
    place = _WRITTEN.get(each.path)
    extra: dict[str, Any] = {"allowed": ("standard", "return")} if each.path == "type" else {}
    if place and place.reference:
        extra["reference"] = place.reference
    if ".custom_fields." in f".{each.path}":
        return _own(each, schema)
    if schema is None or place is None:
        return each.model_copy(update={**extra, **(_limited(schema) if schema else {})})
    definition = _defined(each.path, schema).get(place.source)
    if definition is None or definition.readonly:
        return each.model_copy(update={**extra, **_NOT_NEW, **_NOT_CHANGED})
    return each.model_copy(update={**extra, **_sized(definition), **_limited(schema)})


def _own(each: FieldCapability, schema: Schema | None) -> FieldCapability:
    until = Status.DRAFT if each.source in _STATES else Status.CANCELLED
    given: dict[str, Any] = {"creatable": True, "updatable": True, "updatable_until": until}
    if schema is None:
        # A field of its own, not of a related record, is likely taken: what it is shows when a command is prepared.
        return each.model_copy(update={} if "." in (each.source or "") else given)
    definition = _defined(each.path, schema).get(each.source or "")
    if definition is None or not is_plain(definition):
        return each
    given["allowed"] = definition.choices
    if definition.type in _TYPES:
        given["type"] = _TYPES[definition.type]
    return each.model_copy(update={**given, **_sized(definition), **_limited(schema)})


def _defined(path: str, schema: Schema) -> Definitions:
    return schema.line if path.startswith(LINES) else schema.header


def _sized(definition: Definition) -> dict[str, Any]:
    sized = {"max_length": definition.size, "decimals": definition.decimals}
    return {name: value for name, value in sized.items() if value is not None}


def _limited(schema: Schema) -> dict[str, Any]:
    return {**({} if schema.creates else _NOT_NEW), **({} if schema.writes else _NOT_CHANGED)}
