"""The pace at which an ERP is asked, as decisions on values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.pace import LONGEST_WAIT, Bucket, retry_in, take


@given(
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    per_second=st.floats(0.5, 20),
    burst=st.integers(1, 10),
)
def test_calls_never_outrun_the_rate_beyond_the_burst(gaps, per_second, burst):
    now, bucket, goes = 0.0, Bucket(burst, 0.0), []
    for gap in gaps:
        now += gap
        bucket, wait = take(bucket, per_second=per_second, burst=burst, now=now)
        goes.append(now + wait)
    for first, start in enumerate(goes):
        for count, end in enumerate(goes[first:], 1):
            assert count <= burst + (end - start) * per_second + 1e-6


def test_a_quiet_time_refills_no_more_than_the_burst():
    _, wait = take(Bucket(0, 0), per_second=1, burst=2, now=1000)
    assert wait == 0
    bucket = Bucket(0, 0)
    waits = []
    for _ in range(4):
        bucket, wait = take(bucket, per_second=1, burst=2, now=1000)
        waits.append(wait)
    assert waits == [0, 0, 1, 2]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_what_is_no_blip_is_told_at_once(status):
    assert retry_in(tries=1, status=status, retry_after=None, dice=0.5) is None


@pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
def test_a_blip_is_tried_three_times_with_growing_waits(status):
    waits = [retry_in(tries=tries, status=status, retry_after=None, dice=0.5) for tries in (1, 2, 3)]
    assert waits == [0.75, 1.5, None]


def test_the_erps_own_wish_is_obeyed_when_short_and_handed_up_when_long():
    assert retry_in(tries=1, status=429, retry_after=7, dice=0) == 7
    assert retry_in(tries=1, status=429, retry_after=LONGEST_WAIT + 1, dice=0) is None
