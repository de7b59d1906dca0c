"""Which field of RM feeds which canonical field: the field mapping, as data.

`header_rules` and `line_rules` are read from one field each; `MADE` and `MADE_OF_LINES` are the fields that
`assembly.py` makes of several values.
"""

from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import LINES, Reader, Rule, derived
from relay.connectors.kit.own_columns import own_rules
from relay.connectors.kit.readers import money, number_of, quantity, text
from relay.connectors.rm.codes import Codes
from relay.connectors.rm.times import day_of
from relay.domain.mapping import MappingOverrides

STAMP: Final = "RECMODIFIEDON"
BORN: Final = "RECCREATEDON"
COMPANY: Final = "CompanyId"
MOVEMENT: Final = "MovementId"
TYPE: Final = "MovementTypeCode"
ITEMS: Final = "Items"
LINE_ID: Final = "SequentialId"
ORDERED: Final = "Quantity"
RECEIVABLE: Final = "ReceivableQuantity"
QUANTITY_PLACES, PRICE_PLACES, MONEY_PLACES = 4, 4, 2

_QUANTITIES: Final = f"{ORDERED}, {RECEIVABLE}"
_VENDOR: Final = "CustomerVendorCompanyId, CustomerVendorCode"

MADE: Final[tuple[Rule, ...]] = (
    Rule("remote_id", f"{COMPANY}, {MOVEMENT}", derived("company|movement")),
    Rule(
        "status",
        f"Status, {RECEIVABLE}",
        derived("by the status map; an open or finished order's by what came", "code"),
    ),
    Rule(
        "approval_status", "Status", derived("pending while the order waits for approval, approved afterwards", "code")
    ),
    Rule("receipt_status", _QUANTITIES, derived("quantities of the lines", "code")),
    Rule("type", TYPE, derived("standard", "code")),
    Rule("vendor.remote_id", _VENDOR, derived("company|code")),
    Rule("currency", "NetValueCurrencyCode", derived("ISO code by the connection's map", "code")),
    Rule("remote_version", STAMP, derived("the stamp, and a digest of the order")),
    Rule("remote_created_at", BORN, derived("local time of the connection's zone, as UTC", "datetime")),
    Rule("remote_updated_at", STAMP, derived("local time of the connection's zone, as UTC", "datetime")),
)
MADE_OF_LINES: Final[tuple[Rule, ...]] = (
    Rule("lines[].remote_id", LINE_ID, derived("the line's own number as text")),
    Rule("lines[].status", f"Status, {_QUANTITIES}", derived("by the quantities, and by the order's status", "code")),
    Rule("lines[].unit", "MeasureUnitCode", derived("UN/ECE Rec 20 by the connection's map", "code")),
    Rule("lines[].received_quantity", _QUANTITIES, derived("ordered - still to come, never below zero", "amount")),
)


def whole(value: Any) -> str | None:
    """A whole number as text, blank is null. Raises ValueError."""
    number = number_of(value)
    if number is None:
        return None
    if number != number.to_integral_value():
        raise ValueError("expected a whole number")
    return format(number.quantize(Decimal(1)), "f")


NUMBER: Final = Reader("whole number", "code", whole)
DAY: Final = Reader("day, without the time", "date", day_of)


def header_rules(own: MappingOverrides) -> tuple[Rule, ...]:
    """Header fields read from one field each."""
    codes = Codes(own)
    return (
        Rule("number", "Number", text(), 35),
        Rule("status_raw", "Status", text(), 1),
        Rule("company.remote_id", COMPANY, NUMBER),
        Rule("branch.remote_id", "BranchId", NUMBER),
        Rule("vendor.code", "CustomerVendorCode", text(), 25),
        Rule("payment_terms.remote_id", "PaymentTermCode", text(), 5),
        Rule("payment_terms.code", "PaymentTermCode", text(), 5),
        Rule("currency_raw", "NetValueCurrencyCode", text(), 10),
        Rule("order_date", "RegisterDate", DAY),
        Rule("delivery_date", "DeliveryDate", DAY),
        Rule("ship_to.location_code", "DeliveryWarehouseCode", text(), 15),
        Rule("subtotal", "GrossValue", money(codes.places("GrossValue", MONEY_PLACES))),
        Rule("discount_total", "DiscountValue", money(codes.places("DiscountValue", MONEY_PLACES))),
        Rule("freight_total", "FreightValue", money(codes.places("FreightValue", MONEY_PLACES))),
        Rule("total", "NetValue", money(codes.places("NetValue", MONEY_PLACES))),
        Rule("notes", "Observation", text(), 60),
        *own_rules(codes.fields),
    )


def line_rules(own: MappingOverrides) -> tuple[Rule, ...]:
    """Line fields read from one field each."""
    codes = Codes(own)
    return (
        Rule("lines[].line_number", "SequentialNumber", NUMBER),
        Rule("lines[].item.remote_id", "ProductId", NUMBER),
        Rule("lines[].item.code", "ProductCodeValue", text(), 30),
        Rule("lines[].quantity", ORDERED, quantity(codes.places(ORDERED, QUANTITY_PLACES))),
        Rule("lines[].unit_raw", "MeasureUnitCode", text(), 5),
        Rule("lines[].unit_price", "UnitPrice", quantity(codes.places("UnitPrice", PRICE_PLACES))),
        Rule("lines[].discount", "DiscountValue", money(codes.places("DiscountValue", MONEY_PLACES))),
        Rule("lines[].amount", "NetValue", money(codes.places("NetValue", MONEY_PLACES))),
        Rule("lines[].required_date", "DeliveryDate", DAY),
        Rule("lines[].warehouse", "WarehouseCode", text(), 15),
        Rule("lines[].cost_center", "CostCenterCode", text(), 25),
        Rule("lines[].open_quantity", RECEIVABLE, quantity(codes.places(RECEIVABLE, QUANTITY_PLACES))),
        *own_rules(own.line_fields, LINES),
    )
