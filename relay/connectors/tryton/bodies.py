"""A command in Tryton's own fields: what it names of other lists, and the values to write. Pure functions.

command -> wanted (vendors, items, units ...) -> found ids -> header_values, line_values -> create | write
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from relay.connectors.tryton.references import (
    CURRENCIES,
    ITEMS,
    TERMS,
    UNITS_OF_MEASURE,
    VENDORS,
    WAREHOUSES,
    Wanted,
)
from relay.connectors.tryton.rules import UNITS
from relay.connectors.tryton.schema import Definition, Definitions
from relay.domain.commands import LineGiven, OrderGiven
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import OrderType
from relay.domain.results import Refusal, RefusalReason, WriteRefused

Values = dict[str, Any]
Found = Mapping[str, int]

LABELLED: Final[Mapping[str, str]] = {
    "company": "company",
    "party": "vendor",
    "invoice_party": "vendor",
    "invoice_address": "vendor",
    "currency": "currency",
    "payment_term": "payment_terms",
    "warehouse": "ship_to.location_code",
    "purchase_date": "order_date",
    "delivery_date": "delivery_date",
    "comment": "notes",
    "lines": "lines",
}
"""Tryton's fields of a purchase -> canonical ones: what its refusals are about."""
LINE_LABELLED: Final[Mapping[str, str]] = {
    "product": "item",
    "quantity": "quantity",
    "unit": "unit",
    "unit_price": "unit_price",
    "description": "item.description",
    "delivery_date": "promised_date",
    "delivery_date_edit": "promised_date",
    "delivery_date_store": "promised_date",
}
_NAMED: Final[Mapping[str, str]] = {
    "vendor": "party",
    "currency": "currency",
    "currency_raw": "currency",
    "payment_terms": "payment_term",
    "ship_to": "warehouse",
}
_AS_GIVEN: Final[Mapping[str, str]] = {
    "order_date": "purchase_date",
    "delivery_date": "delivery_date",
    "notes": "comment",
}
_CHOSEN_BY_VENDOR: Final = ("invoice_address", "payment_term", "currency", "invoice_method")
_CHOSEN_BY_ITEM: Final = ("unit", "unit_price", "product_supplier")


def refusal(field: str, message: str, fix: str, reason: RefusalReason = RefusalReason.VALIDATION) -> WriteRefused:
    """Nothing is sent, for this reason."""
    return WriteRefused([Refusal(reason=reason, message=message, field=field, fix=fix)])


# what is named


def wanted_of_order(order: OrderGiven, own: MappingOverrides) -> Iterator[Wanted]:
    """The records that the header names."""
    if order.vendor:
        yield _named("vendor", VENDORS, order.vendor.remote_id, order.vendor.code)
    if order.payment_terms:
        yield _named("payment_terms", TERMS, order.payment_terms.remote_id, order.payment_terms.code)
    if order.ship_to and order.ship_to.location_code:
        yield Wanted("ship_to", "ship_to.location_code", WAREHOUSES, codes=(order.ship_to.location_code,))
    if order.currency_raw:
        yield Wanted("currency", "currency_raw", CURRENCIES, codes=(order.currency_raw,))
    elif order.currency:
        codes = *_names_of(order.currency, own.currencies), *({order.currency} - own.currencies.keys())
        yield Wanted("currency", "currency", CURRENCIES, codes=codes or (order.currency,))


def wanted_of_line(line: LineGiven, place: str, own: MappingOverrides) -> Iterator[Wanted]:
    """The records that one line names."""
    if line.item.remote_id or line.item.code:
        yield _named(f"{place}.item", ITEMS, line.item.remote_id, line.item.code)
    if line.unit_raw:
        yield Wanted(f"{place}.unit", f"{place}.unit_raw", UNITS_OF_MEASURE, codes=(line.unit_raw,))
    elif line.unit:
        symbols = _names_of(line.unit, {**UNITS, **own.units})
        fix = "map a unit of Tryton to it in the connection's mapping (units), or give unit_raw"
        yield Wanted(f"{place}.unit", f"{place}.unit", UNITS_OF_MEASURE, codes=symbols or (line.unit,), fix=fix)


def _named(place: str, listing: Any, remote_id: str | None, code: str | None) -> Wanted:
    field = f"{place}.{'code' if remote_id is None else 'remote_id'}"
    return Wanted(place, field, listing, id=remote_id, codes=(code,) if code else ())


def _names_of(code: str, meanings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, meaning in meanings.items() if meaning == code)


# what is written


def header_values(order: OrderGiven, found: Found, fields: Definitions, own: Iterable[str]) -> Values:
    """The header's values, of the fields that were given. Raises WriteRefused."""
    values: Values = {}
    for name in order.model_fields_set:
        given = getattr(order, name)
        if name in _NAMED:
            values[_NAMED[name]] = found.get(name.removesuffix("_raw"))
        elif name in _AS_GIVEN:
            values[_AS_GIVEN[name]] = given
        elif name == "company":
            values["company"] = given and _number_of("company.remote_id", given.remote_id)
        elif name == "custom_fields":
            values |= own_values(given, "", fields, own)
        elif name != "type":  # what kind of order it is, the quantities say
            raise _not_taken(name)
    return values


def line_values(line: LineGiven, place: str, found: Found, fields: Definitions, own: Iterable[str]) -> Values:
    """One line's values, of the fields that were given. Raises WriteRefused."""
    values: Values = {}
    for name in line.model_fields_set - {"remote_id"}:
        given = getattr(line, name)
        match name:
            case "item":
                if f"{place}.item" in found:
                    values["product"] = found[f"{place}.item"]
                if "description" in line.item.model_fields_set:
                    values["description"] = line.item.description
            case "quantity":
                values["quantity"] = given if given is None else _binary(f"{place}.quantity", given)
            case "unit" | "unit_raw":
                values["unit"] = found.get(f"{place}.unit")
            case "unit_price":
                values["unit_price"] = given
            case "promised_date":
                values |= {"delivery_date_edit": given is not None, "delivery_date": given}
            case "custom_fields":
                values |= own_values(given, f"{place}.", fields, own)
            case _:
                raise _not_taken(f"{place}.{name}")
    return values


def chosen_by_vendor(changed: Mapping[str, Any]) -> Values:
    """What Tryton fills in when its user chooses a vendor."""
    return {name: changed[name] for name in _CHOSEN_BY_VENDOR if changed.get(name) is not None}


def chosen_by_item(changed: Mapping[str, Any]) -> Values:
    """What Tryton fills in when its user chooses a product: taxes and, unless given, unit and price."""
    values = {name: changed[name] for name in _CHOSEN_BY_ITEM if changed.get(name) is not None}
    match changed.get("taxes"):
        case {"add": [*added]}:
            values["taxes"] = [["add", [each["id"] for _, each in added]]]
    return values


def check_type(order: OrderGiven, lines: Iterable[LineGiven]) -> None:
    """Tryton knows a return by its quantities alone. Raises WriteRefused when they say otherwise than `type`."""
    if "type" not in order.model_fields_set:
        return
    quantities = [line.quantity for line in lines if line.quantity]
    returned = bool(quantities) and max(quantities) < 0
    if order.type not in (OrderType.STANDARD, OrderType.RETURN):
        raise refusal(
            "type", f"Tryton has no orders of the type {order.type}", "leave it out, or say standard or return"
        )
    if returned != (order.type is OrderType.RETURN):
        raise refusal("type", "in Tryton an order is a return when all its quantities are below zero", "leave it out")


def own_values(given: Mapping[str, Any], prefix: str, fields: Definitions, own: Iterable[str]) -> Values:
    """Values of the connection's own columns. Raises WriteRefused."""
    return {name: _own_value(f"{prefix}custom_fields.{name}", name, each, fields, own) for name, each in given.items()}


def _own_value(path: str, name: str, value: Any, fields: Definitions, own: Iterable[str]) -> Any:
    definition = fields.get(name)
    if definition is None or name not in own or not is_plain(definition):
        raise _not_taken(path)
    if value is None:
        return None
    try:
        return _PLAIN[definition.type](value)
    except (ValueError, InvalidOperation, TypeError):
        message = f"Tryton takes a value of the type {definition.type} here"
        raise refusal(path, message, "numbers are decimal text, dates like 2026-12-31") from None


def is_plain(definition: Definition) -> bool:
    """Whether relay writes fields like this one."""
    return definition.type in _PLAIN and not definition.readonly


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")  # noqa: TRY004 - caught with what the other types raise
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")  # noqa: TRY004 - as above
    return value


_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "char": _text,
    "text": _text,
    "selection": _text,
    "boolean": _truth,
    "integer": lambda value: int(_text(value)),
    "float": lambda value: float(Decimal(_text(value))),
    "numeric": lambda value: Decimal(_text(value)),
    "date": lambda value: dt.date.fromisoformat(_text(value)),
}


def _binary(path: str, number: Decimal) -> float:
    """Tryton keeps quantities as binary floats: those that survive it. Raises WriteRefused."""
    binary = float(number)
    if Decimal(repr(binary)) != number:
        raise refusal(path, "Tryton keeps quantities with 15 significant digits", "give a number with fewer digits")
    return binary


def _number_of(path: str, remote_id: str) -> int:
    if remote_id.isascii() and remote_id.isdecimal():
        return int(remote_id)
    raise refusal(path, "ids in Tryton are whole numbers", "give the id as relay shows it in orders")


def _not_taken(path: str) -> WriteRefused:
    fix = "leave it out; the connection's field mapping shows what is taken"
    return refusal(path, f"Tryton takes no {path} from relay", fix, RefusalReason.NOT_WRITABLE_FIELD)
