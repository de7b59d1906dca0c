"""Admission: each event once and in order per purchase order, for exactly those who want it."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.admission import Subscription, Told, asked, contiguous, delivery_id, wanted
from relay.domain.endpoints import Ordering
from relay.domain.filters import parse


def event(position, remote_id, sequence, *, kind="updated", connection="con_1", customer="acme"):
    return Told(position, f"evt_{position}", customer, connection, remote_id, sequence, f"purchase_order.{kind}")


@st.composite
def outboxes(draw):
    """Events of a few orders as the outbox holds them: positions rise, with gaps; sequences count per order."""
    count, position, events = defaultdict(int), 0, []
    for remote_id in draw(st.lists(st.sampled_from("abc"), max_size=15)):
        position += draw(st.integers(1, 3))
        count[remote_id] += 1
        events.append(event(position, remote_id, count[remote_id]))
    return events


def admit(batch, last):
    ready, early, reached = contiguous(batch, last)
    return ready, early, reached


@given(outboxes(), st.data())
def test_whatever_is_lost_or_repeated_each_event_is_admitted_once_and_in_order(events, data):
    admitted, last = [], {}
    for _ in range(data.draw(st.integers(0, 6))):
        batch = data.draw(st.lists(st.sampled_from(events), max_size=8)) if events else []
        ready, _, last = admit({each.event_id: each for each in batch}.values(), last)
        admitted += ready
    # In the end everything that did not come back is published again, in order.
    ready, early, last = admit(events, last)
    admitted += ready
    assert not early
    assert sorted(each.position for each in admitted) == [each.position for each in events]
    for remote_id in "abc":
        sequences = [each.sequence for each in admitted if each.remote_id == remote_id]
        assert sequences == list(range(1, len(sequences) + 1))


@given(outboxes(), st.data())
def test_one_batch_is_told_apart_without_a_rest(events, data):
    last = {order: data.draw(st.integers(0, 5)) for order in {each.order for each in events}}
    ready, early, reached = admit(events, last)
    before = [each for each in events if each.sequence <= last[each.order]]
    assert len(ready) + len(early) + len(before) == len(events)
    assert all(each.sequence > reached[each.order] + 1 for each in early)
    assert all(last[each.order] < each.sequence <= reached[each.order] for each in ready)


def test_an_event_before_its_predecessor_is_early():
    ready, early, reached = admit([event(2, "a", 2)], {})
    assert (ready, [each.sequence for each in early], reached) == ([], [2], {})


def test_a_batch_may_hold_an_order_backwards():
    ready, early, _ = admit([event(2, "a", 2), event(1, "a", 1)], {})
    assert ([each.sequence for each in ready], early) == ([1, 2], [])


def test_an_endpoint_hears_of_its_own_customer_only():
    assert Subscription("end_1", "acme").wants(event(1, "a", 1))
    assert not Subscription("end_1", "other").wants(event(1, "a", 1))


def test_an_endpoint_may_name_types_and_connections():
    narrow = Subscription("end_1", "acme", frozenset({"purchase_order.closed"}), frozenset({"con_1"}))
    assert narrow.wants(event(1, "a", 1, kind="closed"))
    assert not narrow.wants(event(1, "a", 1, kind="updated"))
    assert not narrow.wants(event(1, "a", 1, kind="closed", connection="con_2"))


def test_deliveries_are_one_per_event_and_endpoint_that_wants_it_in_the_lane_of_the_order():
    everything, closed = (
        Subscription("end_1", "acme"),
        Subscription("end_2", "acme", frozenset({"purchase_order.closed"})),
    )
    made = wanted([event(1, "a", 1), event(2, "a", 2, kind="closed")], [everything, closed])
    assert [(each.endpoint_id, each.position, each.lane) for each in made] == [
        ("end_1", 1, "con_1|a"),
        ("end_1", 2, "con_1|a"),
        ("end_2", 2, "con_1|a"),
    ]
    assert len({each.id for each in made}) == 3


LARGE = parse("data.order.total > 1000")


def test_a_condition_is_asked_of_the_body():
    end = Subscription("end_1", "acme", where=LARGE)
    bodies = {1: b'{"data": {"order": {"total": "1000.01"}}}', 2: b'{"data": {"order": {"total": "999"}}}'}
    made = wanted([event(1, "a", 1), event(2, "b", 1)], [end], bodies)
    assert [each.position for each in made] == [1]


@pytest.mark.parametrize("bodies", [{}, {1: b"no JSON"}, {1: b"[]"}, {1: b""}])
def test_an_event_whose_body_cannot_be_asked_is_delivered(bodies):
    assert len(wanted([event(1, "a", 1)], [Subscription("end_1", "acme", where=LARGE)], bodies)) == 1


def test_only_bodies_that_somebodys_condition_may_decide_on_are_asked_for():
    events = [event(1, "a", 1), event(2, "a", 2, kind="closed"), event(3, "a", 3, customer="other")]
    everything = Subscription("end_1", "acme")
    large_and_closed = Subscription("end_2", "acme", frozenset({"purchase_order.closed"}), where=LARGE)
    assert asked(events, [everything]) == []
    assert asked(events, [everything, large_and_closed]) == [events[1]]


def test_where_order_does_not_matter_every_delivery_has_a_lane_of_its_own():
    made = wanted([event(1, "a", 1), event(2, "a", 2)], [Subscription("end_1", "acme", ordering=Ordering.UNORDERED)])
    assert [each.lane for each in made] == [each.id for each in made]
    assert len({each.lane for each in made}) == 2


@pytest.mark.parametrize("ordering", sorted(set(Ordering) - {Ordering.UNORDERED}))
def test_in_every_other_ordering_the_lane_is_the_order(ordering):
    (made,) = wanted([event(1, "a", 1)], [Subscription("end_1", "acme", ordering=ordering)])
    assert made.lane == "con_1|a"


def test_a_deliverys_id_is_derived():
    assert delivery_id("end_1", "evt_1") == delivery_id("end_1", "evt_1") != delivery_id("end_2", "evt_1")
