"""Sample orders for each event type: before and after. Their events are made by the code that makes real ones."""

import datetime as dt
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from relay.domain.changes import ChangeKind
from relay.domain.events import EVENT_PREFIX, ChangeEvent, Origin, change_event, mapping_event
from relay.domain.orders import PurchaseOrder

TEST_PREFIX = "test_"
"""What the ids of samples begin with that are sent to try an endpoint: it is signed, as no other mark of them is."""
SEEN_AT = dt.datetime(2026, 3, 9, 14, 30, tzinfo=dt.UTC)
CHANGED_AT = dt.datetime(2026, 3, 9, 14, 28, 51, tzinfo=dt.UTC)
ORIGIN = Origin("acme", "con_6f0d3c7e1b2a49588d10c4e7", "protheus")

_HEADER: Mapping[str, Any] = MappingProxyType(
    {
        "remote_id": "D MG 01|000123",
        "number": "000123",
        "status": "approved",
        "status_raw": "C7_CONAPRO=L",
        "approval_status": "approved",
        "receipt_status": "none",
        "company": {"remote_id": "T1"},
        "branch": {"remote_id": "D MG 01"},
        "vendor": {
            "remote_id": "FOR001|01",
            "code": "FOR001",
            "site_code": "01",
            "name": "Fornecedor São João Ltda",
            "tax_id": "12345678000195",
            "tax_id_type": "CNPJ",
        },
        "currency": "BRL",
        "currency_raw": "1",
        "exchange_rate": "1",
        "order_date": "2026-03-02",
        "delivery_date": "2026-03-20",
        "payment_terms": {"remote_id": "030", "code": "030", "description": "30 dias"},
        "subtotal": "125.00",
        "total": "125.00",
        "custom_fields": {"C7_XPRIOR": "URGENTE"},
        "remote_updated_at": CHANGED_AT,
        "field_presence": ("incoterm", "invoice_status"),
    }
)
_LINE: Mapping[str, Any] = MappingProxyType(
    {
        "remote_id": "0001",
        "line_number": "0001",
        "item": {"remote_id": "PAR-M8-30", "code": "PAR-M8-30", "description": "Parafuso sextavado M8x30"},
        "quantity": "100",
        "unit": "C62",
        "unit_raw": "UN",
        "unit_price": "1.25",
        "amount": "125.00",
        "required_date": "2026-03-20",
        "received_quantity": "0",
        "open_quantity": "100",
    }
)
_WAITING = {"status": "pending_approval", "status_raw": "C7_CONAPRO=B", "approval_status": "pending"}
_REFUSED = {"status": "rejected", "status_raw": "C7_CONAPRO=R", "approval_status": "rejected"}
_CLOSED = {"status": "closed", "status_raw": "C7_CONAPRO=L C7_RESIDUO=S", "receipt_status": "closed_short"}

Difference = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]
"""Header values before, header values after, line values after."""

_DIFFERENCES: Mapping[ChangeKind, Difference] = {
    ChangeKind.UPDATED: ({}, {"total": "150.00", "subtotal": "150.00"}, {"quantity": "120", "amount": "150.00"}),
    ChangeKind.STATUS_CHANGED: ({}, {"status": "on_hold"}, {}),
    ChangeKind.APPROVED: (_WAITING, {}, {}),
    ChangeKind.REJECTED: (_WAITING, _REFUSED, {}),
    ChangeKind.QUANTITY_RECEIVED: (
        {},
        {"status": "partially_received", "receipt_status": "partial"},
        {"status": "partially_received", "received_quantity": "40", "open_quantity": "60"},
    ),
    ChangeKind.QUANTITY_INVOICED: ({}, {"invoice_status": "partial"}, {"invoiced_quantity": "40"}),
    ChangeKind.CANCELLED: ({}, {"status": "cancelled"}, {"status": "cancelled"}),
    ChangeKind.CLOSED: ({}, _CLOSED, {"status": "closed", "cancelled_quantity": "100", "open_quantity": "0"}),
    ChangeKind.REOPENED: (_CLOSED, {}, {}),
    ChangeKind.DELETED: ({}, {"status": "deleted", "remote_was_deleted": True}, {}),
    ChangeKind.RESTORED: ({"status": "deleted", "remote_was_deleted": True}, {}, {}),
    ChangeKind.MAPPING_CHANGED: ({"currency": None}, {}, {"unit": "EA"}),
}


def sample_order(header: Mapping[str, Any] = _HEADER, line: Mapping[str, Any] = _LINE) -> PurchaseOrder:
    """A small approved order, with these values instead of its own."""
    return PurchaseOrder.model_validate({**_HEADER, **header, "lines": ({**_LINE, **line},)})


def sample_event(event_type: str, origin: Origin = ORIGIN) -> ChangeEvent:
    """An event of this type."""
    kind = ChangeKind(event_type.removeprefix(EVENT_PREFIX))
    first = kind if kind in {ChangeKind.CREATED, ChangeKind.SNAPSHOT} else ChangeKind.CREATED
    event, seen = None, None
    for order in _life(kind):
        if kind is ChangeKind.MAPPING_CHANGED and seen:
            made = mapping_event(origin, seen, order, now=SEEN_AT)
        else:
            made = change_event(origin, seen, order, now=SEEN_AT, first=first)
        assert made is not None
        event, seen = made
    assert event is not None
    assert event.type == event_type
    return event


def _life(kind: ChangeKind) -> Iterator[PurchaseOrder]:
    """The states of an order, of which the last makes an event of this kind."""
    if kind not in _DIFFERENCES:
        yield sample_order()
        return
    before, after, line = _DIFFERENCES[kind]
    if before.get("remote_was_deleted"):
        yield sample_order()  # an order that is deleted when it is first seen is told to nobody
    yield sample_order(before)
    yield sample_order(after, line)
