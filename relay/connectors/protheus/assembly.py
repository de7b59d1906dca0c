"""Rows of one order -> the canonical order.

    rows + looked-up names -> header from the first living row, one line per row, statuses, totals -> PurchaseOrder

A deleted row whose line lives again under the same number is left out; an order is deleted when none of its rows lives.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

from relay.connectors.kit.mapping import built, mapped
from relay.connectors.kit.readers import bare, date_of, fixed, text_of
from relay.connectors.protheus import legend
from relay.connectors.protheus import mapping as columns
from relay.connectors.protheus.codes import Codes
from relay.connectors.protheus.rows import (
    Key,
    Row,
    is_deleted,
    one_per_line,
    raw_bytes,
    remote_id_of,
    stamp_of,
    version_of,
)
from relay.connectors.protheus.settings import ProtheusSettings
from relay.domain.errors import RecordRejected
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import OrderType, PurchaseOrder, Status

T = TypeVar("T")
_CNPJ, _CPF = 14, 11


class Assembler:
    """Makes orders as one connection's settings and mapping say."""

    def __init__(self, settings: ProtheusSettings, own: MappingOverrides, absent: tuple[str, ...]) -> None:
        self._settings = settings
        self._codes = Codes(own)
        self._absent = absent
        self._header = columns.header_rules(own)
        self._line = columns.line_rules(own)
        rules = (*self._header, *self._line, *columns.MADE)
        self._sources = {rule.path: rule.source for rule in rules}

    def order(self, key: Key, given: Sequence[Row]) -> tuple[PurchaseOrder, tuple[str, ...]]:
        """The order and warnings for people about it; raises RecordRejected."""
        remote_id = remote_id_of(key)
        rows = one_per_line(given)
        try:
            standings = [self._standing(row) for row in rows]
            living = [row for row in rows if not is_deleted(row)] or rows
            fields = mapped(self._header, living[0], remote_id=remote_id)
            fields |= self._header_of(fields, living)
            fields |= _status_of(standings, self._codes.statuses)
            lines = [self._line_of(row, at, remote_id) for row, at in zip(rows, standings, strict=True)]
        except ValueError as error:
            column, _, why = str(error).partition(": ")
            raise RecordRejected(f"{column}: {why}", field=column, remote_id=remote_id) from None
        fields |= {
            "remote_id": remote_id,
            "lines": lines,
            "remote_was_deleted": all(row.deleted for row in standings),
            "remote_version": version_of(rows),
            "field_presence": self._absent,
            "raw": _json_safe(given) if self._settings.keep_raw else None,
        }
        order = built(fields, remote_id=remote_id, sources=self._sources)
        return order, tuple(self._warnings(order, standings))

    def orders(self, rows_of: Mapping[Key, Sequence[Row]]) -> dict[str, PurchaseOrder]:
        """The orders of these rows by remote id; those that cannot be read are left out."""
        found = {}
        for key, rows in rows_of.items():
            with suppress(RecordRejected):
                found[remote_id_of(key)], _ = self.order(key, rows)
        return found

    def _standing(self, row: Row) -> legend.Standing:
        return legend.Standing(
            ordered=_number(row, "C7_QUANT", self._codes.places("C7_QUANT")),
            received=_number(row, "C7_QUJE", self._codes.places("C7_QUJE")),
            pre_received=_number(row, "C7_QTDACLA", self._codes.places("C7_QTDACLA")),
            residue=_text(row, "C7_RESIDUO") or "",
            closed=_text(row, "C7_ENCER") or "",
            approval=(_text(row, "C7_CONAPRO") or "") if "C7_CONAPRO" in row else None,
            deleted=is_deleted(row),
        )

    def _header_of(self, fields: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
        index = fields.get("currency_raw")
        updated = [stamp for row in rows if (stamp := _stamp(row, columns.STAMP))]
        notes = dict.fromkeys(note for row in rows if (note := _text(row, "C7_OBS")))
        return {
            "type": OrderType.CONTRACT_RELEASE if any(_text(row, "C7_CONTRA") for row in rows) else OrderType.STANDARD,
            "company": {"remote_id": self._settings.company},
            "branch": _if_named(fields.get("branch")),
            "vendor": _vendor(fields.get("vendor", {})),
            "payment_terms": _if_named(fields.get("payment_terms")),
            "ship_to": _if_named(fields.get("ship_to"), "location_code"),
            "currency": self._codes.currency(index),
            "delivery_date": max((day for row in rows if (day := _date(row, "C7_DATPRF"))), default=None),
            "notes": "\n".join(notes) or None,
            "remote_updated_at": max(updated, default=None),
            **self._totals(rows),
        }

    def _totals(self, rows: Sequence[Row]) -> dict[str, Decimal | None]:
        sums = {name: self._sum(rows, name) for name in columns.MONEY_COLUMNS}
        nothing = Decimal(0)
        subtotal, discount = sums["C7_TOTAL"], sums["C7_VLDESC"]
        taxes = _added(sums["C7_VALIPI"], sums["C7_ICMSRET"])
        extras = (taxes, sums["C7_FRETE"], sums["C7_SEGURO"], sums["C7_DESPESA"])
        return {
            "subtotal": subtotal,
            "discount_total": discount,
            "tax_total": taxes,
            "freight_total": sums["C7_FRETE"],
            "total": None
            if subtotal is None
            else subtotal - (discount or nothing) + sum(part or nothing for part in extras),
        }

    def _sum(self, rows: Sequence[Row], name: str) -> Decimal | None:
        amounts = [_fixed(row, name, self._codes.places(name)) for row in rows]
        known = [amount for amount in amounts if amount is not None]
        return sum(known, Decimal(0)) if known and len(known) == len(amounts) else None

    def _line_of(self, row: Row, standing: legend.Standing, remote_id: str) -> dict[str, Any]:
        fields = mapped(self._line, row, remote_id=remote_id)
        item = fields.get("item", {})
        request = (_text(row, "C7_NUMSC"), _text(row, "C7_ITEMSC"))
        return fields | {
            "remote_id": line_id(row),
            "status": legend.line_status(standing),
            "item": item | {"description": item.get("description") or _text(row, "B1_DESC")},
            "unit": self._codes.unit(fields.get("unit_raw")),
            "open_quantity": standing.open_quantity,
            "cancelled_quantity": standing.cancelled_quantity,
            "source_request": "|".join(part for part in request if part) or None,
            "remote_was_deleted": standing.deleted,
        }

    def _warnings(self, order: PurchaseOrder, standings: Sequence[legend.Standing]) -> Iterable[str]:
        if order.currency_raw and not order.currency:
            yield f"currency index {order.currency_raw} is not mapped: add it to currencies in the mapping"
        for code in sorted(legend.unmapped(standings, self._codes.statuses)):
            yield f"approval code {code} is not mapped: add it to statuses in the mapping"
        for line in order.lines:
            if line.unit_raw and not line.unit:
                yield f"unit {line.unit_raw} is not mapped: add it to units in the mapping"
            if line.quantity is None or line.unit_price is None or line.amount is None:
                continue
            unit_of_last_digit = Decimal(1).scaleb(-self._codes.places("C7_TOTAL"))
            if abs(line.quantity * line.unit_price - line.amount) > unit_of_last_digit:
                yield f"{order.remote_id} line {line.remote_id}: quantity times price is not the amount"


def line_id(row: Row) -> str:
    """The item number, with the sequence behind it when the ERP uses one; raises ValueError."""
    item, sequence = _text(row, columns.ITEM) or "", _text(row, columns.SEQUENCE)
    return f"{item}|{sequence}" if sequence else item


def _json_safe(rows: Sequence[Row]) -> Any:
    # No NUL: PostgreSQL keeps none in JSON.
    return json.loads(raw_bytes([dict(row) for row in rows]).replace(b"\\u0000", b""))


def _status_of(rows: Sequence[legend.Standing], statuses: Mapping[str, Status]) -> dict[str, Any]:
    return {
        "status": legend.order_status(rows, statuses),
        "status_raw": legend.raw_status(rows),
        "approval_status": legend.approval_status(rows, statuses),
        "receipt_status": legend.receipt_status(rows),
    }


def _vendor(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    if not fields.get("code"):
        return None
    tax_id = fields.get("tax_id")
    kind = {_CNPJ: "CNPJ", _CPF: "CPF"}.get(len(tax_id)) if tax_id else None
    site = fields.get("site_code")
    return {**fields, "remote_id": f"{fields['code']}|{site}" if site else fields["code"], "tax_id_type": kind}


def _if_named(fields: Mapping[str, Any] | None, name: str = "remote_id") -> Mapping[str, Any] | None:
    return fields if fields and fields.get(name) else None


def _added(*parts: Decimal | None) -> Decimal | None:
    known = [part for part in parts if part is not None]
    return sum(known, Decimal(0)) if known else None


def _text(row: Row, name: str) -> str | None:
    return _named(name, text_of, row.get(name))


def _date(row: Row, name: str) -> dt.date | None:
    return _named(name, date_of, row.get(name))


def _number(row: Row, name: str, decimals: int) -> Decimal | None:
    return _named(name, lambda value: bare(value, decimals), row.get(name))


def _fixed(row: Row, name: str, decimals: int) -> Decimal | None:
    return _named(name, lambda value: fixed(value, decimals), row.get(name))


def _named(name: str, read: Callable[[Any], T], value: Any) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _stamp(row: Row, name: str) -> dt.datetime | None:
    return _named(name, stamp_of, row.get(name))
