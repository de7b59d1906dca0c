"""Commands in Tryton's own fields, and what its refusals mean: without a Tryton, with its recorded words."""

import datetime as dt
import json
from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.connectors.tryton.bodies import (
    chosen_by_item,
    header_values,
    line_values,
    own_values,
    wanted_of_line,
    wanted_of_order,
)
from relay.connectors.tryton.derive import version_of
from relay.connectors.tryton.references import ITEMS, REMEMBERED, VENDORS, References, Wanted
from relay.connectors.tryton.refusals import Sent, refused
from relay.connectors.tryton.rpc import ErpSaidNo, Rpc, SessionAuth
from relay.connectors.tryton.schema import Definition
from relay.domain.commands import LineGiven, OrderGiven
from relay.domain.errors import UnexpectedReply
from relay.domain.mapping import MappingOverrides
from relay.domain.pace import READING
from relay.domain.results import RefusalReason, WriteRefused

HEADER = {
    "party": Definition("Party", "many2one"),
    "warehouse": Definition("Warehouse", "many2one"),
    "state": Definition("State", "selection", readonly=True),
    "x_custo": Definition("Custo", "numeric"),
    "x_dia": Definition("Dia", "date"),
    "x_vezes": Definition("Vezes", "integer"),
    "x_peso": Definition("Peso", "float"),
    "x_urgente": Definition("Urgente", "boolean"),
    "x_dono": Definition("Dono", "many2one"),
    "reference": Definition("Reference", "char"),
}
LINE = {
    "product": Definition("Product", "many2one"),
    "quantity": Definition("Quantity", "float"),
    "unit": Definition("Unit", "many2one"),
    "unit_price": Definition("Unit Price", "numeric"),
    "note": Definition("Note", "text"),
}
NO_MAPPING = MappingOverrides()


def sent(**lines):
    return Sent(HEADER, LINE, {f"lines[{name[1:]}]": values for name, values in lines.items()})


def told(said, kind="UserError", **lines):
    whole = refused(ErpSaidNo("create: no", kind=kind, said=said), sent(**lines))
    (only,) = whole.refusals
    assert whole.said == said
    return only


# bodies


def test_every_field_of_the_header_has_its_own_name_in_tryton():
    order = OrderGiven(
        vendor={"code": "F001"},
        company={"remote_id": "1"},
        currency="BRL",
        payment_terms={"remote_id": "4"},
        ship_to={"location_code": "WH"},
        order_date="2026-11-27",
        delivery_date=None,
        notes="n",
        type="standard",
        custom_fields={"reference": "R"},
    )
    found = {"vendor": 2, "currency": 1, "payment_terms": 4, "ship_to": 5}
    assert header_values(order, found, HEADER, ["reference"]) == {
        "party": 2,
        "company": 1,
        "currency": 1,
        "payment_term": 4,
        "warehouse": 5,
        "purchase_date": dt.date(2026, 11, 27),
        "delivery_date": None,
        "comment": "n",
        "reference": "R",
    }


def test_a_line_says_only_what_was_given():
    line = LineGiven(quantity="2.5", unit_price="1.20", promised_date="2026-12-24", item={"description": "x"})
    assert line_values(line, "lines[0]", {}, LINE, ()) == {
        "quantity": 2.5,
        "unit_price": Decimal("1.20"),
        "description": "x",
        "delivery_date": dt.date(2026, 12, 24),
        "delivery_date_edit": True,
    }
    assert line_values(LineGiven(quantity=None, promised_date=None), "lines[0]", {}, LINE, ()) == {
        "quantity": None,
        "delivery_date": None,
        "delivery_date_edit": False,
    }


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (OrderGiven(incoterm="CIF"), "incoterm"),
        (OrderGiven(buyer="x"), "buyer"),
        (OrderGiven(custom_fields={"state": "done"}), "custom_fields.state"),
        (OrderGiven(custom_fields={"x_dono": "3"}), "custom_fields.x_dono"),
        (OrderGiven(custom_fields={"untold": "3"}), "custom_fields.untold"),
    ],
)
def test_what_relay_does_not_write_is_refused_by_its_field(order, field):
    with pytest.raises(WriteRefused) as caught:
        header_values(order, {}, HEADER, ["state", "x_dono"])
    (only,) = caught.value.refusals
    assert (only.reason, only.field) == (RefusalReason.NOT_WRITABLE_FIELD, field)


def test_own_columns_are_written_in_the_type_that_tryton_says():
    given_values = {"x_custo": "1.50", "x_dia": "2026-12-31", "x_vezes": "3", "x_peso": "2.5", "x_urgente": True}
    assert own_values({**given_values, "reference": None}, "", HEADER, HEADER) == {
        "x_custo": Decimal("1.50"),
        "x_dia": dt.date(2026, 12, 31),
        "x_vezes": 3,
        "x_peso": 2.5,
        "x_urgente": True,
        "reference": None,
    }
    for name, wrong in {
        "x_custo": "muito",
        "x_dia": "31/12/2026",
        "x_vezes": "3.5",
        "x_peso": True,
        "x_urgente": "sim",
        "reference": True,
    }.items():
        with pytest.raises(WriteRefused, match="Tryton takes a value of the type"):
            own_values({name: wrong}, "lines[0].", HEADER, HEADER)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_a_quantity_reaches_tryton_as_it_was_given(number):
    assert Decimal(repr(line_values(LineGiven(quantity=number), "l", {}, LINE, ())["quantity"])) == number


def test_codes_are_looked_for_under_all_names_that_the_mapping_knows():
    own = MappingOverrides(currencies={"R$": "BRL", "USD": "XTS"}, units={"cx": "XBX", "un": "C62", "u": "EA"})
    assert [each.codes for each in wanted_of_order(OrderGiven(currency="BRL"), own)] == [("R$", "BRL")]
    assert [each.codes for each in wanted_of_order(OrderGiven(currency="USD"), own)] == [("USD",)]
    assert [each.codes for each in wanted_of_order(OrderGiven(currency_raw="R$"), own)] == [("R$",)]
    assert [each.codes for each in wanted_of_line(LineGiven(unit="C62"), "l", own)] == [("un",)]
    assert [each.codes for each in wanted_of_line(LineGiven(unit="C62"), "l", NO_MAPPING)] == [("u",)]
    assert [each.codes for each in wanted_of_line(LineGiven(unit="XPP"), "l", own)] == [("XPP",)]
    assert list(wanted_of_line(LineGiven(unit=None), "l", own)) == []


def test_what_tryton_fills_in_for_a_product_is_taken_and_its_blanks_are_not():
    changed = {"unit": 11, "unit.": {"rec_name": "Meter"}, "unit_price": None, "taxes": {"add": [[0, {"id": 1}]]}}
    assert chosen_by_item(changed) == {"unit": 11, "taxes": [["add", [1]]]}
    assert chosen_by_item({"unit": None}) == {}


def test_a_version_moves_with_any_stamp_and_any_line():
    order = {"_timestamp": "1.5", "lines.": [{"id": 1, "_timestamp": "1.0"}, {"id": 2, "_timestamp": "1.0"}]}
    lines = order["lines."]
    others = [
        {**order, "_timestamp": "1.6"},
        {**order, "lines.": lines[:1]},
        {**order, "lines.": [lines[0], {"id": 2, "_timestamp": "1.1"}]},
    ]
    assert len({version_of(each) for each in (order, *others)}) == 4
    assert version_of({**order, "lines.": lines[::-1]}) == version_of(order)
    assert version_of({**order, "_timestamp": None}) is None


# refusals, in the words of 8.2

BOLT = 'in record "9\xa0u [PAR-M8] Parafuso @ 1 [q]" of "Purchase Line"'
WORDS = {
    'A value is required for field "Party" in record "[x]" of "Purchase".': (RefusalReason.VALIDATION, "vendor"),
    f'A value is required for field "Quantity" {BOLT}.': (RefusalReason.VALIDATION, "lines[1].quantity"),
    f'The value "3" for field "Product" {BOLT} is not valid according to its domain.': (
        RefusalReason.VALIDATION,
        "lines[0].item",
    ),
    f'The number of digits in the value "\'5.5\'" for field "Quantity" {BOLT} exceeds the limit of "(None, 0)".': (
        RefusalReason.VALIDATION,
        "lines[0].quantity",
    ),
    f'You are not allowed to modify the field "Unit Price" {BOLT}.': (
        RefusalReason.WORKFLOW_STATE,
        "lines[].unit_price",
    ),
    'You are not allowed to modify the field "Custo" in record "1" of "Purchase".': (
        RefusalReason.WORKFLOW_STATE,
        "custom_fields.x_custo",
    ),
    'You are not allowed to modify the field "State" of "Purchase".': (
        RefusalReason.NOT_WRITABLE_FIELD,
        "custom_fields.state",
    ),
    'You can not call "cancel" on "1 [q]" of "Purchase".': (RefusalReason.WORKFLOW_STATE, None),
    'Calling button "confirm on "Purchase" is not allowed.': (RefusalReason.NOT_PERMITTED, None),
    'You are not allowed to access "Purchase". Within groups: Stock': (RefusalReason.NOT_PERMITTED, None),
    'You are trying to read records "3" of "Purchase Line" that don\'t exist.': (RefusalReason.CONFLICT, None),
    'You are trying to write to records "9" of "Purchase" that don\'t exist.': (RefusalReason.CONFLICT, None),
    'You are trying to read records "9" of "Currency" that don\'t exist.': (RefusalReason.VALIDATION, None),
    "Something else.": (RefusalReason.VALIDATION, None),
}


@pytest.mark.parametrize("said", WORDS)
def test_tryton_s_words_are_the_message_of_a_refusal_with_its_reason_and_field(said):
    lines = {"l0": {"product": 3, "quantity": 5.5}, "l1": {"product": 4}}
    refusal = told(said, **lines)
    assert (refusal.reason, refusal.field) == WORDS[said]
    assert refusal.message == said
    assert refusal.fix


def test_a_warning_is_refused_with_what_to_do():
    refusal = told("This order is large.", kind="UserWarning")
    assert (refusal.reason, refusal.message) == (RefusalReason.VALIDATION, "Tryton asks back: This order is large.")
    assert refusal.fix == "do it in Tryton by hand, or answer its warning there as relay's user with 'always ignore'"


# calls


class Answering:
    """A Tryton that gives one answer to everything but the login."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, request):
        body = json.loads(request.content)
        if body["method"] == "common.db.login":
            return httpx.Response(200, json={"id": 0, "result": [3, "token", None]})
        self.asked.append((request, body))
        return httpx.Response(200, json={"id": 0, **self.answer(body)})

    def rpc(self):
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return Rpc(client, SessionAuth("http://erp.example", "erp", "relay", "senha"))


async def test_a_write_is_not_marked_as_a_read_and_carries_its_context():
    erp = Answering(lambda _: {"result": [7]})
    assert await erp.rpc().change("model.x.create", [{"a": Decimal("1.50")}], context={"company": 1}) == [7]
    ((request, body),) = erp.asked
    assert READING not in request.extensions
    assert body["params"] == [[{"a": {"__class__": "Decimal", "decimal": "1.50"}}], {"company": 1}]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (["UserError", ["No.", "Within groups: Stock", None]], "UserError", "No. Within groups: Stock"),
        (["UserWarning", ["name-1", "Sure?", ""]], "UserWarning", "Sure?"),
        (["ConcurrencyException", "Records were modified"], "ConcurrencyException", "Records were modified"),
    ],
)
async def test_what_tryton_raises_on_purpose_was_rolled_back(error, kind, said):
    with pytest.raises(ErpSaidNo) as caught:
        await Answering(lambda _: {"error": error}).rpc().change("model.x.write", [1], {}, context={})
    assert (caught.value.kind, caught.value.said) == (kind, said)


@pytest.mark.parametrize("answer", [{"error": ["'x_foo'", ""]}, {"error": ["database is locked", ""]}, {}])
async def test_any_other_error_leaves_it_open(answer):
    with pytest.raises(UnexpectedReply):
        await Answering(lambda _: answer).rpc().change("model.x.write", [1], {}, context={})


# references


async def test_what_was_found_is_remembered_for_a_while_and_what_is_missing_is_not():
    there = {"F001": {"id": 2, "code": "F001", "active": True}}
    now = [0.0]
    erp = Answering(lambda _: {"result": list(there.values())})
    references = References(erp.rpc(), lambda: now[0])
    known, unknown = [Wanted("vendor", "vendor.code", VENDORS, codes=(code,)) for code in ("F001", "F002")]
    for _ in range(3):
        assert await references.find([known]) == {"vendor": 2}
    assert len(erp.asked) == 1
    for _ in range(2):
        with pytest.raises(WriteRefused, match="Tryton has no vendor with the code F002"):
            await references.find([unknown])
    assert len(erp.asked) == 3
    now[0] += REMEMBERED
    await references.find([known])
    assert len(erp.asked) == 4


async def test_one_call_asks_for_all_codes_of_a_list_and_doubles_are_refused():
    items = [{"id": number, "code": code, "active": True} for number, code in enumerate("AABC", 1)]
    erp = Answering(lambda _: {"result": items})
    references = References(erp.rpc())
    wanted = [
        Wanted(f"lines[{number}].item", f"lines[{number}].item.code", ITEMS, codes=(code,))
        for number, code in enumerate("BC")
    ]
    assert await references.find(wanted) == {"lines[0].item": 3, "lines[1].item": 4}
    assert len(erp.asked) == 1
    with pytest.raises(WriteRefused) as caught:
        await references.find([Wanted("i", "i.code", ITEMS, codes=("A",))])
    (only,) = caught.value.refusals
    assert (only.message, only.fix) == ("Tryton has 2 items with the code A", "name it by its id")
    assert await references.find([Wanted("i", "i.remote_id", ITEMS, id="2", codes=("A",))]) == {"i": 2}
