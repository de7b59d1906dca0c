from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.deliveries import Answer, Outcome, Wish
from relay.domain.endpoints import EndpointOptions, Ordering
from relay.domain.retry import SCHEDULE, backoff, classify, most_attempts, next_attempt, parse_retry_after, schedule_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
dice = st.floats(0, 1)
schedules = st.lists(st.timedeltas(timedelta(0), timedelta(days=3)), max_size=20)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(status=200), Outcome.DELIVERED),
        (Answer(status=299), Outcome.DELIVERED),
        (Answer(status=410), Outcome.GONE),
        (Answer(status=501), Outcome.DEAD),
        *[(Answer(status=status), Outcome.RETRY) for status in (101, 301, 308, 400, 401, 404, 413, 429, 500, 503, 999)],
        *[
            (Answer(error=error), Outcome.RETRY)
            for error in ("resolve", "refused", "tls", "timeout", "reset", "protocol", "policy")
        ],
        (Answer(status=200, error="reset"), Outcome.RETRY),
        (Answer(status=410, error="timeout"), Outcome.RETRY),
        (Answer(), Outcome.RETRY),
        (Answer(status=200, wish=Wish.DISABLE), Outcome.DELIVERED),
        (Answer(status=200, wish=Wish.ABORT), Outcome.DELIVERED),
        (Answer(status=500, wish=Wish.DISABLE), Outcome.GONE),
        (Answer(status=400, wish=Wish.ABORT), Outcome.DEAD),
        (Answer(status=400, wish=Wish.ABORT, error="reset"), Outcome.RETRY),
    ],
)
def test_an_answer_means_what_the_table_says(answer, outcome):
    assert classify(answer) is outcome


@pytest.mark.parametrize(
    ("answer", "options", "most"),
    [
        (Answer(status=500), {}, 12),
        *[(Answer(status=status), {}, 12) for status in (408, 425, 429, 503)],
        *[(Answer(status=status), {}, 8) for status in (301, 307, 400, 401, 404, 422, 499)],
        (Answer(error="timeout", status=404), {}, 12),
        (Answer(status=404), {"refused_attempts": 2}, 2),
        (Answer(status=404), {"refused_attempts": 20}, 12),
        (Answer(status=500), {"ordering": Ordering.SKIP_AFTER}, 3),
        (Answer(status=404), {"ordering": Ordering.SKIP_AFTER, "skip_after": 9}, 8),
        (Answer(status=500), {"schedule": (timedelta(0), timedelta(seconds=1))}, 2),
    ],
)
def test_how_often_an_event_is_tried_depends_on_the_answer_and_the_endpoint(answer, options, most):
    assert most_attempts(answer, EndpointOptions(**options)) == most


def test_an_endpoint_may_have_a_schedule_of_its_own():
    own = (timedelta(0), timedelta(minutes=1))
    assert schedule_of(EndpointOptions(schedule=own)) == own
    assert schedule_of(EndpointOptions()) == SCHEDULE


def test_an_event_is_given_up_when_its_own_limit_is_reached_before_the_schedule():
    assert next_attempt(attempts=3, now=NOW, dice=0.5, most=3) is None
    assert next_attempt(attempts=2, now=NOW, dice=0.5, most=3) is not None


def test_the_first_attempt_is_made_at_once_and_twelve_in_all():
    assert next_attempt(attempts=0, now=NOW, dice=0) == NOW
    assert next_attempt(attempts=11, now=NOW, dice=0.5) == NOW + DAY
    assert next_attempt(attempts=12, now=NOW, dice=0.5) is None


def test_without_chance_the_waits_never_shrink():
    waits = [next_attempt(attempts=n, now=NOW, dice=0.5) for n in range(len(SCHEDULE))]
    assert waits == [NOW + wait for wait in SCHEDULE]
    assert all(first <= second for first, second in pairwise(SCHEDULE))
    assert timedelta(hours=51) < sum(SCHEDULE, timedelta(0)) < timedelta(hours=53)


@given(st.integers(1, 11), dice)
def test_chance_moves_a_wait_by_a_quarter_at_most(attempts, thrown):
    wait = next_attempt(attempts=attempts, now=NOW, dice=thrown) - NOW
    assert SCHEDULE[attempts] * 0.75 <= wait <= SCHEDULE[attempts] * 1.25


@given(st.integers(0, 30), dice, st.none() | st.floats(), schedules)
def test_the_next_attempt_is_never_in_the_past_nor_later_than_any_rule_allows(attempts, thrown, asked, schedule):
    at = next_attempt(attempts=attempts, now=NOW, dice=thrown, retry_after=asked, schedule=schedule)
    if attempts >= len(schedule):
        assert at is None
    elif attempts == 0:
        assert at == NOW + schedule[0]
    else:
        assert NOW + timedelta(seconds=1) <= at <= NOW + max(DAY, schedule[attempts] * 1.25)


@given(schedules, st.none() | st.floats(0, 1e9))
def test_retrying_always_ends(schedule, asked):
    at, attempts = NOW, 0
    while (at := next_attempt(attempts=attempts, now=at, dice=1, retry_after=asked, schedule=schedule)) is not None:
        attempts += 1
    assert attempts == len(schedule)


@given(st.floats(10, 86_400), dice)
def test_a_longer_retry_after_is_obeyed(asked, thrown):
    assert next_attempt(attempts=1, now=NOW, dice=thrown, retry_after=asked) == NOW + timedelta(seconds=asked)


def test_a_retry_after_of_years_is_cut_to_a_day():
    assert next_attempt(attempts=1, now=NOW, dice=0, retry_after=1e12) == NOW + DAY


def test_a_receiver_that_always_says_one_second_does_not_use_up_the_schedule():
    assert next_attempt(attempts=7, now=NOW, dice=0.5, retry_after=1) == NOW + SCHEDULE[7]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("86401", 86_400),
        ("9" * 60, 86_400),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120),
        ("Sunday, 01-Mar-26 12:02:00 GMT", 120),
        ("Sun Mar  1 12:02:00 2026", 120),
        ("Sun, 01 Mar 2026 09:02:00 -0300", 120),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Mon, 01 Mar 9999 11:00:00 GMT", 86_400),
    ],
)
def test_both_forms_of_retry_after_are_read(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-5",
        "1.5",
        "1e9",
        "soon",
        "١٢",
        "²",
        "9" * 5000,
        "Sun, 99 Mar 2026 12:02:00 GMT",
        "Sun, 01 Mar 2026 12:99:00 GMT",
        "Sun, 01 Mar 2026 12:02:00 +99999999999",
    ],
)
def test_a_retry_after_that_cannot_be_read_is_none(value):
    assert parse_retry_after(value, NOW) is None


@given(st.text() | st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,5} \d\d:\d\d:\d\d [+-]?\w{1,6}"))
def test_no_retry_after_makes_it_fail(value):
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 86_400


@given(st.integers(0, 2**31 - 1))
def test_an_http_date_reads_as_the_seconds_until_then(epoch):
    then = datetime.fromtimestamp(epoch, UTC)
    wanted = min(max(0.0, (then - NOW).total_seconds()), 86_400)
    assert parse_retry_after(format_datetime(then, usegmt=True), NOW) == wanted


@given(st.integers(-5, 10_000), dice)
def test_backing_off_doubles_to_the_cap_and_chance_only_shortens_it(failures, thrown):
    base, cap = timedelta(seconds=5), timedelta(minutes=15)
    wait = backoff(failures, thrown, base=base, cap=cap)
    whole = backoff(failures, 0, base=base, cap=cap)
    assert whole * 0.75 <= wait <= whole <= cap
    assert whole <= backoff(failures + 1, 0, base=base, cap=cap)
    assert whole == min(cap, base * 2 ** min(max(failures - 1, 0), 20))
