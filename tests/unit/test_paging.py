"""Cursors of lists: given back as they came they lead on; anything else is refused without being repeated."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.errors import UserError
from relay.domain.paging import page_cursor, page_key

WORDS = st.text(st.characters(exclude_characters="\x00"), max_size=40)


@given(WORDS, st.integers(0, 2**63 - 1))
def test_a_cursor_gives_back_the_key_it_was_made_from(word, number):
    assert page_key("things", page_cursor("things", (word, number)), str, int) == (word, number)


def test_without_a_cursor_a_list_begins():
    assert page_key("things", None, str) is None


def raw(value):
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zzzzz",
        "canary",
        "cana ry",
        "AAAA" * 600,
        raw("things"),
        raw(["things"]),
        raw(["others", "a", 1]),
        raw(["things", 1, "a"]),
        raw(["things", "a", True]),
        raw(["things", "a", -1]),
        raw(["things", "a", 2**63]),
        raw(["things", "\x00", 1]),
        base64.urlsafe_b64encode(b'["things", "a",1]').decode().rstrip("="),
        base64.urlsafe_b64encode(b"[" * 1400).decode(),
    ],
)
def test_what_is_no_cursor_of_this_list_is_refused_and_not_repeated(text):
    with pytest.raises(UserError, match=r"^after: ") as refused:
        page_key("things", text, str, int)
    assert not text or text not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text):
    with suppress(UserError):
        assert page_cursor("things", page_key("things", text, str)) == text
