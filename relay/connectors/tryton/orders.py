"""One record of Tryton's purchase.purchase, lines, moves and invoice lines inside, as a canonical order.

    record -> flat names (party.code) -> rules -> what no rule can say: status, quantities, units -> PurchaseOrder

What cannot be read rejects this record alone, and names the source field.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from relay.connectors.kit.mapping import built, mapped
from relay.connectors.kit.own_columns import own_reader
from relay.connectors.kit.readers import text_of
from relay.connectors.tryton.derive import (
    Record,
    flattened,
    invoice_status,
    invoiced_of,
    line_status,
    open_of,
    order_status,
    order_type,
    promised_of,
    quantity_of,
    receipt_status,
    received_of,
    records,
    version_of,
)
from relay.connectors.tryton.rules import HEADER, LINE, RULES, STATUS, UNITS, identity, plain, stamp
from relay.domain.errors import RecordRejected
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder, ReceiptStatus, Status

_SOURCES: Final = {rule.path: rule.source for rule in RULES}
_ISO_LETTERS: Final = 3
_STREET_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a connection asks for beyond the rules: its own mapping, of which Tryton has everything, the raw record."""

    own: MappingOverrides = field(default_factory=MappingOverrides)
    keep_raw: bool = False


@dataclass(slots=True)
class OrderReader:
    """Turns records into orders; `presence` are the paths this system cannot give. Warnings gather in `warnings`."""

    wishes: Wishes
    presence: tuple[str, ...]
    warnings: dict[str, None] = field(default_factory=dict)

    def order(self, record: Record) -> PurchaseOrder:
        """The order of one record. Raises RecordRejected naming the source field."""
        remote_id = id_of(record)
        named = partial(_named, remote_id)
        flat = dict(flattened(record))
        fields = mapped(HEADER, flat, remote_id=remote_id)
        state = fields.get("status_raw")
        lines = [
            self._line(dict(flattened(line)), state, remote_id)
            for line in named("lines", records, flat, "lines.")
            if line.get("type") == "line"
        ]
        receipt = receipt_status(lines, state)
        code = fields.get("currency_raw")
        return built(
            {
                **fields,
                "remote_id": remote_id,
                "type": order_type(lines),
                "status": self._status(state, flat.get("shipment_state"), receipt),
                "receipt_status": receipt,
                "invoice_status": invoice_status(lines),
                "vendor": named("party.tax_identifier", _with_tax_id, fields.get("vendor"), flat),
                "ship_to": named("warehouse.address.street", _with_street, fields.get("ship_to"), flat),
                "currency": self._currency(code),
                "lines": lines,
                "custom_fields": {
                    name: named(name, own_reader(kind, plain).read, flat.get(name))
                    for name, kind in self.wishes.own.fields.items()
                },
                "remote_updated_at": named("write_date", _newest, record),
                "remote_version": named("_timestamp", version_of, flat),
                "field_presence": self.presence,
                "raw": json.loads(raw_of(record)) if self.wishes.keep_raw else None,
            },
            remote_id=remote_id,
            sources=_SOURCES,
        )

    def orders(self, records: Iterable[Record]) -> dict[str, PurchaseOrder]:
        """The orders of these records by remote id; those that cannot be read are left out."""
        found = {}
        for record in records:
            with suppress(RecordRejected):
                order = self.order(record)
                found[order.remote_id] = order
        return found

    def _line(self, flat: Record, state: str | None, remote_id: str) -> dict[str, Any]:
        named = partial(_named, remote_id)
        fields = mapped(LINE, flat, remote_id=remote_id)
        quantity = named("lines.quantity", quantity_of, flat, flat.get("quantity"))
        received = named("lines.moves", received_of, flat, quantity)
        invoiced = named("lines.invoice_lines", invoiced_of, flat)
        return {
            **fields,
            "remote_id": id_of(flat),
            "line_number": named("lines.sequence", identity, flat.get("sequence")),
            "status": line_status(state, quantity, received, invoiced),
            "item": {**fields.get("item", {}), "description": named("lines.description", _description, flat)},
            "quantity": quantity,
            "unit": self._unit(fields.get("unit_raw")),
            "promised_date": named("lines.delivery_date", promised_of, flat, state),
            "received_quantity": received,
            "invoiced_quantity": invoiced,
            "open_quantity": open_of(state, quantity, received),
            "custom_fields": {
                name: named(f"lines.{name}", own_reader(kind, plain).read, flat.get(name))
                for name, kind in self.wishes.own.line_fields.items()
            },
        }

    def _status(self, state: str | None, shipment: Any, receipt: ReceiptStatus | None) -> Status:
        statuses = {**STATUS, **self.wishes.own.statuses}
        if state and state not in statuses:
            self.warnings[f"state {state} is not mapped: add it to statuses in the mapping"] = None
        return order_status(state, shipment, receipt, statuses)

    def _currency(self, code: str | None) -> str | None:
        if own := self.wishes.own.currencies.get(code or ""):
            return own
        if code and len(code) == _ISO_LETTERS and code.isascii() and code.isupper() and code.isalpha():
            return code
        if code:
            self.warnings[f"currency {code} is not mapped: add it to currencies in the mapping"] = None
        return None

    def _unit(self, symbol: str | None) -> str | None:
        known = self.wishes.own.units.get(symbol or "") or UNITS.get(symbol or "")
        if symbol and not known:
            self.warnings[f"unit {symbol} is not mapped: add it to units in the mapping"] = None
        return known


def _named(remote_id: str, source: str, read: Callable[..., Any], *values: Any) -> Any:
    """What `read` gives; what it cannot read is a rejected record that names its source field."""
    try:
        return read(*values)
    except (ValueError, ArithmeticError) as error:
        raise RecordRejected(f"{source}: {error}", field=source, remote_id=remote_id) from None


def id_of(record: Record) -> str:
    """The record's own id as text. Raises RecordRejected."""
    try:
        remote_id = identity(record.get("id"))
    except ValueError:
        remote_id = None
    if remote_id is None:
        raise RecordRejected("id: expected a record id", field="id")
    return remote_id


def raw_of(record: Any) -> bytes:
    """The record as JSON, exact numbers as text, half characters as "?": for the dead letters, and for `raw`."""
    return json.dumps(record, default=str, ensure_ascii=False).encode(errors="replace")


def _description(flat: Record) -> str | None:
    return text_of(flat.get("description")) or text_of(flat.get("product.name"))


def _with_tax_id(vendor: dict[str, Any] | None, flat: Record) -> dict[str, Any] | None:
    if vendor is None:
        return None
    found = {"code": flat.get("party.tax_identifier.code"), "type": flat.get("party.tax_identifier.type")}
    # A person's CPF is no tax identifier to Tryton, but it is the identifier there is.
    if not found["code"] and flat.get("party.identifiers."):
        found = dict(records(flat, "party.identifiers.")[0])
    return {**vendor, "tax_id": text_of(found.get("code")), "tax_id_type": text_of(found.get("type"))}


def _with_street(address: dict[str, Any] | None, flat: Record) -> dict[str, Any] | None:
    street = [line.strip() for line in (text_of(flat.get("warehouse.address.street")) or "").splitlines()]
    filled = [line for line in street if line][:_STREET_LINES]
    return address and {**address, **{f"line{place}": line for place, line in enumerate(filled, start=1)}}


def _newest(record: Record) -> datetime | None:
    return max(_stamps(record), default=None)


def _stamps(record: Record) -> Iterator[datetime]:
    """Every create and write stamp in the record and in the records it holds."""
    for name, value in record.items():
        if name in ("create_date", "write_date"):
            found = stamp(value)
            if found:
                yield found
        elif name.endswith(".") and isinstance(value, list):
            for part in value:
                yield from _stamps(part) if isinstance(part, Mapping) else ()
