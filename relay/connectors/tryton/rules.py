"""Which field of Tryton's purchase feeds which canonical one, by which rule: data, shown on the field mapping page.

HEADER and LINE are read by their rules; DERIVED are made by `orders` as their words say. Dotted names are
Tryton's own: the server follows `party.tax_identifier.code`. EXTRAS are read to derive from, and are no field.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import Reader, Rule, derived
from relay.connectors.kit.readers import date_of, number_of, text_of
from relay.domain.mapping import Names, Overridable, ReaderName
from relay.domain.orders import Status

STATUS: Final = {
    "draft": Status.DRAFT,
    "quotation": Status.DRAFT,
    "confirmed": Status.APPROVED,
    "processing": Status.APPROVED,
    "done": Status.CLOSED,
    "cancelled": Status.CANCELLED,
}
SHIPPED: Final = {"partially shipped": Status.PARTIALLY_RECEIVED, "received": Status.RECEIVED}
"""What the shipment state adds to an approved order's status."""
INVOICED: Final = ("posted", "paid")
"""States in which an invoice counts as invoiced."""
_UNITS: Final = """
    u=C62 s=SEC min=MIN h=HUR d=DAY kg=KGM g=GRM c=CTM lb=LBR oz=ONZ m=MTR km=KMT cm=CMT mm=MMT ft=FOT yd=YRD in=INH
    mi=SMI m³=MTQ l=LTR cm³=CMQ in³=INQ ft³=FTQ gal=GLL m²=MTK cm²=CMK a=ARE ha=HAR in²=INK ft²=FTK yd²=YDK J=JOU
    MJ=3B kW⋅h=KWH MW⋅h=MWH
"""
UNITS: Final[Mapping[str, str]] = dict(pair.split("=") for pair in _UNITS.split())
"""Symbols of the units that Tryton is born with -> UN/ECE Recommendation 20."""


def number(value: Any) -> Decimal | None:
    """Tryton's exact numbers (`{"__class__": "Decimal", …}`) and JSON's; raises ValueError for anything else."""
    match value:
        case {"__class__": "Decimal", "decimal": str() as digits}:
            return number_of(digits)
        case _:
            return number_of(value)


def day(value: Any) -> date | None:
    """Tryton's dates; raises ValueError for anything else."""
    match value:
        case {"__class__": "date", "year": int() as year, "month": int() as month, "day": int() as of_month}:
            return date_of(f"{year:04}-{month:02}-{of_month:02}")
        case None:
            return None
        case _:
            raise ValueError("expected a date")


def stamp(value: Any) -> datetime | None:
    """Tryton's timestamps, which are UTC without saying so; raises ValueError for anything else."""
    match value:
        case None:
            return None
        case {"__class__": "datetime"}:
            names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
            try:
                year, month, of_month, hour, minute, second, micro = (value[name] for name in names)
                return datetime(year, month, of_month, hour, minute, second, micro, UTC)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise ValueError("no such time") from None
    raise ValueError("expected a timestamp")


def plain(value: Any) -> Any:
    """A value of an extra field without Tryton's wrapping; several values with commas. Raises ValueError."""
    match value:
        case {"__class__": "Decimal"}:
            return number(value)
        case {"__class__": "date"}:
            return str(day(value))
        case {"__class__": "datetime"}:
            return str(stamp(value))
        case list():
            return ", ".join("" if each is None else str(plain(each)) for each in value)
        case {}:
            raise ValueError("a field of a type that cannot be passed on")
        case _:
            return value


def identity(value: Any) -> str | None:
    """A record's id as text; raises ValueError for anything but a whole number."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return None if value is None else str(value)
    raise ValueError("expected a record id")


TEXT: Final = Reader("text", "text", text_of)
ID: Final = Reader("record id", "text", identity)
AMOUNT: Final = Reader("exact number", "amount", number)
DAY: Final = Reader("date", "date", day)
STAMP: Final = Reader("timestamp, UTC", "datetime", stamp)

HEADER: Final = (
    Rule("number", "number", TEXT),
    Rule("status_raw", "state", TEXT),
    Rule("company.remote_id", "company.id", ID),
    Rule("company.name", "company.party.name", TEXT),
    Rule("vendor.remote_id", "party.id", ID),
    Rule("vendor.code", "party.code", TEXT),
    Rule("vendor.name", "party.name", TEXT),
    Rule("buyer", "confirmed_by.party.name", TEXT),
    Rule("currency_raw", "currency.code", TEXT),
    Rule("order_date", "purchase_date", DAY),
    Rule("delivery_date", "delivery_date", DAY),
    Rule("payment_terms.remote_id", "payment_term.id", ID),
    Rule("payment_terms.description", "payment_term.name", TEXT),
    Rule("ship_to.name", "warehouse.name", TEXT),
    Rule("ship_to.location_code", "warehouse.code", TEXT),
    Rule("ship_to.city", "warehouse.address.city", TEXT),
    Rule("ship_to.region", "warehouse.address.subdivision.name", TEXT),
    Rule("ship_to.postal_code", "warehouse.address.postal_code", TEXT),
    Rule("ship_to.country", "warehouse.address.country.code", TEXT),
    Rule("subtotal", "untaxed_amount", AMOUNT),
    Rule("tax_total", "tax_amount", AMOUNT),
    Rule("total", "total_amount", AMOUNT),
    Rule("notes", "comment", TEXT),
    Rule("remote_created_at", "create_date", STAMP),
)
LINE: Final = (
    Rule("lines[].item.remote_id", "product.id", ID),
    Rule("lines[].item.code", "product.code", TEXT),
    Rule("lines[].item.vendor_code", "product_supplier.code", TEXT),
    Rule("lines[].unit_raw", "unit.symbol", TEXT),
    Rule("lines[].unit_price", "unit_price", AMOUNT),
    Rule("lines[].amount", "amount", AMOUNT),
    Rule("lines[].warehouse", "warehouse.code", TEXT),
)
DERIVED: Final = (
    Rule("remote_id", "id", derived("the record's id as text")),
    Rule("status", "state, shipment_state", derived("status map; an approved order's by what was received", "code")),
    Rule("type", "lines.quantity", derived("return when only negative quantities are ordered", "code")),
    Rule("receipt_status", "lines.moves", derived("received quantities against ordered ones", "code")),
    Rule("invoice_status", "lines.invoice_lines", derived("invoiced quantities against ordered ones", "code")),
    Rule("currency", "currency.code", derived("the ISO code; anything else is null", "code")),
    Rule("vendor.tax_id", "party.tax_identifier.code", derived("the tax identifier, or else the first identifier")),
    Rule("vendor.tax_id_type", "party.tax_identifier.type", derived("as tax_id", "code")),
    Rule("ship_to.line1", "warehouse.address.street", derived("first line of the street")),
    Rule("ship_to.line2", "warehouse.address.street", derived("second line of the street")),
    Rule("ship_to.line3", "warehouse.address.street", derived("third line of the street")),
    Rule("remote_updated_at", "write_date", derived("newest stamp of header, lines and stock moves", "datetime")),
    Rule("remote_version", "_timestamp", derived("the order's stamp, and a digest of its lines' stamps")),
    Rule("lines[].remote_id", "id", derived("the record's id as text")),
    Rule("lines[].line_number", "sequence", derived("the sequence, when users gave one")),
    Rule("lines[].status", "quantity, moves", derived("by the quantities, and by the order's state", "code")),
    Rule("lines[].item.description", "description", derived("the line's text, or else the product's name")),
    Rule("lines[].quantity", "quantity", derived("number, rounded to the unit's digits", "amount")),
    Rule("lines[].unit", "unit.symbol", derived("by the unit map", "code")),
    Rule("lines[].promised_date", "delivery_date", derived("before confirming: only a date somebody entered", "date")),
    Rule("lines[].received_quantity", "moves", derived("sum of the moves done, in the line's unit", "amount")),
    Rule("lines[].invoiced_quantity", "invoice_lines", derived("sum on posted invoices, in the line's unit", "amount")),
    Rule("lines[].open_quantity", "moves", derived("ordered less received, never below zero", "amount")),
)
RULES: Final = (*HEADER, *LINE, *DERIVED)

_FIELD: Final = Names("field of Tryton, like reference or party.lang.code", r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
OVERRIDABLE: Final[Overridable] = {
    "currencies": Names("currency code of Tryton, like R$", r"\S.{0,19}"),
    "units": Names("unit symbol of Tryton, like cx", r"\S.{0,19}"),
    "statuses": Names("state of a purchase, like confirmed", r"[a-z_]{1,40}"),
    "fields": _FIELD,
    "line_fields": _FIELD,
}
FIELDS: Final = {"reference": ReaderName.AUTO, "description": ReaderName.AUTO}
LINE_FIELDS: Final = {"note": ReaderName.AUTO}
"""Fields that are passed through unless a mapping omits them."""

HEADER_EXTRAS: Final = (
    *("id", "_timestamp", "write_date", "shipment_state", "warehouse.address.street"),
    *("party.tax_identifier.code", "party.tax_identifier.type", "party.identifiers.code", "party.identifiers.type"),
)
LINE_EXTRAS: Final = (
    *("id", "_timestamp", "type", "sequence", "quantity", "unit.digits", "unit.factor", "description", "product.name"),
    *("delivery_date", "delivery_date_edit", "movable", "create_date", "write_date"),
)
MOVE_EXTRAS: Final = ("state", "quantity", "unit.factor", "create_date", "write_date")
INVOICE_LINE_EXTRAS: Final = ("quantity", "unit.factor", "invoice.state")
