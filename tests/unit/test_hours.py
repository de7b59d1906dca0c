"""When an ERP may be asked: windows as people write them, by the clock on their customer's wall."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.domain.hours import DAYS, Hours

SAO_PAULO = Hours(open=("Mon-Fri 07:00-20:00",), closed=("Wed 12:00-13:00",), zone="America/Sao_Paulo")


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-02T08:00", "2026-03-02T08:00"),  # a Monday
        ("2026-03-02T06:59", "2026-03-02T07:00"),
        ("2026-03-02T20:00", "2026-03-03T07:00"),
        ("2026-03-04T12:30", "2026-03-04T13:00"),
        ("2026-03-06T19:59:59", "2026-03-06T19:59:59"),
        ("2026-03-06T21:00", "2026-03-09T07:00"),
    ],
)
def test_working_hours_are_those_of_the_zone(now, opens):
    zone = "America/Sao_Paulo"
    assert SAO_PAULO.next_open(at(now, zone).astimezone(UTC)) == at(opens, zone)
    assert SAO_PAULO.is_open(at(now, zone)) is (now == opens)


def test_a_window_may_end_after_midnight_and_a_week_after_sunday():
    hours = Hours(open=("Fri-Mon 22:00-06:00",))
    assert hours.is_open(at("2026-03-03T05:59")), "Tuesday morning belongs to Monday's window"
    assert not hours.is_open(at("2026-03-03T06:00"))
    assert not hours.is_open(at("2026-03-06T05:59")), "Friday morning would be Thursday's"
    assert hours.next_open(at("2026-03-03T06:00")) == at("2026-03-06T22:00")


def test_without_windows_it_is_always_open_and_with_none_left_never():
    now = at("2026-03-02T08:00")
    assert Hours().always
    assert Hours().next_open(now) == now
    assert not Hours(closed=("00:00-24:00",)).is_open(now)
    assert Hours(closed=("00:00-24:00",)).next_open(now) is None


def test_where_the_clock_is_set_forward_a_window_begins_when_its_time_has_passed():
    # On 2026-03-08 New York goes from 02:00 to 03:00: 02:30 is never shown.
    hours = Hours(open=("Sun 02:30-05:00",), zone="America/New_York")
    assert hours.next_open(at("2026-03-08T06:00")) == at("2026-03-08T07:00")


def test_where_the_clock_is_set_back_a_window_comes_twice():
    # On 2026-11-01 New York shows 01:00 to 02:00 twice.
    hours = Hours(open=("Sun 01:00-01:30",), zone="America/New_York")
    first = hours.next_open(at("2026-11-01T04:00"))
    assert first == at("2026-11-01T05:00")
    assert hours.next_open(first + timedelta(minutes=30)) == first + timedelta(hours=1)


ZONES = st.sampled_from(["UTC", "America/Sao_Paulo", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
CLOCK = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")
WINDOWS = st.builds(
    lambda first, last, begin, end: f"{first}-{last} {begin}-{end if end != begin else '24:00'}",
    st.sampled_from(DAYS),
    st.sampled_from(DAYS),
    CLOCK,
    CLOCK,
)
HOURS = st.builds(
    Hours, open=st.lists(WINDOWS, max_size=2).map(tuple), closed=st.lists(WINDOWS, max_size=2).map(tuple), zone=ZONES
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it


@settings(max_examples=60, deadline=None)
@given(HOURS, MOMENTS, st.lists(st.floats(0, 0.999), max_size=20))
def test_the_next_opening_is_open_and_nothing_before_it_is(hours, now, parts):
    opens = hours.next_open(now)
    if opens is None:
        assert not any(hours.is_open(now + part * timedelta(days=7)) for part in parts)
        return
    assert opens >= now
    assert hours.is_open(opens)
    assert (opens == now) is hours.is_open(now)
    assert not any(hours.is_open(now + part * (opens - now)) for part in parts if opens > now)


@given(WINDOWS)
def test_a_window_has_one_spelling(window):
    assert Hours(open=(Hours(open=(window,)).open[0],)).open == Hours(open=(window,)).open


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("mon-fri 07:00 - 20:00", "Mon-Fri 07:00-20:00"),
        ("07:00-20:00", "Mon-Sun 07:00-20:00"),
        ("sat,sun 00:00-24:00", "Sat,Sun 00:00-24:00"),
    ],
)
def test_windows_are_kept_in_one_spelling(written, kept):
    assert Hours(open=(written,)).open == (kept,)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("always", "like Mon-Fri 07:00-20:00"),
        ("Mon 7-20", "like Mon-Fri"),
        ("Foo 07:00-20:00", "no day"),
        ("Mon-Tue-Wed 07:00-20:00", "no day"),
        ("Mon 07:00-25:00", "no time of a day"),
        ("Mon 07:60-08:00", "no time of a day"),
        ("Mon 07:00-07:00", "no length"),
        ("Mon 24:00-07:00", "no length"),
    ],
)
def test_what_is_no_window_is_told_with_what_to_write(window, message):
    with pytest.raises(ValidationError, match=message):
        Hours(open=(window,))


@pytest.mark.parametrize("zone", ["America/Nowhere", "../etc/passwd", "", "America", "x" * 5000])
def test_a_zone_that_there_is_not_is_named(zone):
    with pytest.raises(ValidationError, match="no time zone"):
        Hours(zone=zone)
