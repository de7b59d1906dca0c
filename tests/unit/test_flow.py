from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.domain.deliveries import Answer
from relay.domain.flow import (
    FIRST_PROBE,
    JITTER,
    LONGEST_PAUSE,
    LONGEST_PROBE,
    PROBE_SUSPENDED,
    START,
    BreakerState,
    Flow,
    Limits,
    Signal,
    signal,
)

FINE, SLOW, REFUSED = Signal.FINE, Signal.SLOW, Signal.REFUSED
OVERLOAD, BROKEN, UNREACHABLE = Signal.OVERLOAD, Signal.BROKEN, Signal.UNREACHABLE
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
EXACT = 0.5
"""Dice that add and take nothing."""


def flow(at_once=64, per_second=None, now=0.0):
    return Flow(Limits(at_once, per_second), now)


def start(subject, count=1, *, now=0.0, repeated=False):
    for _ in range(count):
        assert subject.room(now) > 0
        subject.started(repeated=repeated, now=now)


def end(subject, *signals, now=0.0, retry_after=None):
    for each in signals:
        subject.ended(each, repeated=False, now=now, dice=EXACT, retry_after=retry_after)


def full_round(subject, signal, now=0.0):
    """As many attempts as there is room for, all with this answer; how many they were."""
    count = subject.room(now)
    start(subject, count, now=now)
    end(subject, *[signal] * count, now=now)
    return count


def opened(now=0.0):
    subject = flow(now=now)
    for _ in range(5):
        start(subject, now=now)
        end(subject, UNREACHABLE, now=now)
    assert subject.state is OPEN
    return subject


def probed(subject, signal, now):
    """The next probe's answer, and how long the breaker waits after it."""
    now += subject.wait(now)
    start(subject, now=now)
    assert (subject.state, subject.room(now), subject.wait(now)) == (HALF_OPEN, 0, None)
    end(subject, signal, now=now)
    return now


@pytest.mark.parametrize(
    ("answer", "seconds", "expected"),
    [
        (Answer(status=200), 0.1, FINE),
        (Answer(status=299), 5.0, FINE),
        (Answer(status=200), 5.1, SLOW),
        *[(Answer(status=status), 0.1, OVERLOAD) for status in (408, 429, 503)],
        *[(Answer(status=status), 9.0, REFUSED) for status in (300, 301, 399, 400, 401, 404, 410, 413, 425, 499, 501)],
        *[(Answer(status=status), 0.1, BROKEN) for status in (500, 502, 504, 599, 101)],
        *[(Answer(error=error), 0.1, BROKEN) for error in ("timeout", "reset", "protocol", "what comes later")],
        *[
            (Answer(error=error), 0.1, UNREACHABLE)
            for error in ("resolve", "refused", "tls", "policy", "auth", "proxy")
        ],
        (Answer(status=200, error="reset"), 0.1, BROKEN),
        (Answer(), 0.1, BROKEN),
    ],
)
def test_an_answer_says_of_its_receiver_what_the_table_says(answer, seconds, expected):
    assert signal(answer, seconds, deadline=15.0) is expected


def test_an_endpoint_starts_with_four_at_once_or_with_less_if_it_wants_less():
    assert flow().room(0.0) == START
    assert flow(at_once=2).room(0.0) == 2


def test_while_all_is_well_each_round_may_be_twice_as_large_up_to_the_endpoints_own_limit():
    subject = flow(at_once=50)
    assert [full_round(subject, FINE) for _ in range(6)] == [4, 8, 16, 32, 50, 50]


def test_after_the_first_trouble_the_limit_is_halved_and_then_grows_by_one_a_round():
    subject = flow()
    full_round(subject, FINE)
    start(subject, 8)
    end(subject, OVERLOAD)
    assert subject.limit == 4
    end(subject, *[FINE] * 7)
    assert [full_round(subject, FINE) for _ in range(3)] == [4, 5, 6]


def test_a_whole_round_of_trouble_halves_the_limit_only_once():
    subject = flow()
    full_round(subject, FINE)
    full_round(subject, BROKEN)
    assert subject.limit == 4
    start(subject)
    end(subject, BROKEN)
    assert subject.limit == 2


def test_trouble_never_brings_the_limit_below_one():
    subject = flow(at_once=1)
    start(subject)
    end(subject, OVERLOAD)
    assert (subject.limit, subject.state) == (1, CLOSED)


def test_a_receiver_that_is_slow_but_in_time_gets_fewer_at_once_and_still_four():
    subject = flow()
    full_round(subject, FINE)
    full_round(subject, FINE)
    assert [full_round(subject, SLOW) for _ in range(4)] == [16, 8, 4, 5]
    assert (subject.limit, subject.state) == (START, CLOSED)


def test_a_slow_receiver_never_opens_the_breaker():
    subject = flow()
    for _ in range(100):
        full_round(subject, SLOW)
    assert subject.state is CLOSED
    assert START <= subject.limit <= START + 1


def test_refusals_of_single_events_neither_raise_nor_lower_the_limit():
    subject = flow()
    for _ in range(20):
        full_round(subject, REFUSED)
    assert (subject.limit, subject.state) == (START, CLOSED)


def test_a_few_good_answers_at_a_time_do_not_show_that_many_at_once_are_borne():
    subject = flow()
    for _ in range(100):
        start(subject)
        end(subject, FINE)
    assert subject.limit == START


def test_no_more_per_second_than_agreed_after_a_short_burst():
    subject = flow(per_second=50.0)
    start(subject, 4)
    end(subject, *[FINE] * 4)
    assert subject.room(0.0) == 1
    start(subject)
    assert (subject.room(0.0), subject.limit) == (0, 8)
    assert subject.wait(0.0) == pytest.approx(0.02, abs=0.002)
    assert subject.room(0.021) == 1
    assert subject.room(60.0) == 5


def test_a_rate_below_one_a_second_still_lets_one_through():
    subject = flow(per_second=0.01)
    start(subject)
    end(subject, FINE)
    assert subject.wait(40.0) == pytest.approx(60.0, abs=0.01)
    assert subject.room(40.0 + subject.wait(40.0)) == 1


@pytest.mark.parametrize("bad", [BROKEN, OVERLOAD])
def test_half_bad_of_twenty_answers_in_a_minute_open_the_breaker(bad):
    subject = flow()
    for number in range(19):
        start(subject)
        end(subject, bad if number % 2 == 0 else FINE, now=number)
    assert subject.state is CLOSED
    start(subject, now=19)
    end(subject, bad, now=19)
    assert (subject.state, subject.limit, subject.room(19.0)) == (OPEN, 1, 0)
    assert subject.wait(19.0) == pytest.approx(FIRST_PROBE, abs=0.01)


def test_bad_answers_that_are_older_than_a_minute_count_no_more():
    subject = flow()
    for second in (*range(9), *range(70, 79)):
        start(subject, now=second)
        end(subject, BROKEN, now=second)
        start(subject, now=second)
        end(subject, FINE, now=second)
    assert subject.state is CLOSED
    start(subject, 2, now=79)
    end(subject, BROKEN, BROKEN, now=79)
    assert subject.state is OPEN


def test_a_receiver_that_hangs_opens_the_breaker_however_slow_its_timeouts_are():
    subject = flow()
    for minute in range(10):
        assert subject.state is CLOSED
        start(subject, now=60.0 * minute)
        end(subject, BROKEN, now=60.0 * minute + 15)
    assert subject.state is OPEN


def test_five_unreachable_in_a_row_open_the_breaker_and_any_word_from_it_counts_anew():
    subject = flow()
    for each in (*[UNREACHABLE] * 4, REFUSED, *[UNREACHABLE] * 4):
        start(subject)
        end(subject, each)
    assert subject.state is CLOSED
    start(subject)
    end(subject, UNREACHABLE)
    assert subject.state is OPEN


def test_while_the_breaker_is_open_answers_of_earlier_attempts_change_nothing_and_the_probe_waits_for_them():
    subject = flow()
    full_round(subject, FINE)
    start(subject, 8)
    end(subject, *[UNREACHABLE] * 5)
    assert subject.state is OPEN
    end(subject, FINE, BROKEN, now=60.0)
    assert (subject.state, subject.in_flight, subject.room(60.0), subject.wait(60.0)) == (OPEN, 1, 0, None)
    end(subject, UNREACHABLE, now=60.0)
    assert (subject.state, subject.room(60.0)) == (OPEN, 1)


@pytest.mark.parametrize("word", [FINE, SLOW, REFUSED])
def test_a_probe_that_is_answered_closes_the_breaker_and_the_limit_grows_from_one(word):
    subject = opened()
    now = probed(subject, word, 0.0)
    assert (subject.state, subject.limit) == (CLOSED, 1)
    assert [full_round(subject, FINE, now) for _ in range(4)] == [1, 2, 4, 8]


def test_what_was_bad_before_the_breaker_closed_is_forgotten():
    subject = opened()
    now = probed(subject, FINE, 0.0)
    start(subject, now=now)
    end(subject, UNREACHABLE, now=now)
    assert subject.state is CLOSED


def test_each_probe_that_fails_doubles_the_wait_up_to_five_minutes_and_one_that_succeeds_ends_that():
    subject, now, waits = opened(), 0.0, []
    for _ in range(8):
        waits.append(subject.wait(now))
        now = probed(subject, OVERLOAD, now)
    assert waits == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300], abs=0.01)
    now = probed(subject, FINE, now)
    for _ in range(5):
        start(subject, now=now)
        end(subject, UNREACHABLE, now=now)
    assert subject.wait(now) == pytest.approx(FIRST_PROBE, abs=0.01)


@given(dice=st.floats(0, 1))
def test_chance_moves_a_probe_by_a_quarter_at_the_most(dice):
    subject = flow()
    for _ in range(5):
        subject.started(repeated=False, now=0.0)
        subject.ended(UNREACHABLE, repeated=False, now=0.0, dice=dice)
    assert FIRST_PROBE * (1 - JITTER) <= subject.wait(0.0) <= FIRST_PROBE * (1 + JITTER) + 0.01


def test_retry_after_of_an_overloaded_receiver_holds_up_everything_to_it_for_five_minutes_at_the_most():
    subject = flow()
    start(subject, 2)
    end(subject, OVERLOAD, retry_after=30.0)
    assert (subject.room(29.9), subject.wait(10.0)) == (0, pytest.approx(20.0, abs=0.01))
    assert subject.room(30.0) == 1
    end(subject, OVERLOAD, retry_after=86400.0)
    assert subject.wait(0.0) == pytest.approx(LONGEST_PAUSE, abs=0.01)


def test_a_shorter_retry_after_does_not_end_a_longer_one_and_other_answers_hold_nothing_up():
    subject = flow()
    start(subject, 3)
    end(subject, OVERLOAD, retry_after=30.0)
    end(subject, OVERLOAD, retry_after=1.0)
    end(subject, REFUSED, now=20.0, retry_after=100.0)
    assert subject.room(30.0) > 0


def test_repeated_attempts_get_half_of_the_slots_while_fresh_ones_wait():
    subject = flow()
    assert subject.retry_room(subject.room(0.0)) == 2
    start(subject, repeated=True)
    assert (subject.room(0.0), subject.retry_room(subject.room(0.0))) == (3, 1)
    start(subject, repeated=True)
    assert (subject.room(0.0), subject.retry_room(subject.room(0.0))) == (2, 0)
    subject.ended(FINE, repeated=True, now=0.0, dice=EXACT)
    assert subject.retry_room(subject.room(0.0)) == 1


def test_with_one_slot_a_repeated_attempt_may_have_it_or_nothing_would_ever_be_repeated():
    subject = flow(at_once=1)
    assert subject.retry_room(subject.room(0.0)) == 1
    start(subject)
    assert subject.retry_room(subject.room(0.0)) == 0


def test_a_suspended_endpoint_gets_a_probe_soon_then_one_an_hour_until_one_is_taken():
    subject = flow()
    subject.suspend(0.0)
    assert (subject.state, subject.wait(0.0)) == (OPEN, pytest.approx(FIRST_PROBE, abs=0.01))
    now = probed(subject, UNREACHABLE, 0.0)
    assert subject.wait(now) == pytest.approx(PROBE_SUSPENDED, abs=0.01)
    now = probed(subject, BROKEN, now)
    assert subject.wait(now) == pytest.approx(PROBE_SUSPENDED, abs=0.01)
    now = probed(subject, REFUSED, now)
    assert subject.wait(now) == pytest.approx(PROBE_SUSPENDED, abs=0.01)
    now = probed(subject, FINE, now)
    assert (subject.state, subject.room(now)) == (CLOSED, 1)


def test_suspending_does_not_call_a_probe_back_or_bring_one_forward():
    subject = opened()
    now = subject.wait(0.0)
    start(subject, now=now)
    subject.suspend(now)
    assert subject.state is HALF_OPEN
    end(subject, BROKEN, now=now)
    subject.suspend(now)
    assert subject.wait(now) == pytest.approx(PROBE_SUSPENDED, abs=0.01)


def test_ten_thousand_that_fall_due_at_once_are_no_storm_for_a_receiver_that_bears_ten():
    subject, sent, most = flow(), [], 0
    while sum(sent) < 10_000:
        count = subject.room(0.0)
        most = max(most, count)
        start(subject, count)
        end(subject, *[FINE] * min(count, 10), *[OVERLOAD] * (count - 10))
        sent.append(count)
    assert most == 16
    assert max(sent[10:]) == 11
    assert all(now <= 2 * before for before, now in pairwise(sent))


class FlowMachine(RuleBasedStateMachine):
    """Every order of starts, answers and waits: the promises of a flow hold, and it never gets stuck."""

    @initialize(
        at_once=st.integers(1, 100),
        per_second=st.none() | st.floats(0.01, 10_000),
        now=st.floats(0, 1e8),
    )
    def set_up(self, at_once, per_second, now):
        self.now, self.at_once, self.flying = now, at_once, []
        self.subject = flow(at_once, per_second, now)

    @precondition(lambda self: self.subject.room(self.now))
    @rule(data=st.data())
    def start_some(self, data):
        for _ in range(data.draw(st.integers(1, self.subject.room(self.now)))):
            repeated = data.draw(st.booleans())
            before = self.subject.state
            assert self.subject.room(self.now) > 0
            self.subject.started(repeated=repeated, now=self.now)
            self.flying.append(repeated)
            assert self.subject.in_flight <= self.subject.limit
            if before is not CLOSED:
                assert (self.subject.state, self.subject.room(self.now)) == (HALF_OPEN, 0)

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        signal=st.sampled_from(Signal),
        dice=st.floats(0, 1),
        retry_after=st.none() | st.floats(0, 86400),
    )
    def end_some(self, data, signal, dice, retry_after):
        for _ in range(data.draw(st.integers(1, len(self.flying)))):
            repeated, before = self.flying.pop(), self.subject.limit
            self.subject.ended(signal, repeated=repeated, now=self.now, dice=dice, retry_after=retry_after)
            assert signal not in (OVERLOAD, BROKEN, UNREACHABLE) or self.subject.limit <= before

    @rule(seconds=st.floats(0, 2 * LONGEST_PROBE))
    def let_time_pass(self, seconds):
        self.now += seconds

    @rule()
    def suspend(self):
        self.subject.suspend(self.now)

    @invariant()
    def the_promises_hold(self):
        subject = self.subject
        assert subject.in_flight == len(self.flying)
        assert 1 <= subject.limit <= self.at_once
        room, wait = subject.room(self.now), subject.wait(self.now)
        assert 0 <= subject.retry_room(room) <= room <= subject.limit
        assert wait is None or wait > 0
        if subject.state is HALF_OPEN:
            assert subject.in_flight == 1
        if subject.state is not CLOSED:
            assert subject.limit == 1
            assert room + (subject.state is HALF_OPEN) <= 1

    @invariant()
    def it_is_never_stuck(self):
        if not self.flying and not self.subject.room(self.now):
            wait = self.subject.wait(self.now)
            assert wait is not None
            assert wait <= PROBE_SUSPENDED * (1 + JITTER) + 1
            assert self.subject.room(self.now + wait) > 0


FlowMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestFlow = FlowMachine.TestCase
