"""The watch: whatever happens between two polls is due at the second, and a quiet ERP is left alone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.connectors.tryton.watch import Mark, Row, Window
from relay.domain.connections import Cursor
from relay.domain.errors import Unsupported

OVERLAP = timedelta(minutes=5)
START = datetime(2026, 11, 22, 12, tzinfo=UTC)

ROWS = st.builds(
    Row,
    feed=st.sampled_from(["purchase.purchase", "purchase.line", "stock.move"]),
    id=st.integers(1, 40),
    order=st.integers(1, 600),
    at=st.integers(0, 900).map(lambda seconds: START + timedelta(seconds=seconds)),
)
DRAFTS = st.dictionaries(st.integers(1, 600), st.lists(st.integers(1, 9), max_size=3).map(str), max_size=20)


def window(rows, drafts, mark):
    since = mark.since - OVERLAP
    return Window([row for row in rows if row.at >= since], drafts, OVERLAP)


def polled(rows, drafts, mark):
    seen = window(rows, drafts, mark)
    return seen.due(mark), seen.whole(mark)


@given(rows=st.lists(ROWS, max_size=60), drafts=DRAFTS)
def test_a_quiet_erp_has_nothing_due_a_second_time(rows, drafts):
    _, mark = polled(rows, drafts, Mark(since=START))
    assert polled(rows, drafts, mark) == ([], mark)


@given(rows=st.lists(ROWS, max_size=60), drafts=DRAFTS, late=ROWS)
def test_a_row_that_appears_within_the_overlap_makes_its_order_due(rows, drafts, late):
    _, mark = polled(rows, drafts, Mark(since=START))
    if late in rows or late.at < mark.since - OVERLAP:
        return
    assert late.order in polled([*rows, late], drafts, mark)[0]


@given(rows=st.lists(ROWS, max_size=60), drafts=DRAFTS.filter(bool), chosen=st.randoms(use_true_random=False))
def test_a_draft_that_loses_a_line_is_due_however_old_it_is(rows, drafts, chosen):
    _, mark = polled(rows, drafts, Mark(since=START))
    order = chosen.choice(sorted(drafts))
    assert order in polled(rows, {**drafts, order: "[0]"}, mark)[0]


@given(rows=st.lists(ROWS, min_size=1, max_size=60), drafts=DRAFTS, stop=st.integers(0, 59))
def test_a_poll_cut_short_continues_without_losing_an_order(rows, drafts, stop):
    first = window(rows, drafts, Mark(since=START))
    due = first.due(Mark(since=START))
    done = due[: stop + 1]
    resumed = polled(rows, drafts, first.up_to(done[-1], Mark(since=START)))[0]
    assert set(done) | set(resumed) >= set(due)


@given(rows=st.lists(ROWS, max_size=60))
def test_the_oldest_change_comes_first(rows):
    due = polled(rows, {}, Mark(since=START))[0]
    newest = {order: max(row.at for row in rows if row.order == order) for order in due}
    assert due == sorted(due, key=lambda order: (newest[order], order))


@given(rows=st.lists(ROWS, max_size=200, unique_by=lambda row: row.order), drafts=DRAFTS)
def test_a_cursor_is_text_of_bounded_size_and_reads_back(rows, drafts):
    _, mark = polled(rows, drafts, Mark(since=START))
    assert Mark.of(mark.cursor()) == mark
    assert len(mark.cursor()) < 6_000


@pytest.mark.parametrize("foreign", ["", "SC7|20261122", "[]", '{"since": "yesterday"}', '{"page": 3}'])
def test_a_foreign_cursor_is_told_from_the_beginning(foreign):
    if not foreign:
        assert Mark.of(Cursor(foreign)) == Mark.of(None) == Mark()
        return
    with pytest.raises(Unsupported, match="read everything anew"):
        Mark.of(Cursor(foreign))
