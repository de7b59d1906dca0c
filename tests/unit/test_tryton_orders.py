"""A record as a real Tryton 8.2 gave it, mapped; then every field of it turned to junk."""

import copy
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.connectors.kit.replies import parsed
from relay.connectors.tryton.orders import OrderReader, Wishes, raw_of
from relay.domain.errors import RecordRejected
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import LineStatus, PurchaseOrder, ReceiptStatus, Status

RECORDED = (Path(__file__).parents[1] / "fixtures" / "tryton_records" / "search_read.json").read_text()
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(["", "x", "\0", "9" * 400, "NaN", "2026-13-45", 10**40, Decimal("1E+99"), Decimal("-0"), [], [[]]]),
    st.sampled_from(
        [
            {},
            {"__class__": "Decimal"},
            {"__class__": "Decimal", "decimal": "1,5"},
            {"__class__": "Decimal", "decimal": "1E+99"},
            {"__class__": "date", "year": 0, "month": 0, "day": 0},
            {"__class__": "datetime", "year": 10**30, "month": 1, "day": 1},
        ]
    ),
)


def recorded():
    return parsed(RECORDED)["result"]


def read(record, **wishes):
    chosen = Wishes(MappingOverrides(fields=["reference"], line_fields=["note"]), **wishes)
    return OrderReader(chosen, ()).order(record)


def places(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def with_junk(record, path, junk):
    spoilt = copy.deepcopy(record)
    *parents, last = path
    target = spoilt
    for step in parents:
        target = target[step]
    target[last] = junk
    return spoilt


PLACES = [path for path in places(recorded()[0]) if path]


def test_the_recorded_order_is_mapped():
    order = read(recorded()[0])
    assert (order.status, order.receipt_status) == (Status.PARTIALLY_RECEIVED, ReceiptStatus.PARTIAL)
    assert order.custom_fields == {"reference": "WEB-1"}
    assert [(str(line.quantity), str(line.received_quantity), line.unit) for line in order.lines] == [
        ("100", "50", "C62"),
        ("12.3", "6", "KGM"),
        ("2", "None", "HUR"),
    ]
    assert order.lines[2].status is LineStatus.INVOICED


@given(path=st.sampled_from(PLACES), junk=JUNK)
def test_junk_in_any_field_gives_an_order_or_rejects_this_record_alone(path, junk):
    spoilt = with_junk(recorded()[0], path, junk)
    try:
        order = read(spoilt, keep_raw=True)
    except RecordRejected as error:
        assert error.field  # noqa: PT017 - either outcome is right, and each has its duty
        assert json.loads(raw_of(spoilt))
    else:
        assert PurchaseOrder.model_validate_json(order.model_dump_json()).tree() == order.tree()


@pytest.mark.parametrize(
    ("path", "junk", "field"),
    [
        (("id",), "7", "id"),
        (("lines.",), None, "lines"),
        (("lines.", 0, "quantity"), "many", "lines.quantity"),
        (("lines.", 0, "moves.", 1, "quantity"), "many", "lines.moves"),
        (("total_amount",), Decimal("NaN"), "total_amount"),
        (("purchase_date",), "22/11/2026", "purchase_date"),
    ],
)
def test_a_rejection_names_the_source_field_and_never_the_value(path, junk, field):
    with pytest.raises(RecordRejected) as rejected:
        read(with_junk(recorded()[0], path, junk))
    assert rejected.value.field == field
    assert str(junk) not in str(rejected.value) or junk in (None, "7")


@pytest.mark.parametrize(
    ("state", "shipment", "status"),
    [
        ("draft", "none", Status.DRAFT),
        ("quotation", "none", Status.DRAFT),
        ("confirmed", "none", Status.APPROVED),
        ("processing", "waiting", Status.APPROVED),
        ("processing", "partially shipped", Status.PARTIALLY_RECEIVED),
        ("processing", "received", Status.RECEIVED),
        ("processing", "exception", Status.PARTIALLY_RECEIVED),
        ("done", "received", Status.CLOSED),
        ("cancelled", "none", Status.CANCELLED),
        ("arquivado", "none", Status.OTHER),
    ],
)
def test_states_are_mapped_and_unknown_ones_kept(state, shipment, status):
    order = read({**recorded()[0], "state": state, "shipment_state": shipment})
    assert (order.status, order.status_raw) == (status, state)


def test_float_noise_is_rounded_to_the_units_digits():
    noisy = with_junk(recorded()[0], ("lines.", 1, "quantity"), Decimal("12.300000000000001"))
    assert str(read(noisy).lines[1].quantity) == "12.3"


def test_quantities_in_another_unit_are_converted_to_the_lines():
    record = recorded()[0]
    for move in record["lines."][1]["moves."]:
        move["quantity"] = Decimal(500)
        move["unit."]["factor"] = Decimal("0.001")
    assert str(read(record).lines[1].received_quantity) == "0.5"


def test_an_order_closed_before_all_has_come_is_closed_short():
    order = read({**recorded()[0], "state": "done"})
    assert order.receipt_status is ReceiptStatus.CLOSED_SHORT
    assert {line.status for line in order.lines} == {LineStatus.CLOSED}
    assert order.lines[0].open_quantity == 0


def test_a_date_that_tryton_computes_for_a_draft_is_no_promise():
    draft = recorded()[1]
    entered = copy.deepcopy(draft)
    date = {"__class__": "date", "year": 2026, "month": 12, "day": 1}
    for record in (draft, entered):
        record["lines."][0]["delivery_date"] = date
    entered["lines."][0]["delivery_date_edit"] = True
    assert read(draft).lines[0].promised_date is None
    assert str(read(entered).lines[0].promised_date) == "2026-12-01"


def test_an_unknown_unit_or_currency_is_null_kept_raw_and_reported_once():
    record = with_junk(recorded()[0], ("lines.", 0, "unit.", "symbol"), "cx")
    record["currency."]["code"] = "R$"
    reader = OrderReader(Wishes(), ())
    _, order = reader.order(record), reader.order(record)
    assert (order.currency, order.currency_raw) == (None, "R$")
    assert (order.lines[0].unit, order.lines[0].unit_raw) == (None, "cx")
    assert len(reader.warnings) == 2
    known = OrderReader(Wishes(MappingOverrides(units={"cx": "BX"}, currencies={"R$": "BRL"})), ()).order(record)
    assert (known.lines[0].unit, known.currency) == ("BX", "BRL")


def test_titles_and_subtotals_are_no_lines():
    record = recorded()[0]
    record["lines."].append({**record["lines."][0], "id": 99, "type": "title"})
    assert len(read(record).lines) == 3


def test_the_warehouses_street_fills_the_address():
    record = recorded()[0]
    country = {"id": 1, "code": "BR"}
    record["warehouse."]["address."] = {"street": "Rua A, 1\n\nGalpão 2", "city": "Betim", "country.": country}
    address = read(record).ship_to
    assert (address.line1, address.line2, address.city, address.country) == ("Rua A, 1", "Galpão 2", "Betim", "BR")
