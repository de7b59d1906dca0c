"""The diff: applied to before it gives after, whatever the ids and names; and every change has its kind."""

import pytest
from hypothesis import given, settings

from relay.domain.changes import HEADLINES, ChangeKind, apply, diff, headline
from relay.domain.orders import Line, PurchaseOrder
from tests.fixtures.orders import TRAPS, orders


def tree(*lines, **fields):
    made = PurchaseOrder(**{"remote_id": "p1", "status": "approved"} | fields, lines=lines)
    return made.tree()


def line(remote_id="1", **fields):
    return Line(remote_id=remote_id, **fields)


def kinds(before, after):
    return {change.kind for change in diff(before, after)}


@settings(max_examples=40)
@given(orders, orders)
def test_the_diff_applied_to_before_gives_after(before, after):
    changes = diff(before.tree(), after.tree())
    assert apply(before.tree(), changes) == after.tree()
    assert bool(changes) == (before.tree() != after.tree())


@settings(max_examples=40)
@given(orders)
def test_an_order_compared_with_itself_has_not_changed(order):
    assert diff(order.tree(), order.tree()) == ()


@settings(max_examples=40)
@given(orders)
def test_an_order_seen_first_comes_whole(order):
    (change,) = diff(None, order.tree(), first=ChangeKind.SNAPSHOT)
    assert (change.kind, change.path) == (ChangeKind.SNAPSHOT, "")
    assert apply(None, [change]) == order.tree()


def test_without_changes_nothing_stays_nothing():
    assert apply(None, ()) is None


@settings(max_examples=40)
@given(orders, orders)
def test_applying_leaves_what_it_was_given_alone(before, after):
    given_tree, changes = before.tree(), diff(before.tree(), after.tree())
    made = apply(given_tree, changes)
    assert given_tree == before.tree()
    made["lines"].append("mine")
    assert all("mine" not in str(change.after) for change in changes if change.path == "/lines")


@pytest.mark.parametrize("remote_id", TRAPS)
def test_a_line_is_named_by_its_id_however_odd(remote_id):
    before, after = tree(line(remote_id, quantity="1")), tree(line(remote_id, quantity="2"))
    (change,) = diff(before, after)
    escaped = remote_id.replace("~", "~0").replace("/", "~1")
    assert (change.path, change.before, change.after) == (f"/lines/{escaped}/quantity", "1", "2")
    assert apply(before, [change]) == after


@pytest.mark.parametrize("name", ["lines", "schedules", "remote_id", ""])
def test_a_custom_field_may_be_named_like_one_of_ours(name):
    for place in ({"custom_fields": {name: "b"}}, {"custom_fields": {}}, {"custom_fields": {name: None}}):
        before = tree(line(custom_fields={name: "a"}), custom_fields={name: "a"})
        after = tree(line(**place), **place)
        assert apply(before, diff(before, after)) == after


def test_a_change_says_what_was_and_what_is():
    added = diff(tree(), tree(line()))[0]
    assert (added.op, added.path, added.before, added.after["remote_id"]) == ("add", "/lines/1", None, "1")
    removed = diff(tree(line()), tree())[0]
    assert (removed.op, removed.before["remote_id"], removed.after) == ("remove", "1", None)
    replaced = diff(tree(number="1"), tree(number="2"))[0]
    assert (replaced.op, replaced.path, replaced.before, replaced.after) == ("replace", "/number", "1", "2")


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("pending_approval", "approved", "approved"),
        ("pending_approval", "rejected", "rejected"),
        ("approved", "cancelled", "cancelled"),
        ("received", "closed", "closed"),
        ("closed", "approved", "reopened"),
        ("cancelled", "draft", "reopened"),
        ("rejected", "pending_approval", "reopened"),
        ("approved", "deleted", "deleted"),
        ("deleted", "approved", "restored"),
        ("draft", "approved", "status_changed"),
        ("approved", "partially_received", "status_changed"),
        ("approved", "on_hold", "status_changed"),
    ],
)
def test_a_status_change_has_its_kind(before, after, kind):
    assert kinds(tree(status=before), tree(status=after)) == {kind}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({"approval_status": "pending"}, {"approval_status": "approved"}, "approved"),
        ({"approval_status": "pending"}, {"approval_status": "rejected"}, "rejected"),
        ({"approval_status": None}, {"approval_status": "pending"}, "updated"),
        ({"remote_was_deleted": False}, {"remote_was_deleted": True}, "deleted"),
        ({"remote_was_deleted": True}, {"remote_was_deleted": False}, "restored"),
        ({"notes": None}, {"notes": "hurry"}, "updated"),
        ({"vendor": None}, {"vendor": {"remote_id": "1"}}, "updated"),
        ({"custom_fields": {}}, {"custom_fields": {"C7_X": "1"}}, "updated"),
    ],
)
def test_a_change_of_the_header_has_its_kind(before, after, kind):
    assert kinds(tree(**before), tree(**after)) == {kind}


DUE = {"remote_id": "1", "quantity": "5"}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ([], [line()], "line_added"),
        ([line()], [], "line_removed"),
        ([line()], [line(remote_was_deleted=True)], "line_removed"),
        ([line(remote_was_deleted=True)], [line()], "line_added"),
        ([line(remote_was_deleted=True)], [], "line_updated"),
        ([], [line(remote_was_deleted=True)], "line_updated"),
        ([line(quantity="1")], [line(quantity="2")], "line_updated"),
        ([line()], [line(item={"code": "x"})], "line_updated"),
        ([line()], [line(schedules=[DUE])], "line_updated"),
        ([line()], [line(received_quantity="1")], "quantity_received"),
        ([line(schedules=[DUE])], [line(schedules=[DUE | {"received_quantity": "1"}])], "quantity_received"),
        ([line()], [line(invoiced_quantity="1")], "quantity_invoiced"),
    ],
)
def test_a_change_of_a_line_has_its_kind(before, after, kind):
    assert kinds(tree(*before), tree(*after)) == {kind}


def test_the_strongest_kind_names_the_event():
    before = tree(line(), status="pending_approval", notes=None)
    after = tree(line(received_quantity="1"), line("2"), status="approved", notes="x")
    assert kinds(before, after) == {"approved", "quantity_received", "line_added", "updated"}
    assert headline(diff(before, after)) is ChangeKind.APPROVED
    assert headline(diff(tree(), tree(line()))) is ChangeKind.UPDATED
    assert headline(()) is ChangeKind.UPDATED


def test_every_kind_is_either_a_headline_or_told_as_updated():
    quiet = {ChangeKind.UPDATED, ChangeKind.LINE_ADDED, ChangeKind.LINE_REMOVED, ChangeKind.LINE_UPDATED}
    assert {*HEADLINES} | quiet == {*ChangeKind}
    assert len(HEADLINES) + len(quiet) == len(ChangeKind)
