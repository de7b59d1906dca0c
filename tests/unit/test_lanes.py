from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.lanes import Lanes, Memory

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def delivery(lane, position=1, due_at=START, attempts=0, body=b"{}"):
    name = f"{lane}-{position}"
    return Delivery(DeliveryId(name), f"evt-{name}", lane, position, due_at, attempts, body)


class At(Lanes):
    """Lanes that are always asked for as many as are not yet under way of `at_once`."""

    def __init__(self, at_once, window, most_bytes=1_000_000):
        super().__init__(window, Memory(most_bytes))
        self.at_once = at_once

    def take(self, most=None, repeated=100):
        return super().take(self.at_once - self.under_way if most is None else most, repeated)

    @property
    def in_flight(self):
        return self.under_way


def test_one_delivery_of_a_lane_is_in_flight_and_the_next_waits_for_its_end():
    lanes = At(at_once=8, window=8)
    first, second, third = (delivery("a", position) for position in (1, 2, 3))
    lanes.offer([second, first])
    assert lanes.take() == [first]
    lanes.offer([third])
    assert lanes.take() == []
    lanes.finish(first)
    assert lanes.take() == [second]


def test_the_longest_due_goes_first_and_no_more_than_allowed_at_once():
    lanes = At(at_once=2, window=8)
    late, early, middle = (delivery(name, 1, START + MINUTE * n) for name, n in (("a", 3), ("b", 1), ("c", 2)))
    lanes.offer([late, early, middle])
    assert lanes.take() == [early, middle]
    assert lanes.take() == []
    lanes.finish(middle)
    assert lanes.take() == [late]


def test_what_is_held_already_is_ignored_and_what_finds_no_room_stays_with_the_store():
    lanes = At(at_once=1, window=2)
    assert lanes.offer([delivery("a"), delivery("a")]) == 1
    assert lanes.offer([delivery("a"), delivery("b"), delivery("c")]) == 1
    assert (lanes.held, lanes.room()) == (2, 0)
    [first] = lanes.take()
    assert lanes.offer([first]) == 0
    lanes.finish(first)
    assert lanes.room() == 1


def test_only_what_is_in_flight_can_end():
    lanes = At(at_once=1, window=2)
    lanes.offer([delivery("a", 1), delivery("a", 2)])
    with pytest.raises(ValueError, match="not under way"):
        lanes.finish(delivery("a", 1))
    lanes.take()
    with pytest.raises(ValueError, match="not under way"):
        lanes.finish(delivery("a", 2))


def test_a_window_that_can_hold_nothing_is_refused():
    with pytest.raises(ValueError, match="window"):
        Lanes(0, Memory(1))


def test_repeated_attempts_take_no_more_than_half_of_the_window():
    lanes = At(at_once=9, window=4)
    again = [delivery(name, attempts=1) for name in "abc"]
    assert lanes.offer(again) == 2
    assert lanes.offer([delivery("d"), delivery("e"), delivery("f")]) == 2


def test_repeated_attempts_go_by_their_share_while_new_ones_wait_and_freely_when_none_does():
    lanes = At(at_once=9, window=8)
    again = [delivery(name, 1, START, attempts=1) for name in "abc"]
    fresh = [delivery(name, 1, START + MINUTE) for name in "de"]
    lanes.offer([*again, *fresh])
    assert lanes.take(3, 1) == [again[0], *fresh]
    assert lanes.take(3, 0) == again[1:]


def test_bytes_are_bounded_for_all_lanes_of_a_worker_together_and_one_delivery_always_fits():
    memory = Memory(10)
    one, two = Lanes(8, memory), Lanes(8, memory)
    large = [delivery(name, body=b"x" * 6) for name in "abc"]
    assert one.offer(large) == 1
    assert (memory.used, one.bytes_room()) == (6, 4)
    assert two.offer([delivery("z", body=b"x" * 100)]) == 1
    assert (one.bytes_room(), one.idle, one.ids) == (0, False, {large[0].id})
    two.close()
    [taken] = one.take(1, 0)
    assert one.idle
    one.finish(taken)
    assert memory.used == 0
    assert one.offer(large[1:2]) == 1


def test_a_later_one_of_a_lane_is_not_held_when_an_earlier_one_found_no_room():
    lanes = Lanes(8, Memory(10))
    lanes.offer([delivery("z", body=b"x" * 5)])
    assert lanes.offer([delivery("a", 1, body=b"x" * 6), delivery("a", 2), delivery("b", 1)]) == 1
    assert lanes.ids == {"z-1", "b-1"}


def test_a_former_head_is_passed_over_although_it_was_due_sooner():
    lanes = At(at_once=2, window=8)
    first, second = delivery("a", 1, START + MINUTE), delivery("a", 2, START)
    lanes.offer([second])
    lanes.offer([first])
    assert lanes.take() == [first]
    assert lanes.held == 2


def test_memory_stays_small_however_often_a_lane_is_overtaken():
    lanes = At(at_once=1, window=4)
    lanes.offer([delivery("a", 10_000, START + MINUTE)])
    for position in range(2000):
        lanes.offer([delivery("a", position)])
        lanes.finish(*lanes.take())
    assert lanes.held == 1
    assert len(lanes._fresh_heads.entries) < 100


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_several_of_one_lane_go_by_position_whatever_their_due_times(order, dues):
    lanes = At(at_once=3, window=6)
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
        self.lanes = At(self.at_once, window)
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
