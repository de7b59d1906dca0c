"""Change events: derived ids, gap-free sequences, and a body that is its own schema's."""

import itertools
from datetime import UTC, datetime, timedelta

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.domain.changes import ChangeKind, apply
from relay.domain.events import EVENT_TYPES, ChangeEvent, Origin, change_event
from relay.domain.orders import PurchaseOrder
from tests.fixtures.orders import orders, states

ORIGIN = Origin("acme", "con_1", "protheus")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = jsonschema.Draft202012Validator(ChangeEvent.model_json_schema(mode="serialization"))


def order(**fields):
    return PurchaseOrder(**{"remote_id": "p1", "status": "approved"} | fields)


def seen(before, one, *, now=NOW, first=ChangeKind.CREATED):
    return change_event(ORIGIN, before, one, now=now, first=first)


def told(looks, *, now=NOW):
    """The events of a series of looks at one order, and its last snapshot."""
    events, snapshot = [], None
    for one in looks:
        if made := seen(snapshot, one, now=now):
            event, snapshot = made
            events.append(event)
    return events, snapshot


def test_an_order_that_is_deleted_at_first_sight_is_not_told():
    assert seen(None, order().deleted()) is None


def test_a_source_record_that_is_no_json_rejects_its_order():
    with pytest.raises(ValueError, match="cannot be told as JSON"):
        order(raw={"C7_OBS": "\ud800"})


@settings(max_examples=40)
@given(states(max_size=5))
def test_sequences_have_no_gaps_and_hashes_form_a_chain(looks):
    events, _ = told(looks)
    assert [event.data.sequence for event in events] == list(range(1, len(events) + 1))
    for before, after in itertools.pairwise(events):
        assert after.data.before_hash == before.data.after_hash != after.data.after_hash


@settings(max_examples=40)
@given(states(max_size=4), st.integers(1, 3))
def test_looking_again_at_what_was_told_says_nothing(looks, times):
    _, snapshot = told(looks)
    for _ in range(times):
        assert snapshot is None or seen(snapshot, looks[-1]) is None


@settings(max_examples=40)
@given(states(min_size=1, max_size=5))
def test_a_subscriber_who_applies_the_changes_has_the_order(looks):
    events, snapshot = told(looks)
    tree = None
    for event in events:
        whole = PurchaseOrder.model_validate(event.data.order.model_dump(include=set(PurchaseOrder.model_fields)))
        tree = whole.tree() if tree is None else apply(tree, event.data.changes)
        assert tree == whole.tree()
    assert tree == (snapshot.tree if snapshot else None)


@settings(max_examples=40)
@given(orders, orders)
def test_the_same_step_done_twice_is_the_same_event_whenever_it_is_done(one, other):
    other = other.model_copy(update={"remote_id": one.remote_id})
    once, _ = told([one, other])
    again, _ = told([one, other], now=NOW + timedelta(hours=1))
    assert [each.data.event_id for each in once] == [each.data.event_id for each in again]


def test_an_order_that_returns_to_an_earlier_state_has_three_different_events():
    events, _ = told([order(number="a"), order(number="b"), order(number="a")])
    assert len({event.data.event_id for event in events}) == 3
    assert events[0].data.after_hash == events[2].data.after_hash


def test_ids_differ_between_connections_and_orders():
    made = {
        change_event(
            Origin("acme", connection, "x"), None, order(remote_id=remote_id), now=NOW, first=ChangeKind.CREATED
        )[0].data.event_id
        for connection in ("con_1", "con_2")
        for remote_id in ("p1", "p2")
    }
    assert len(made) == 4


@settings(max_examples=40)
@given(states(min_size=1, max_size=3))
def test_an_events_json_is_what_its_schema_says_and_reads_back_the_same(looks):
    for event in told(looks)[0]:
        body = event.model_dump_json()
        SCHEMA.validate(orjson.loads(body))
        again = ChangeEvent.model_validate_json(body)
        assert again == event
        assert again.model_dump_json() == body


def test_there_are_no_floats_in_an_event():
    event, _ = seen(None, order(total="1.2500", lines=[{"remote_id": "1", "quantity": "3"}]))

    def refuse(text):
        raise AssertionError(text)

    body = __import__("json").loads(event.model_dump_json(), parse_float=refuse)
    assert body["data"]["order"]["total"] == "1.2500"


@pytest.mark.parametrize("first", [ChangeKind.CREATED, ChangeKind.SNAPSHOT])
def test_a_first_sight_carries_the_order_and_no_changes(first):
    event, snapshot = seen(None, order(), first=first)
    assert event.type == f"purchase_order.{first}"
    assert (event.data.kinds, event.data.changes, event.data.before_hash) == ((first,), (), None)
    assert (snapshot.sequence, snapshot.first_seen_at) == (1, NOW)


def test_the_erps_own_time_is_the_events_time_when_it_gives_one():
    stamped = datetime(2026, 2, 1, tzinfo=UTC)
    event, _ = seen(None, order(remote_updated_at=stamped))
    assert (event.timestamp, event.data.occurred_at, event.data.observed_at) == (stamped, stamped, NOW)
    event, _ = seen(None, order())
    assert (event.timestamp, event.data.occurred_at) == (NOW, None)


def test_first_seen_stays_and_observed_moves():
    _, snapshot = seen(None, order())
    later = NOW + timedelta(days=1)
    event, after = seen(snapshot, order(number="2"), now=later)
    assert (event.data.order.first_seen_at, event.data.order.observed_at) == (NOW, later)
    assert after.first_seen_at == NOW


def test_a_move_of_volatile_fields_alone_is_no_event():
    _, snapshot = seen(None, order())
    assert seen(snapshot, order(remote_version="2", remote_updated_at=NOW, raw={"x": "1"})) is None


def test_a_deleted_order_that_comes_back_goes_on_counting():
    events, _ = told([order(), order().deleted(), order()])
    assert [event.type for event in events] == [
        "purchase_order.created",
        "purchase_order.deleted",
        "purchase_order.restored",
    ]
    assert events[-1].data.sequence == 3


@settings(max_examples=40)
@given(states(max_size=4))
def test_every_event_is_of_a_known_type_and_lists_its_kinds(looks):
    for event in told(looks)[0]:
        assert event.type in EVENT_TYPES
        assert list(event.data.kinds) == sorted(set(event.data.kinds))
        assert not event.data.changes or {change.kind for change in event.data.changes} == {*event.data.kinds}
