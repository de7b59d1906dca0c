"""What no rule can say: quantities in the unit of their line, and where a line and an order stand. Pure functions."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.readers import bare, plain, text_of
from relay.connectors.tryton.rules import INVOICED, SHIPPED, STATUS, day, number
from relay.domain.orders import InvoiceStatus, LineStatus, OrderType, ReceiptStatus, Status

Record = Mapping[str, Any]

_UNCONFIRMED: Final = frozenset({"draft", "quotation"})
_DECIMALS: Final = 6
"""Kept of a quantity whose unit does not say how many it has."""
_MOST_DECIMALS: Final = 12


def flattened(record: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; a related record's are dotted, many related ones stay a list under `name.`."""
    for name, value in record.items():
        if name.endswith(".") and isinstance(value, Mapping):
            yield from flattened(value, prefix + name)
        else:
            yield prefix + name, value


def records(flat: Record, name: str) -> list[Record]:
    """The related records under `name.`; raises ValueError when they are none."""
    found = flat.get(name)
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise ValueError(f"{name.removesuffix('.')}: expected a list of records")
    return found


def version_of(flat: Record) -> str | None:
    """The order's stamp with a digest of its lines' stamps: a line that is written directly moves only its own.

    Raises ValueError.
    """
    stamp = text_of(flat.get("_timestamp"))
    if stamp is None:
        return None
    lines = "\n".join(sorted(f"{line.get('id')} {line.get('_timestamp')}" for line in records(flat, "lines.")))
    return f"{stamp}-{hashlib.blake2b(lines.encode(errors='replace'), digest_size=4).hexdigest()}"


def quantity_of(flat: Record, value: Any) -> Decimal | None:
    """A binary float as the number somebody typed: rounded to the digits of its unit."""
    digits: Any = flat.get("unit.digits")
    exact = number(value)
    known = isinstance(digits, int) and 0 <= digits <= _MOST_DECIMALS
    return None if exact is None else bare(exact, digits if known else _DECIMALS)


def _sum(flat: Record, parts: Iterable[Record]) -> Decimal | None:
    """The parts' quantities in the unit of the line."""
    own = number(flat.get("unit.factor")) or Decimal(1)
    total = Decimal(0)
    for part in parts:
        total += (number(part.get("quantity")) or Decimal(0)) * (number(part.get("unit.factor")) or own) / own
    return quantity_of(flat, total)


def received_of(flat: Record, ordered: Decimal | None) -> Decimal | None:
    """What has come, less than zero for goods sent back; None for services, and when moves may not be read."""
    if "moves." not in flat or flat.get("movable") is False:
        return None
    moves = [dict(flattened(move)) for move in records(flat, "moves.")]
    total = _sum(flat, (move for move in moves if move.get("state") == "done"))
    return -total if total and ordered and ordered < 0 else total  # goods sent back are moves of positive quantity


def invoiced_of(flat: Record) -> Decimal | None:
    """What is on posted invoices; None when they may not be read."""
    if "invoice_lines." not in flat:
        return None
    parts = [dict(flattened(part)) for part in records(flat, "invoice_lines.")]
    return _sum(flat, (part for part in parts if part.get("invoice.state") in INVOICED))


def _covers(done: Decimal | None, ordered: Decimal | None) -> bool:
    return done is not None and ordered is not None and abs(done) >= abs(ordered) > 0


def line_status(
    state: str | None, ordered: Decimal | None, received: Decimal | None, invoiced: Decimal | None
) -> LineStatus:
    """Where a line stands; a service is done when it is invoiced."""
    if state == "cancelled":
        return LineStatus.CANCELLED
    if state == "done":
        return LineStatus.CLOSED
    if _covers(received, ordered):
        return LineStatus.RECEIVED
    if received:
        return LineStatus.PARTIALLY_RECEIVED
    return LineStatus.INVOICED if received is None and _covers(invoiced, ordered) else LineStatus.OPEN


def open_of(state: str | None, ordered: Decimal | None, received: Decimal | None) -> Decimal | None:
    """What is still to come: nothing of what was delivered beyond the order, nor of an order that is over."""
    if ordered is None or received is None:
        return None
    rest = ordered - received
    over = rest < 0 if ordered >= 0 else rest > 0
    return Decimal(0) if over or state in ("cancelled", "done") else plain(rest)


def promised_of(flat: Record, state: str | None) -> date | None:
    """The line's delivery date; raises ValueError."""
    # Before confirming, Tryton computes a date from today on: it would change every day without a change.
    fixed = state not in _UNCONFIRMED or bool(flat.get("delivery_date_edit"))
    return day(flat.get("delivery_date")) if fixed else None


def order_status(
    state: str | None, shipment: Any, receipt: ReceiptStatus | None, statuses: Mapping[str, Status] = STATUS
) -> Status:
    """The status map; an order in processing stands where its shipments do."""
    status = statuses.get(state or "", Status.OTHER)
    if status is not Status.APPROVED:
        return status
    if isinstance(shipment, str) and shipment in SHIPPED:
        return SHIPPED[shipment]
    # A shipment in exception says nothing of what has come.
    return Status.PARTIALLY_RECEIVED if shipment == "exception" and receipt is ReceiptStatus.PARTIAL else status


def receipt_status(lines: list[dict[str, Any]], state: str | None) -> ReceiptStatus | None:
    """How much has come over all lines of goods; None when there are none."""
    goods = [line for line in lines if line["received_quantity"] is not None]
    if not goods:
        return None
    if all(_covers(line["received_quantity"], line["quantity"]) for line in goods):
        return ReceiptStatus.FULL
    if state == "done":
        return ReceiptStatus.CLOSED_SHORT
    return ReceiptStatus.PARTIAL if any(line["received_quantity"] for line in goods) else ReceiptStatus.NONE


def invoice_status(lines: list[dict[str, Any]]) -> InvoiceStatus | None:
    """How much is invoiced over all lines; None when invoices may not be read."""
    known = [line for line in lines if line["invoiced_quantity"] is not None]
    if not known:
        return None
    if all(_covers(line["invoiced_quantity"], line["quantity"]) for line in known):
        return InvoiceStatus.FULL
    return InvoiceStatus.PARTIAL if any(line["invoiced_quantity"] for line in known) else InvoiceStatus.NONE


def order_type(lines: list[dict[str, Any]]) -> OrderType:
    """A return orders negative quantities only."""
    quantities = [line["quantity"] for line in lines if line["quantity"]]
    return OrderType.RETURN if quantities and max(quantities) < 0 else OrderType.STANDARD
