"""Pulling: pages without gaps, and what is forgotten is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.errors import UserError
from relay.domain.pulling import Forgotten, Logged, Page, page_of


def logged(*numbers):
    return [Logged(number, f"evt_{number}", f"dlv_{number}", "waiting", b"{}") for number in numbers]


def numbers(page):
    return [each.number for each in page.events]


def test_a_page_ends_where_its_events_end():
    page = page_of(2, 9, logged(3, 4, 5))
    assert (numbers(page), page.until, page.last, page.more) == ([3, 4, 5], 5, 9, True)


def test_a_page_stops_before_what_is_forgotten_and_the_next_one_says_so():
    assert numbers(page_of(2, 9, logged(3, 4, 8, 9))) == [3, 4]
    assert page_of(4, 9, logged(8, 9)) == Forgotten(oldest=7)


def test_nothing_kept_after_the_cursor_is_forgotten_up_to_the_end():
    assert page_of(4, 9, []) == Forgotten(oldest=9)


def test_at_the_end_of_the_log_the_cursor_stays():
    assert page_of(9, 9, []) == Page((), 9, 9)
    assert not page_of(9, 9, []).more


def test_without_a_cursor_it_begins_with_the_oldest_that_is_kept():
    assert numbers(page_of(None, 9, logged(7, 8, 9))) == [7, 8, 9]
    assert page_of(None, 9, []) == Page((), 9, 9)
    assert page_of(None, 0, []) == Page((), 0, 0)


def test_what_was_added_between_the_two_looks_is_there():
    assert page_of(2, 2, logged(3, 4)).last == 4


def test_a_cursor_ahead_of_the_log_is_refused():
    with pytest.raises(UserError, match="ahead of this log"):
        page_of(10, 9, [])


@given(st.sets(st.integers(1, 40)), st.integers(1, 7), st.booleans())
def test_a_reader_gets_all_that_is_kept_once_and_in_order(kept, most, begins_at_zero):
    last = 40
    read, holes, after = [], [], 0 if begins_at_zero else None
    for _ in range(200):
        found = logged(*[number for number in sorted(kept) if number > (after or 0)][:most])
        page = page_of(after, last, found)
        if isinstance(page, Forgotten):
            holes += range(after + 1, page.oldest + 1)
            after = page.oldest
            continue
        read += numbers(page)
        after = page.until
        if not page.more:
            break
    assert read == sorted(kept)
    first = min(kept, default=last + 1)
    assert holes == [
        number for number in range(1, last + 1) if number not in kept and (begins_at_zero or number > first)
    ]
