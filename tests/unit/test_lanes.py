from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.lanes import Lanes

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def delivery(lane, position=1, due_at=START):
    return Delivery(DeliveryId(f"{lane}-{position}"), f"evt-{lane}-{position}", lane, position, due_at, 0, b"{}")


def test_one_delivery_of_a_lane_is_in_flight_and_the_next_waits_for_its_end():
    lanes = Lanes(at_once=8, window=8)
    first, second, third = (delivery("a", position) for position in (1, 2, 3))
    lanes.offer([second, first])
    assert lanes.take() == [first]
    lanes.offer([third])
    assert lanes.take() == []
    lanes.finish(first)
    assert lanes.take() == [second]


def test_the_longest_due_goes_first_and_no_more_than_allowed_at_once():
    lanes = Lanes(at_once=2, window=8)
    late, early, middle = (delivery(name, 1, START + MINUTE * n) for name, n in (("a", 3), ("b", 1), ("c", 2)))
    lanes.offer([late, early, middle])
    assert lanes.take() == [early, middle]
    assert lanes.take() == []
    lanes.finish(middle)
    assert lanes.take() == [late]


def test_what_is_held_already_is_ignored_and_what_finds_no_room_stays_with_the_store():
    lanes = Lanes(at_once=1, window=2)
    assert lanes.offer([delivery("a"), delivery("a")]) == 1
    assert lanes.offer([delivery("a"), delivery("b"), delivery("c")]) == 1
    assert (lanes.held, lanes.room()) == (2, 0)
    [first] = lanes.take()
    assert lanes.offer([first]) == 0
    lanes.finish(first)
    assert lanes.room() == 1


def test_only_what_is_in_flight_can_end():
    lanes = Lanes(at_once=1, window=2)
    lanes.offer([delivery("a", 1), delivery("a", 2)])
    with pytest.raises(ValueError, match="not in flight"):
        lanes.finish(delivery("a", 1))
    lanes.take()
    with pytest.raises(ValueError, match="not in flight"):
        lanes.finish(delivery("a", 2))


@pytest.mark.parametrize(("at_once", "window"), [(0, 1), (2, 1)])
def test_a_window_that_can_send_nothing_is_refused(at_once, window):
    with pytest.raises(ValueError, match="window"):
        Lanes(at_once, window)


def test_memory_stays_small_however_often_a_lane_is_overtaken():
    lanes = Lanes(at_once=1, window=4)
    lanes.offer([delivery("a", 10_000, START + MINUTE)])
    for position in range(2000):
        lanes.offer([delivery("a", position)])
        lanes.finish(*lanes.take())
    assert lanes.held == 1
    assert len(lanes._heads) < 100


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_several_of_one_lane_go_by_position_whatever_their_due_times(order, dues):
    lanes = Lanes(at_once=3, window=6)
    lanes.offer([delivery("a", position, START + MINUTE * dues[position]) for position in order])
    sent = []
    while taken := lanes.take():
        [one] = taken
        sent.append(one.position)
        lanes.finish(one)
    assert sent == list(range(6))


class LanesBesideTheirStore(RuleBasedStateMachine):
    """A store that keeps whole lanes, a runner that loads what is due, and a receiver that refuses at will."""

    @initialize(window=st.integers(1, 6), at_once=st.integers(1, 4))
    def start(self, window, at_once):
        self.at_once = min(at_once, window)
        self.window = window
        self.lanes = Lanes(self.at_once, window)
        self.store: dict[str, list[Delivery]] = {}
        self.positions: dict[str, int] = {}
        self.flying: dict[str, Delivery] = {}
        self.now = START

    @rule(lane=st.sampled_from("abcdef"), many=st.integers(1, 3))
    def admit(self, lane, many):
        for _ in range(many):
            position = self.positions[lane] = self.positions.get(lane, 0) + 1
            self.store.setdefault(lane, []).append(delivery(lane, position, self.now))

    @rule()
    def load(self):
        if self.lanes.room():
            heads = sorted((each for each in self.heads() if each.due_at <= self.now), key=lambda each: each.due_at)
            self.lanes.offer(heads[: self.window])

    @rule()
    def go(self):
        self.take()

    def take(self):
        taken = self.lanes.take()
        assert [each.due_at for each in taken] == sorted(each.due_at for each in taken)
        for each in taken:
            assert each == self.store[each.lane][0], "only the head of a lane goes, as the store knows it"
            assert each.lane not in self.flying, "never two of one lane at once"
            assert each.due_at <= self.now
            self.flying[each.lane] = each
        return taken

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def finish(self, data):
        self.end(data.draw(st.sampled_from(sorted(self.flying))))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), minutes=st.integers(0, 10))
    def refuse(self, data, minutes):
        lane = data.draw(st.sampled_from(sorted(self.flying)))
        sent = self.flying.pop(lane)
        due_at = self.now + MINUTE * minutes
        self.store[lane][0] = replace(sent, due_at=due_at, attempts=sent.attempts + 1)
        self.lanes.finish(sent)

    @rule(minutes=st.integers(1, 5))
    def wait(self, minutes):
        self.now += MINUTE * minutes

    @invariant()
    def bounded(self):
        if hasattr(self, "lanes"):
            assert self.lanes.in_flight == len(self.flying) <= self.at_once
            assert len(self.flying) <= self.lanes.held <= self.window
            assert self.lanes.room() == self.window - self.lanes.held

    def teardown(self):
        if not hasattr(self, "lanes"):
            return
        self.drain()  # what is due now goes, whatever is parked
        self.now += MINUTE * 60
        self.drain()
        assert not any(self.store.values()), "nobody starves"
        assert self.lanes.held == 0

    def drain(self):
        for lane in list(self.flying):
            self.end(lane)
        while any(each.due_at <= self.now for each in self.heads()):
            self.load()
            taken = self.take()
            assert taken, "something is due and nothing goes"
            for each in taken:
                self.end(each.lane)

    def end(self, lane):
        sent = self.flying.pop(lane)
        del self.store[lane][0]
        self.lanes.finish(sent)
        self.lanes.offer(self.store[lane][:1])

    def heads(self):
        return [deliveries[0] for lane, deliveries in self.store.items() if deliveries and lane not in self.flying]


TestLanesBesideTheirStore = LanesBesideTheirStore.TestCase
TestLanesBesideTheirStore.settings = settings(max_examples=100, deadline=None)
