"""The canonical order: exact numbers, stable ids, and a hash that moves when the order does and only then."""

from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.orders import VOLATILE, Line, PurchaseOrder, Status, content_hash, order_id, order_key
from tests.fixtures.orders import amounts, orders


def line(**fields):
    return Line(remote_id="1", **fields)


def order(**fields):
    return PurchaseOrder(**{"remote_id": "p1", "status": "approved"} | fields)


@given(amounts.filter(lambda each: each is not None))
def test_an_amount_keeps_its_value_and_its_scale_through_json(amount):
    text = line(quantity=amount).model_dump(mode="json")["quantity"]
    assert "E" not in text
    again = line(quantity=text)
    assert again.quantity == amount
    assert again.model_dump(mode="json")["quantity"] == text


@pytest.mark.parametrize("text", ["1.2500", "0.000000000001", "-3", "999999999999999999.999999999999"])
def test_the_sources_own_precision_stays(text):
    assert line(unit_price=text).model_dump(mode="json")["unit_price"] == text


@pytest.mark.parametrize(
    "value", [1.5, 0.1 + 0.2, float("nan"), "NaN", "Infinity", True, "1,5", "", "1E+40", Decimal("1E-30")]
)
def test_what_is_no_exact_number_is_refused(value):
    with pytest.raises(ValidationError):
        line(quantity=value)


def test_what_is_refused_is_not_repeated_in_the_error():
    with pytest.raises(ValidationError) as refused:
        order(currency="canary-77c1", notes=7, unknown="canary-77c1")
    assert "canary-77c1" not in str(refused.value)


def test_a_float_is_refused_with_the_fix():
    with pytest.raises(ValidationError, match="floats are not exact: give a Decimal or its text"):
        line(quantity=1.5)


@pytest.mark.parametrize("value", [1, 0, 1.0, Decimal(1), "\ud800", ["x"]])
def test_a_custom_field_is_text_or_truth_and_a_number_is_never_read_as_truth(value):
    for make in (line, order):
        with pytest.raises(ValidationError):
            make(custom_fields={"C7_X": value})


def test_a_custom_fields_name_must_be_text_that_json_can_carry():
    with pytest.raises(ValidationError):
        line(custom_fields={"\ud800": "x"})


@pytest.mark.parametrize("remote_id", ["", "a\nb", "a\n", "\x00", "x" * 201, "\x7f"])
def test_an_id_that_could_break_a_key_is_refused(remote_id):
    with pytest.raises(ValidationError):
        order(remote_id=remote_id)


def test_two_lines_or_schedules_with_one_id_are_refused():
    with pytest.raises(ValidationError, match="two lines share one remote_id"):
        order(lines=[line(), line()])
    with pytest.raises(ValidationError, match="two schedules share one remote_id"):
        line(schedules=[{"remote_id": "1"}, {"remote_id": "1"}])


def test_lines_are_kept_in_the_order_of_their_ids_and_numbers_count_as_numbers():
    made = order(lines=[{"remote_id": each} for each in ("10", "9", "0001", "2")])
    assert [each.remote_id for each in made.lines] == ["2", "9", "10", "0001"]


@settings(max_examples=40)
@given(orders)
def test_an_order_read_back_from_its_tree_is_the_same_order(one):
    tree = one.tree()
    assert orjson.loads(orjson.dumps(tree)) == tree
    again = PurchaseOrder.model_validate(tree)
    assert again.tree() == tree
    assert content_hash(again.tree()) == content_hash(tree)


@settings(max_examples=40)
@given(orders, orders)
def test_two_orders_have_one_hash_when_they_have_one_tree(one, other):
    assert (content_hash(one.tree()) == content_hash(other.tree())) == (one.tree() == other.tree())


def test_the_hash_ignores_volatile_fields_and_nothing_else():
    plain = order()
    moved = {
        "remote_updated_at": datetime(2026, 1, 1, tzinfo=UTC),
        "remote_version": "2",
        "field_presence": ("buyer",),
        "raw": {"C7_NUM": "1"},
    }
    assert moved.keys() == VOLATILE
    assert content_hash(order(**moved).tree()) == content_hash(plain.tree())
    assert plain.tree().keys() == PurchaseOrder.model_fields.keys() - VOLATILE


@given(st.sampled_from(sorted(PurchaseOrder.model_fields.keys() - VOLATILE)))
def test_every_other_field_moves_the_hash(name):
    tree = order().tree()
    assert content_hash(tree | {name: "something else"}) != content_hash(tree)


def test_a_deleted_order_is_the_same_order_gone():
    gone = order(number="7").deleted()
    assert (gone.status, gone.remote_was_deleted, gone.number) == (Status.DELETED, True, "7")


def test_keys_and_ids_are_derived_and_stable():
    assert order_key("con_1", "01|000001") == "con_1|01|000001"
    assert order_id("con_1", "p1") == order_id("con_1", "p1") == "po_" + order_id("con_1", "p1")[3:]
    assert len({order_id("con_1", "p1"), order_id("con_2", "p1"), order_id("con_1", "p2")}) == 3


def test_what_a_system_cannot_give_is_listed():
    fields = (FieldCapability(path="buyer", readable=False), FieldCapability(path="notes"))
    assert Capabilities(connector="x", fields=fields).unreadable() == ("buyer",)
