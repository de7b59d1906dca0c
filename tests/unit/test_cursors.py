"""Cursors: what was given comes back, and nothing else is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.cursors import START, cursor_of, read_cursor
from relay.domain.errors import UserError

ENDPOINT = "end_0123456789abcdef01234567"
NUMBERS = st.integers(START, 2**59)
IDS = st.text(st.characters(codec="utf-8", exclude_characters="|"), min_size=1, max_size=60)


@given(IDS, NUMBERS)
def test_a_cursor_comes_back_as_its_number(endpoint_id, number):
    assert read_cursor(endpoint_id, cursor_of(endpoint_id, number)) == number


@given(NUMBERS)
def test_a_cursor_is_fit_for_headers_and_queries(number):
    text = cursor_of(ENDPOINT, number)
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=80))
def test_no_text_is_taken_that_was_not_given(text):
    with pytest.raises(UserError, match="cannot be read"):
        read_cursor(ENDPOINT, text)


@given(st.integers(START, 2**40), st.data())
def test_a_changed_cursor_is_never_taken_for_the_same_one(number, data):
    text = cursor_of(ENDPOINT, number)
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]
    try:
        assert changed == text or read_cursor(ENDPOINT, changed) != number
    except UserError as refused:
        assert changed not in str(refused)  # noqa: PT017 - either of the two is right


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "====",
        cursor_of(ENDPOINT, 7) + "=",
        cursor_of(ENDPOINT, 7) + "\n",
        cursor_of(ENDPOINT, -7),
        cursor_of(ENDPOINT, 10**18),
        cursor_of(f"2|{ENDPOINT}", 7),
        "Mnx4fDc",  # another version
        "x" * 401,
    ],
)
def test_garbage_is_refused_without_repeating_it(text):
    with pytest.raises(UserError, match="the cursor cannot be read: give it exactly as it came") as refused:
        read_cursor(ENDPOINT, text)
    assert len(text) < 8 or text not in str(refused.value)


def test_another_spelling_of_the_same_bytes_is_refused():
    text = next(each for each in (cursor_of(ENDPOINT, number) for number in (1, 10, 100)) if len(each) % 4)
    # The last letter holds bits that no byte needs.
    other = text[:-1] + chr(ord(text[-1]) + 1)
    with pytest.raises(UserError, match="cannot be read"):
        read_cursor(ENDPOINT, other)


def test_another_endpoints_cursor_is_refused_as_such():
    with pytest.raises(UserError, match="belongs to another endpoint"):
        read_cursor(ENDPOINT, cursor_of("end_other", 7))
