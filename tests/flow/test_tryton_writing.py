"""Tryton written to for real: each command, and what is there afterwards."""

from decimal import Decimal

import pytest

from relay.domain.orders import Status
from relay.domain.results import RefusalReason
from tests.fixtures.tryton_writing import BEARINGS, BOLTS, PLATE, purchasing

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(300)]


@pytest.fixture
async def erp(tryton_erp):
    async with purchasing(tryton_erp) as ready:
        yield ready


async def test_a_new_order_is_what_was_asked_for_and_what_tryton_fills_in(erp):
    order = await erp.create(
        {**BOLTS, "promised_date": "2026-12-24", "item": {"code": "PAR-M8", "description": "M8, zincado"}},
        {
            "item": {"code": "CHA-A36"},
            "quantity": "12.3",
            "unit": "KGM",
            "unit_price": "7.85",
            "custom_fields": {"note": "cortar"},
        },
        order={
            "payment_terms": {"remote_id": "4"},
            "currency": "BRL",
            "order_date": "2026-11-27",
            "delivery_date": "2026-12-20",
            "notes": "Entregar na doca 3",
            "custom_fields": {"description": "Peças"},
        },
        external_reference="WEB-77",
    )
    assert (order.status, order.status_raw, order.number) == (Status.DRAFT, "draft", None)
    assert (order.vendor.code, order.ship_to.location_code, order.currency) == ("F001", "WH", "BRL")
    assert (order.payment_terms.description, order.notes) == ("Net 30 days", "Entregar na doca 3")
    assert (str(order.order_date), str(order.delivery_date)) == ("2026-11-27", "2026-12-20")
    assert order.custom_fields == {"reference": "WEB-77", "description": "Peças"}
    bolts, plate = order.lines
    assert (bolts.item.code, bolts.item.description, str(bolts.promised_date)) == (
        "PAR-M8",
        "M8, zincado",
        "2026-12-24",
    )
    assert (bolts.quantity, bolts.unit, str(bolts.unit_price)) == (Decimal(100), "C62", "1.2500")
    assert (plate.quantity, plate.unit, plate.custom_fields) == (Decimal("12.3"), "KGM", {"note": "cortar"})
    # The tax of the product, which Tryton's own screen would have filled in, too.
    assert [str(total) for total in (order.subtotal, order.tax_total)] == ["221.56", "22.16"]


async def test_units_and_items_are_found_by_code_symbol_and_id_and_the_unit_is_tryton_s_own_when_none_is_given(erp):
    (item,) = [line.item.remote_id for line in (await erp.create(BEARINGS)).lines]
    order = await erp.create(
        {"item": {"remote_id": item}, "quantity": "2", "unit_raw": "u"},
        {"item": {"code": "OLE-68"}, "quantity": "20"},
        {"item": {"description": "Frete"}, "quantity": "1", "unit_price": "80"},
    )
    assert [(line.item.code, line.unit) for line in order.lines] == [
        ("ROL-6204", "C62"),
        ("OLE-68", "LTR"),
        (None, None),
    ]
    assert order.lines[2].item.description == "Frete"


async def test_own_columns_and_mapped_names_are_written(tryton_erp):
    mapping = {
        "currencies": {"BRL": "XTS"},
        "units": {"u": "XPP"},
        "fields": ["invoice_method", "quotation_expire"],
        "line_fields": ["sequence"],
    }
    async with purchasing(tryton_erp, mapping=mapping) as erp:
        order = await erp.create(
            {**BOLTS, "unit": "XPP", "custom_fields": {"sequence": "7"}},
            order={
                "currency": "XTS",
                "custom_fields": {"invoice_method": "manual", "quotation_expire": "2026-12-31"},
            },
        )
        assert order.currency == "XTS"
        assert order.custom_fields["invoice_method"] == "manual"
        assert order.custom_fields["quotation_expire"] == "2026-12-31"
        assert (order.lines[0].unit, order.lines[0].custom_fields["sequence"]) == ("XPP", "7")
        fields = {each.path: each for each in erp.connector.capabilities().fields}
        assert fields["custom_fields.invoice_method"].allowed == ("manual", "order", "fulfillment")
        assert fields["custom_fields.quotation_expire"].type == "date"


async def test_a_draft_takes_other_values_in_every_field_that_is_said_to_be_updatable(erp):
    order = await erp.create()
    bolts, bearings = order.lines
    changed = await erp.do(
        "update",
        order,
        order={
            "payment_terms": {"remote_id": "5"},
            "ship_to": {"location_code": "MG"},
            "order_date": "2026-11-30",
            "delivery_date": "2026-12-30",
            "notes": "Urgente",
            "custom_fields": {"description": "Outra", "reference": "PC-9"},
        },
        lines=[
            {
                "remote_id": bolts.remote_id,
                "quantity": "7",
                "unit": "C62",
                "unit_price": "2.5",
                "item": {"description": "Zincado"},
                "promised_date": "2026-12-28",
                "custom_fields": {"note": "sem pressa"},
            }
        ],
    )
    assert (changed.payment_terms.description, changed.ship_to.location_code) == ("Net 60 days", "MG")
    assert (str(changed.order_date), str(changed.delivery_date), changed.notes) == (
        "2026-11-30",
        "2026-12-30",
        "Urgente",
    )
    assert changed.custom_fields == {"description": "Outra", "reference": "PC-9"}
    line, other = changed.lines
    assert (line.quantity, str(line.unit_price), line.item.description) == (Decimal(7), "2.5", "Zincado")
    assert (str(line.promised_date), line.custom_fields) == ("2026-12-28", {"note": "sem pressa"})
    assert other == bearings.model_copy(update={"warehouse": "MG"})
    said = {each.path for each in erp.connector.capabilities().fields if each.updatable}
    tried = {"payment_terms.remote_id", "ship_to.location_code", "order_date", "delivery_date", "notes"}
    tried |= {"custom_fields.description", "custom_fields.reference", "lines[].custom_fields.note"}
    tried |= {f"lines[].{each}" for each in ("quantity", "unit", "unit_raw", "unit_price", "promised_date")}
    assert said == tried | {"lines[].item.description"}


async def test_null_empties_a_field(erp):
    order = await erp.create(
        {**BOLTS, "promised_date": "2026-12-28"},
        order={"notes": "Urgente", "delivery_date": "2026-12-30", "payment_terms": {"remote_id": "5"}},
    )
    empty = await erp.do(
        "update",
        order,
        order={"notes": None, "delivery_date": None, "payment_terms": None, "ship_to": None},
        lines=[{"remote_id": order.lines[0].remote_id, "promised_date": None}],
    )
    assert (empty.notes, empty.delivery_date, empty.payment_terms, empty.lines[0].promised_date) == (None,) * 4
    assert empty.ship_to is None or empty.ship_to.location_code is None


async def test_lines_are_added_changed_and_cancelled_through_the_header_whose_version_moves(erp):
    order = await erp.create()
    bolts, bearings = order.lines
    more = await erp.do("add_lines", order, lines=[PLATE])
    assert [line.item.code for line in more.lines] == ["PAR-M8", "ROL-6204", "CHA-A36"]
    assert more.lines[2].amount == Decimal("7.85")
    assert more.tax_total == Decimal("28.44")  # 10 % of the new line, too
    fewer = await erp.do("cancel_lines", more, lines=[bolts.remote_id])
    assert [line.item.code for line in fewer.lines] == ["ROL-6204", "CHA-A36"]
    last = await erp.do("update_lines", fewer, lines=[{"remote_id": bearings.remote_id, "quantity": "5"}])
    assert last.lines[0].quantity == Decimal(5)
    headers = [each.remote_version.partition("-")[0] for each in (order, more, fewer, last)]
    assert len(set(headers)) == 4


async def test_a_draft_is_approved_by_quoting_and_confirming(erp):
    order = await erp.create()
    approved = await erp.do("approve", order)
    assert (approved.status, approved.status_raw, approved.number) == (Status.APPROVED, "processing", "1")
    again = await erp.refused("approve", approved)
    assert again.model_dump() == {
        "reason": RefusalReason.WORKFLOW_STATE,
        "message": f'You can not call "confirm" on "1 [{approved.custom_fields["reference"]}]" of "Purchase".',
        "field": None,
        "fix": "see which commands and fields the order's state allows; a quotation goes back to draft in Tryton",
    }


async def test_a_quotation_is_approved_and_a_draft_or_quotation_cancelled(tryton_erp, erp):
    quoted, cancelled, draft = [await erp.create() for _ in range(3)]
    for order in (quoted, cancelled):
        await tryton_erp.buyer.quote(int(order.remote_id))
    assert (await erp.do("approve", await erp.read(quoted.remote_id))).status is Status.APPROVED
    assert (await erp.do("cancel", await erp.read(cancelled.remote_id))).status is Status.CANCELLED
    assert (await erp.do("cancel", draft, reason="Engano")).status is Status.CANCELLED


async def test_an_order_whose_confirming_is_refused_is_a_draft_again(erp):
    order = await erp.create({"item": {"code": "PAR-M8"}, "quantity": "100"})  # without a price
    refusal = await erp.refused("approve", order)
    assert refusal.reason is RefusalReason.VALIDATION
    assert refusal.message.startswith('A value is required for field "Unit Price" in record "100')
    assert refusal.field == "lines[].unit_price"
    after = await erp.read(order.remote_id)
    assert (after.status_raw, after.number) == ("draft", "1")
    priced = await erp.do("update_lines", after, lines=[{"remote_id": after.lines[0].remote_id, "unit_price": "1.25"}])
    assert (await erp.do("approve", priced)).status is Status.APPROVED
