"""Tryton refusing for real: each class of reason with its words, and nothing written."""

import pytest

from relay.domain.results import RefusalReason, WriteRefused
from tests.fixtures.tryton_writing import BEARINGS, BOLTS, purchasing

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(300)]


@pytest.fixture
async def erp(tryton_erp):
    async with purchasing(tryton_erp) as ready:
        yield ready


async def test_a_quotation_takes_dates_terms_and_notes_and_nothing_else(tryton_erp, erp):
    order = await erp.create()
    await tryton_erp.buyer.quote(int(order.remote_id))
    order = await erp.read(order.remote_id)
    line = order.lines[0].remote_id
    given = {"order_date": "2026-11-30", "delivery_date": "2026-12-30", "notes": "n", "payment_terms": None}
    dated = await erp.do(
        "update",
        order,
        order=given | {"custom_fields": {"reference": "Q"}},
        lines=[{"remote_id": line, "promised_date": "2026-12-28", "custom_fields": {"note": "x"}}],
    )
    assert (str(dated.order_date), dated.lines[0].custom_fields["note"]) == ("2026-11-30", "x")
    frozen = {
        "ship_to.location_code": {"order": {"ship_to": {"location_code": "MG"}}},
        "custom_fields.description": {"order": {"custom_fields": {"description": "d"}}},
        "lines[0].quantity": {"lines": [{"remote_id": line, "quantity": "3"}]},
        "lines[0].unit_price": {"lines": [{"remote_id": line, "unit_price": "3"}]},
        "lines[0].item.description": {"lines": [{"remote_id": line, "item": {"description": "d"}}]},
    }
    for field, said in frozen.items():
        refusal = await erp.refused("update", dated, **said)
        assert (refusal.reason, refusal.field) == (RefusalReason.WORKFLOW_STATE, field)
        assert refusal.message.startswith('You are not allowed to modify the field "')
    for refusal in (
        await erp.refused("add_lines", dated, lines=[BOLTS]),
        await erp.refused("cancel_lines", dated, lines=[line]),
    ):
        assert refusal.model_dump() == {
            "reason": RefusalReason.WORKFLOW_STATE,
            "message": "lines come and go in the state draft, and this order is in quotation",
            "field": "lines",
            "fix": "take it back to draft in Tryton first",
        }
    assert await erp.read(order.remote_id) == dated


async def test_an_order_in_processing_takes_notes_only(erp):
    order = await erp.do("approve", await erp.create(external_reference="WEB-1"))
    line = order.lines[0].remote_id
    noted = await erp.do(
        "update",
        order,
        order={"notes": "Ligar antes", "custom_fields": {"reference": "WEB-1a"}},
        lines=[{"remote_id": line, "custom_fields": {"note": "frágil"}}],
    )
    assert (noted.notes, noted.lines[0].custom_fields["note"]) == ("Ligar antes", "frágil")
    for field, said in {
        "order_date": {"order": {"order_date": "2026-11-30"}},
        "payment_terms": {"order": {"payment_terms": {"remote_id": "5"}}},
        "delivery_date": {"order": {"delivery_date": "2026-12-30"}},
        "lines[0].promised_date": {"lines": [{"remote_id": line, "promised_date": "2026-12-28"}]},
    }.items():
        refusal = await erp.refused("update", noted, **said)
        assert (refusal.reason, refusal.field) == (RefusalReason.WORKFLOW_STATE, field)
    refusal = await erp.refused("cancel", noted)
    assert refusal.message == 'You can not call "cancel" on "1 [WEB-1a]" of "Purchase".'


UNKNOWN = {
    "vendor.code": (
        {"order": {"vendor": {"code": "F999"}}},
        "Tryton has no vendor with the code F999",
    ),
    "vendor.remote_id": (
        {"order": {"vendor": {"remote_id": "F001"}}},
        "Tryton has no vendor with the id F001",
    ),
    "payment_terms.remote_id": (
        {"order": {"payment_terms": {"remote_id": "9999"}}},
        "Tryton has no payment term with the id 9999",
    ),
    "currency": ({"order": {"currency": "XTS"}}, "Tryton has no currency with the code XTS"),
    "ship_to.location_code": (
        {"order": {"ship_to": {"location_code": "IN"}}},  # a location, and no warehouse
        "Tryton has no warehouse with the code IN",
    ),
    "lines[1].item.code": (
        {"lines": [BOLTS, {**BOLTS, "item": {"code": "NADA"}}]},
        "Tryton has no item with the code NADA",
    ),
    "lines[0].unit": ({"lines": [{**BOLTS, "unit": "XBX"}]}, "Tryton has no unit with the symbol XBX"),
    "lines[0].unit_raw": ({"lines": [{**BOLTS, "unit_raw": "cx"}]}, "Tryton has no unit with the symbol cx"),
}


async def test_unknown_codes_are_refused_by_name_and_nothing_is_sent(erp):
    for field, (said, message) in UNKNOWN.items():
        lines = said.get("lines", [BOLTS])
        refusal = await erp.refusal(erp.creating(*lines, order=said.get("order", {})))
        assert (refusal.reason, refusal.field, refusal.message) == (RefusalReason.VALIDATION, field, message)
        assert refusal.fix
    assert await erp.ids() == []


async def test_everything_that_is_unknown_is_told_at_once(erp):
    command = erp.creating({**BOLTS, "unit": "XBX"}, order={"vendor": {"code": "F999"}})
    with pytest.raises(WriteRefused) as refused:
        await erp.writer.prepare(command, None)
    assert [each.field for each in refused.value.refusals] == ["vendor.code", "lines[0].unit"]


async def test_an_inactive_and_a_doubled_vendor_and_a_contradiction_are_refused(tryton_erp, erp):
    (party,) = await tryton_erp.buyer.call("model.party.party.search", [["code", "=", "F003"]], 0, None, None)
    (other,) = await tryton_erp.buyer.call("model.party.party.search", [["code", "=", "F002"]], 0, None, None)
    both = {"vendor": {"remote_id": str(other), "code": "F003"}}
    refusal = await erp.refusal(erp.creating(order=both))
    assert refusal.message == f"id {other} and code are not of the same vendor"
    await tryton_erp.buyer.call("model.party.party.write", [party], {"active": False})
    refusal = await erp.refusal(erp.creating(order={"vendor": {"code": "F004"}, "currency_raw": "R$"}))
    assert refusal.field == "currency_raw"
    async with purchasing(tryton_erp) as later:
        refusal = await later.refusal(later.creating(order={"vendor": {"code": "F003"}}))
        assert refusal.message == "the vendor with the code F003 is inactive in Tryton"
        assert refusal.fix == "activate it there"


async def test_a_bad_second_line_leaves_nothing_of_the_first(erp):
    order = await erp.create()
    ids = await erp.ids()
    half = {**BOLTS, "quantity": "5.5"}  # of a unit without decimals
    for refusal in (
        await erp.refusal(erp.creating(BEARINGS, half)),
        await erp.refused("add_lines", order, lines=[BEARINGS, half]),
    ):
        assert (refusal.reason, refusal.field) == (RefusalReason.VALIDATION, "lines[1].quantity")
        assert refusal.message.startswith('The number of digits in the value "\'5.5\'" for field "Quantity" in record')
    both = [
        {"remote_id": line.remote_id, "quantity": number}
        for line, number in zip(order.lines, ("9", "9.5"), strict=True)
    ]
    refusal = await erp.refused("update_lines", order, lines=both)
    assert refusal.field == "lines[1].quantity"
    assert await erp.ids() == ids
    assert await erp.read(order.remote_id) == order


async def test_a_vendor_is_needed_and_a_quantity_must_fit_and_the_type_must_be_true(erp):
    refusal = await erp.refusal(erp.command("create", order={}, lines=[BOLTS]))
    assert (refusal.field, refusal.message) == ("vendor", "a new order needs a vendor")
    refusal = await erp.refusal(erp.creating({**BOLTS, "quantity": "1234567890.12345678"}))
    assert (refusal.field, refusal.message) == (
        "lines[0].quantity",
        "Tryton keeps quantities with 15 significant digits",
    )
    refusal = await erp.refusal(erp.creating(order={"type": "return"}))
    assert refusal.message == "in Tryton an order is a return when all its quantities are below zero"
    returned = await erp.create({**BOLTS, "quantity": "-5"}, order={"type": "return"})
    assert returned.type == "return"
    refusal = await erp.refusal(erp.creating(order={"custom_fields": {"reference": "X"}}))
    assert (refusal.field, refusal.fix) == ("custom_fields.reference", "give it as external_reference instead")
    refusal = await erp.refusal(erp.creating(order={"custom_fields": {"state": "done"}}))
    assert refusal.reason is RefusalReason.NOT_WRITABLE_FIELD
    refusal = await erp.refusal(erp.creating(order={"company": {"remote_id": "77"}}))
    assert (refusal.reason, refusal.field) == (RefusalReason.NOT_PERMITTED, "company.remote_id")


async def test_goods_need_a_warehouse_before_they_are_quoted(erp):
    order = await erp.create(order={"ship_to": None})
    refusal = await erp.refused("approve", order)
    assert (refusal.reason, refusal.field) == (RefusalReason.VALIDATION, "ship_to.location_code")
    assert refusal.message.startswith('To get a quote for the purchase "[')


async def test_what_tryton_does_not_have_is_not_offered(erp):
    order = await erp.create()
    assert [str(each.type) for each in erp.connector.capabilities().commands] == [
        *("create", "update", "add_lines", "update_lines", "cancel_lines", "cancel", "approve"),
    ]
    refusal = await erp.refused("close", order)
    assert (refusal.reason, refusal.message) == (RefusalReason.NOT_PERMITTED, "Tryton has no close of a purchase order")


async def only_reading(tryton_erp):
    """Takes relay's user out of the group Purchase, into one that may only read purchases."""
    call = tryton_erp.buyer.call
    models = ("purchase.purchase", "purchase.line", "purchase.product_supplier")
    rights = [{"model": model, "perm_read": True} for model in models]
    (readers,) = await call("model.res.group.create", [{"name": "Readers", "model_access": [["create", rights]]}])
    purchase = await call("model.res.group.search", [["name", "=", "Purchase"]], 0, None, None)
    (user,) = await call("model.res.user.search", [["login", "=", tryton_erp.username]], 0, None, None)
    await call("model.res.user.write", [user], {"groups": [["remove", purchase], ["add", [readers]]]})


async def test_a_user_who_may_only_read_is_offered_nothing_and_refused_by_tryton(tryton_erp, erp):
    order = await erp.create()
    await only_reading(tryton_erp)
    for refusal in (await erp.refusal(erp.creating()), await erp.refused("cancel", order)):
        assert (refusal.reason, refusal.message) == (
            RefusalReason.NOT_PERMITTED,
            'You are not allowed to access "Purchase". Within groups: Stock, Readers',
        )
    async with purchasing(tryton_erp) as late:
        await late.read(order.remote_id)
        known = late.connector.capabilities()
        assert known.commands == ()
        assert not any(each.creatable or each.updatable for each in known.fields)


@pytest.mark.parametrize(("button", "state"), [("confirm", "quotation"), ("quote", "draft")])
async def test_a_button_that_waits_for_more_people_has_approved_nothing(tryton_erp, erp, button, state):
    order = await erp.create()
    named = [["name", "=", button], ["model", "=", "purchase.purchase"]]
    (rule,) = await tryton_erp.buyer.call("model.ir.model.button.search", named, 0, None, None)
    asked = {"button": rule, "description": "Two people", "number_user": 2}
    await tryton_erp.buyer.call("model.ir.model.button.rule.create", [asked])
    refusal = await erp.refused("approve", order)
    assert refusal.reason is RefusalReason.WORKFLOW_STATE
    assert (await erp.read(order.remote_id)).status_raw == state
