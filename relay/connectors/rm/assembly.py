"""One record of RM -> the canonical order.

    record, RM's spelling mended, complementary fields beside the others -> rules -> statuses, times -> PurchaseOrder

What cannot be read rejects this record alone, and names the field.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from relay.connectors.kit.mapping import built, mapped
from relay.connectors.kit.own_columns import own_reader
from relay.connectors.kit.readers import plain, text_of
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.codes import COMPLEMENTARY, Codes
from relay.connectors.rm.settings import RmSettings
from relay.connectors.rm.spelling import mended
from relay.connectors.rm.standing import approval_status, line_status, order_status, receipt_status
from relay.connectors.rm.times import local_of, utc_of
from relay.domain.errors import RecordRejected
from relay.domain.mapping import MappingOverrides, ReaderName
from relay.domain.orders import (
    OrderType,
    PurchaseOrder,
    Status,
    content_hash,
)

Record = Mapping[str, Any]

_DIGITS: Final = 12
"""Of the digest in a version."""
_ZERO: Final = Decimal(0)


class Assembler:
    """Makes orders as one connection's settings and mapping say; `absent` are the paths RM cannot give."""

    def __init__(self, settings: RmSettings, own: MappingOverrides, absent: tuple[str, ...]) -> None:
        self._settings = settings
        self._codes = Codes(own)
        self._own = own
        self._absent = absent
        self._header = fields_of.header_rules(own)
        self._line = fields_of.line_rules(own)
        rules = (*self._header, *self._line, *fields_of.MADE, *fields_of.MADE_OF_LINES)
        self._sources = {rule.path: rule.source for rule in rules}

    def order(self, given: Record) -> tuple[PurchaseOrder, tuple[str, ...]]:
        """The order of one record, and warnings for people about it; raises RecordRejected."""
        record = flat(given)
        remote_id = remote_id_of(given)
        try:
            fields = mapped(self._header, record, remote_id=remote_id)
            lines = [self._line_of(flat(each), remote_id) for each in _items(given)]
            fields |= self._header_of(fields, record) | self._standing(fields.get("status_raw"), lines)
            _add_complementary(fields, record, self._codes.fields)
        except ValueError as error:
            name, _, why = str(error).partition(": ")
            raise RecordRejected(f"{name}: {why}", field=name, remote_id=remote_id) from None
        fields |= {
            "remote_id": remote_id,
            "lines": lines,
            "field_presence": self._absent,
            "raw": _json_safe(given) if self._settings.keep_raw else None,
        }
        order = built(fields, remote_id=remote_id, sources=self._sources)
        # Stamps have seconds, and two changes may share one.
        version = f"{record.get(fields_of.STAMP)}/{content_hash(order.tree())[:_DIGITS]}"
        versioned = order.model_copy(update={"remote_version": version})
        return versioned, tuple(dict.fromkeys(self._warnings(order)))

    def orders(self, records: Iterable[Record]) -> dict[str, PurchaseOrder]:
        """The orders of these records by remote id; those that cannot be read are left out."""
        found = {}
        for record in records:
            with suppress(RecordRejected):
                order, _ = self.order(record)
                found[order.remote_id] = order
        return found

    def _header_of(self, fields: Record, record: Record) -> dict[str, Any]:
        return {
            "type": OrderType.STANDARD,
            "branch": _if_named(fields.get("branch")),
            "company": _if_named(fields.get("company")),
            "vendor": _vendor(fields.get("vendor", {}), record),
            "payment_terms": _if_named(fields.get("payment_terms")),
            "ship_to": _if_named(fields.get("ship_to"), "location_code"),
            "currency": self._codes.currency(fields.get("currency_raw")),
            "remote_created_at": self._time(record, fields_of.BORN),
            "remote_updated_at": self._time(record, fields_of.STAMP),
        }

    def _time(self, record: Record, name: str) -> Any:
        try:
            return utc_of(local_of(record.get(name), self._settings.time_zone), self._settings.time_zone)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _line_of(self, record: Record, remote_id: str) -> dict[str, Any]:
        fields = mapped(self._line, record, remote_id=remote_id)
        ordered, still = fields.get("quantity"), fields.get("open_quantity")
        _add_complementary(fields, record, self._own.line_fields)
        return fields | {
            "remote_id": _whole(record, fields_of.LINE_ID),
            "unit": self._codes.unit(fields.get("unit_raw")),
            "received_quantity": None if ordered is None or still is None else plain(max(_ZERO, ordered - still)),
        }

    def _standing(self, letter: str | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
        status = order_status(self._codes.status(letter) or Status.OTHER, lines)
        for line in lines:
            line["status"] = line_status(line, status)
        return {
            "status": status,
            "approval_status": approval_status(status),
            "receipt_status": receipt_status(lines, status),
        }

    def _warnings(self, order: PurchaseOrder) -> Iterator[str]:
        if order.currency_raw and not order.currency:
            yield f"currency {order.currency_raw} is not mapped: add it to currencies in the mapping"
        if order.status_raw and self._codes.status(order.status_raw) is None:
            yield f"status {order.status_raw} is not mapped: add it to statuses in the mapping"
        for line in order.lines:
            if line.unit_raw and not line.unit:
                yield f"unit {line.unit_raw} is not mapped: add it to units in the mapping"


def remote_id_of(record: Record) -> str:
    """`company|movement`. Raises RecordRejected."""
    try:
        parts = [_whole(record, name) for name in (fields_of.COMPANY, fields_of.MOVEMENT)]
    except ValueError as error:
        name, _, why = str(error).partition(": ")
        raise RecordRejected(f"{name}: {why}", field=name) from None
    return "|".join(parts)


def flat(record: Record) -> dict[str, Any]:
    """The record with its names mended and its complementary fields beside the others, dotted."""
    told = mended(record)
    inner = told.get(COMPLEMENTARY)
    if not isinstance(inner, Mapping):
        return told
    return told | {f"{COMPLEMENTARY}.{name}": value for name, value in inner.items()}


def is_collapsed(record: Record) -> bool:
    """Whether RM kept the lines back: it names them among what it would expand, and gives none."""
    expandable = record.get("_expandables")
    return isinstance(expandable, list) and fields_of.ITEMS in expandable and not record.get(fields_of.ITEMS)


def raw_bytes(record: Any) -> bytes:
    """A record as it came, for the dead letters."""
    return json.dumps(record, default=str).encode()


def _json_safe(record: Record) -> Any:
    # No NUL: PostgreSQL keeps none in JSON.
    return json.loads(raw_bytes(record).replace(b"\\u0000", b""))


def _items(record: Record) -> list[Record]:
    items = record.get(fields_of.ITEMS)
    if is_collapsed(record):
        raise ValueError(f"{fields_of.ITEMS}: collapsed although they were asked for")
    if not isinstance(items, list) or not all(isinstance(each, Mapping) for each in items):
        raise ValueError(f"{fields_of.ITEMS}: expected a list of lines")
    return items


def _add_complementary(fields: dict[str, Any], record: Record, named: Mapping[str, ReaderName]) -> None:
    """The customer's own columns, those that a mapping names or omits excepted."""
    for name, value in record.items():
        if name.startswith(f"{COMPLEMENTARY}.") and name not in named:
            try:
                fields.setdefault("custom_fields", {})[name] = own_reader(ReaderName.AUTO).read(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


def _vendor(fields: Record, record: Record) -> dict[str, Any] | None:
    if not fields.get("code"):
        return None
    company = _number(record, "CustomerVendorCompanyId")
    return {**fields, "remote_id": f"{company}|{fields['code']}" if company else fields["code"]}


def _if_named(fields: Record | None, name: str = "remote_id") -> Record | None:
    return fields if fields and fields.get(name) else None


def _whole(record: Record, name: str) -> str:
    found = _number(record, name)
    if found is None:
        raise ValueError(f"{name}: expected a whole number")
    return found


def _number(record: Record, name: str) -> str | None:
    try:
        return fields_of.whole(record.get(name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def type_of(record: Record) -> str | None:
    """The movement's type code; None when it does not say."""
    try:
        return text_of(record.get(fields_of.TYPE))
    except ValueError:
        return None
