"""How long a connection waits for its next poll, and when all of it is compared."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.domain.hours import Hours
from relay.domain.schedules import PATIENT, SPREAD, Rhythm, Schedule, interval

SECOND = timedelta(seconds=1)


def rhythm(fastest=10, slowest=60, floor=1, quiet=0, took=0.0):
    return Rhythm(fastest * SECOND, slowest and slowest * SECOND, floor * SECOND, quiet, took * SECOND)


def wait(dice=0.0, **values):
    span, why = interval(rhythm(**values), dice)
    return span.total_seconds(), why


def test_it_is_fast_while_changes_come_and_slows_down_when_it_is_quiet():
    assert [round(wait(quiet=quiet)[0]) for quiet in range(14)] == [10] * 4 + [12, 16, 20, 24, 31, 38, 48, 60, 60, 60]
    assert wait(quiet=1) == (10, "as fast as it is set")
    assert wait(quiet=9)[1] == "quiet for 9 polls"


def test_without_a_slowest_it_never_slows_down():
    assert wait(slowest=None, quiet=1000) == wait(slowest=5, quiet=1000) == (10, "as fast as it is set")


def test_the_floor_of_the_connector_is_kept_and_a_long_poll_is_followed_by_as_long_a_rest():
    assert wait(fastest=1, floor=5)[0] == 5
    assert wait(took=25.0) == (25, "the last poll took 25.0 s")
    assert wait(took=5.0)[0] == 10


def test_chance_adds_a_little():
    assert wait(dice=1.0)[0] == pytest.approx(10 * (1 + SPREAD))


@given(
    st.integers(1, 1000),
    st.none() | st.integers(1, 5000),
    st.integers(0, 60),
    st.integers(0, 10**6),
    st.floats(0, 300),
    st.floats(0, 1),
)
def test_every_wait_is_within_its_bounds(  # noqa: PLR0917
    fastest, slowest, floor, quiet, took, dice
):
    seconds, why = wait(dice=dice, fastest=fastest, slowest=slowest, floor=floor, quiet=quiet, took=took)
    least = max(fastest, floor)
    assert why
    assert max(least, took) - 1e-5 <= seconds <= max(least, slowest or 0, took) * (1 + SPREAD) + 1e-5
    faster = wait(dice=dice, fastest=fastest, slowest=slowest, floor=floor, quiet=min(quiet, PATIENT), took=took)[0]
    assert faster <= seconds


@pytest.mark.parametrize("name", ["slowest", "compare_every"])
def test_a_span_without_a_unit_is_no_span(name):
    with pytest.raises(ValidationError, match="with its unit"):
        Schedule.model_validate({name: 5})


NIGHT, NOON = datetime(2026, 3, 2, 2, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "night", "noon"),
    [
        (Hours(), True, False),
        (Hours(zone="America/Sao_Paulo"), False, False),
        (Hours(open=("Mon-Fri 07:00-20:00",)), False, True),
        (Hours(open=("02:00-20:00",)), True, False),
        (Hours(closed=("00:00-06:00",)), False, True),
    ],
)
def test_all_is_compared_at_night_or_else_when_the_erp_may_be_asked(hours, night, noon):
    off_peak = Schedule(hours=hours).off_peak()
    assert (off_peak.is_open(NIGHT), off_peak.is_open(NOON)) == (night, noon)
