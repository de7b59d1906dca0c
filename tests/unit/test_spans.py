"""Time spans: what is shown is what can be given."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from relay.domain.spans import Span, span_words

READ: TypeAdapter[timedelta] = TypeAdapter(Span)


@given(st.integers(min_value=0, max_value=400 * 86_400_000).map(lambda number: timedelta(milliseconds=number)))
def test_a_span_that_is_shown_can_be_given(span):
    assert READ.validate_python(span_words(span)) == span


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(days=3), "3d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=15), "15s"),
        (timedelta(milliseconds=1500), "1500ms"),
        (timedelta(0), "0ms"),
    ],
)
def test_a_span_is_shown_in_its_largest_whole_unit(span, words):
    assert span_words(span) == words
