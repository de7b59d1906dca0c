"""Effects: a command took effect, or nothing happened, or nobody can tell."""

from decimal import Decimal

import pytest

from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.commands import read_command
from relay.domain.effects import Effect, caused, effect, state
from relay.domain.orders import ApprovalStatus, Item, Line, LineStatus, PurchaseOrder, Status, Vendor

SYSTEM = Capabilities(
    connector="erp",
    fields=(
        FieldCapability(path="vendor.code"),
        FieldCapability(path="notes"),
        FieldCapability(path="delivery_date", type="date"),
        FieldCapability(path="ship_to", type="object"),
        FieldCapability(path="discount_total", type="amount"),
        FieldCapability(path="buyer", readable=False),
        FieldCapability(path="custom_fields.C7_X", type="amount"),
        FieldCapability(path="lines[].item.code"),
        FieldCapability(path="lines[].quantity", type="amount"),
        FieldCapability(path="lines[].unit_price", type="amount"),
    ),
)


def line(remote_id, code="BOLT", quantity=1, **values):
    return Line(remote_id=remote_id, item=Item(code=code), quantity=Decimal(quantity), **values)


def bought(*lines, status=Status.APPROVED, **values):
    return PurchaseOrder(remote_id="4500", status=status, lines=lines or (line("1"), line("2", "NUT", 2)), **values)


BEFORE = bought(notes="old", vendor=Vendor(remote_id="1", code="V1"), remote_version="1")


def command(type, **values):  # noqa: A002 - the command's own word
    head = {"command_id": "c1", "connection_id": "con_1", "remote_id": "4500", "type": type}
    return read_command(head | values)


def seen(asked, now, before=BEFORE):
    return effect(asked, before and state(before), now and state(now), SYSTEM)


def changed(order=BEFORE, **values):
    return order.model_copy(update=values)


def test_an_update_is_there_when_all_it_asks_for_is():
    asked = command("update", order={"notes": "new"}, lines=[{"remote_id": "2", "quantity": "5.00"}])
    lines = (line("1"), line("2", "NUT", "5"))
    assert seen(asked, changed(notes="new\r\n", lines=lines)) is Effect.YES
    assert seen(asked, BEFORE) is Effect.NO


def test_an_update_that_is_half_there_was_somebody_elses():
    asked = command("update", order={"notes": "new"}, lines=[{"remote_id": "2", "quantity": "5"}])
    assert seen(asked, changed(notes="new")) is Effect.UNCLEAR


def test_an_order_that_somebody_changed_tells_nothing_of_an_update_that_is_not_there():
    asked = command("update", order={"notes": "new"})
    assert seen(asked, changed(buyer="Ana")) is Effect.UNCLEAR
    assert seen(asked, changed(remote_version="2")) is Effect.UNCLEAR
    assert seen(asked, None) is Effect.UNCLEAR


def test_an_update_of_a_line_that_vanished_is_not_there():
    asked = command("update_lines", lines=[{"remote_id": "2", "quantity": "2"}])
    assert seen(asked, changed(lines=(line("1"),))) is Effect.UNCLEAR


def test_only_what_can_be_read_back_is_compared():
    asked = command("update", order={"notes": "new", "buyer": "Ana", "incoterm": "FOB"})
    assert seen(asked, changed(notes="new")) is Effect.YES
    assert seen(command("update", order={"buyer": "Ana"}), changed(notes="new")) is Effect.UNCLEAR


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({"discount_total": None}, {"discount_total": Decimal(0)}),
        ({"discount_total": "1.50"}, {"discount_total": Decimal("1.5")}),
        ({"notes": None}, {"notes": None}),
        ({"delivery_date": "2026-01-31"}, {"delivery_date": "2026-01-31"}),
        ({"custom_fields": {"C7_X": "7"}}, {"custom_fields": {"C7_X": "7.000"}}),
        ({"vendor": None}, {"vendor": None}),
        ({"vendor": {"code": None}}, {"vendor": None}),
        ({"ship_to": {"city": "Recife"}}, {"ship_to": {"city": "Recife"}}),
    ],
)
def test_values_are_compared_as_what_they_mean(wanted, there):
    now = PurchaseOrder.model_validate(BEFORE.model_dump() | there)
    assert seen(command("update", order=wanted), now) is Effect.YES


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({"custom_fields": {"C7_X": "7"}}, {"custom_fields": {"C7_X": "seven"}}),
        ({"vendor": None}, {"vendor": {"remote_id": "2", "code": "V2"}}),
        ({"notes": "a\nb"}, {"notes": "a b"}),
    ],
)
def test_values_that_mean_something_else(wanted, there):
    now = PurchaseOrder.model_validate(BEFORE.model_dump() | there)
    assert seen(command("update", order=wanted), now) is Effect.UNCLEAR


def test_added_lines_are_new_ones_that_match_each_draft():
    asked = command("add_lines", lines=[{"item": {"code": "BOLT"}}, {"item": {"code": "BOLT"}, "quantity": "2"}])
    both = (*BEFORE.lines, line("3", "BOLT", 2), line("4", "BOLT", 9))
    assert seen(asked, changed(lines=both)) is Effect.YES
    assert seen(asked, changed(lines=both[:3])) is Effect.UNCLEAR
    assert seen(asked, BEFORE) is Effect.NO


def test_no_new_line_stands_for_two_drafts():
    asked = command("add_lines", lines=[{"quantity": "2"}, {"quantity": "2"}, {"item": {"code": "NUT"}}])
    lines = (*BEFORE.lines, line("3", "NUT", 2), line("4", "BOLT", 2))
    assert seen(asked, changed(lines=lines)) is Effect.UNCLEAR


def test_a_thousand_lines_that_are_all_alike():
    asked = command("add_lines", lines=[{"quantity": "1"}] * 1000)
    assert seen(asked, changed(lines=tuple(line(str(each)) for each in range(1, 1003)))) is Effect.YES


def test_cancelled_lines_are_gone_or_marked():
    asked = command("cancel_lines", lines=["1"])
    assert seen(asked, changed(lines=(line("2", "NUT", 2),))) is Effect.YES
    for values in ({"status": LineStatus.CANCELLED}, {"status": LineStatus.CLOSED}, {"remote_was_deleted": True}):
        assert seen(asked, changed(lines=(line("1", **values), line("2")))) is Effect.YES
    assert seen(asked, BEFORE) is Effect.NO


@pytest.mark.parametrize(
    ("type", "status"),
    [
        ("cancel", Status.CANCELLED),
        ("close", Status.CLOSED),
        ("approve", Status.APPROVED),
        ("approve", Status.PARTIALLY_RECEIVED),
        ("reject", Status.REJECTED),
    ],
)
def test_the_status_tells(type, status):  # noqa: A002 - the command's own word
    before = bought(status=Status.PENDING_APPROVAL)
    assert seen(command(type), bought(status=status), before) is Effect.YES
    assert seen(command(type), before, before) is Effect.NO
    assert seen(command(type), bought(status=Status.ON_HOLD), before) is Effect.UNCLEAR


def test_a_status_that_is_asked_for_still_is_not_there_whoever_changed_what_else():
    before = bought(status=Status.DRAFT)
    assert seen(command("approve"), changed(before, number="9", remote_version="2"), before) is Effect.NO
    assert seen(command("cancel"), changed(before, buyer="Ana"), before) is Effect.NO
    assert seen(command("cancel"), changed(before, status=Status.CLOSED), before) is Effect.UNCLEAR


def test_the_approval_tells_where_the_status_does_not():
    before = bought(status=Status.OTHER)
    assert seen(command("approve"), changed(before, approval_status=ApprovalStatus.APPROVED), before) is Effect.YES
    assert seen(command("reject"), changed(before, approval_status=ApprovalStatus.REJECTED), before) is Effect.YES


def test_an_order_that_is_gone_was_cancelled_or_tells_nothing():
    assert seen(command("cancel"), None) is Effect.YES
    assert seen(command("cancel"), BEFORE.deleted()) is Effect.YES
    assert seen(command("close"), BEFORE.deleted()) is Effect.UNCLEAR


def test_a_new_order_is_found_by_its_mark_only():
    head = {"command_id": "c1", "connection_id": "con_1", "type": "create", "order": {}, "lines": [{}]}
    assert seen(read_command(head), BEFORE, None) is Effect.UNCLEAR
    assert seen(command("cancel"), BEFORE, None) is Effect.UNCLEAR


def test_a_change_is_a_commands_when_it_was_not_there_before():
    asked, done = command("update", order={"notes": "new"}), changed(notes="new")
    old, new = BEFORE.tree(), done.tree()
    assert caused(asked, state(BEFORE), old, new, SYSTEM)
    assert caused(asked, state(BEFORE), None, new, SYSTEM)
    assert not caused(asked, state(BEFORE), new, changed(done, buyer="Ana").tree(), SYSTEM)
    assert not caused(asked, state(BEFORE), old, changed(buyer="Ana").tree(), SYSTEM)
