"""What a sync tells of an order, how fast it is, and whose turn it is."""

from datetime import UTC, date, datetime, timedelta

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.changes import ChangeKind
from relay.domain.events import ChangeEvent
from relay.domain.syncs import Announce, OpenSync, Pace, SyncKind, first_kind, pace, within
from relay.domain.turns import Due, Turn, next_time, next_turn
from relay.stages.observe import Telling, observed
from tests.fakes import START, connection, order
from tests.fixtures.orders import states

SCHEMA = jsonschema.Draft202012Validator(ChangeEvent.model_json_schema(mode="serialization"))
BEGIN = date(2026, 2, 1)
OLD, NEW = date(2026, 1, 31), date(2026, 2, 1)


def look(known, one, announce, begin=None):
    """One more look at an order: (type, sequence, how many changes) of what was told, or None; `known` is kept up."""
    snapshots, entries = observed(connection(), [one], known, now=START, telling=Telling(announce, begin))
    known.update({each.remote_id: each for each in snapshots})
    for entry in entries:
        SCHEMA.validate(orjson.loads(entry.body))
    assert len(entries) <= 1
    if not entries:
        return None
    data = orjson.loads(entries[0].body)["data"]
    return entries[0].type.removeprefix("purchase_order."), data["sequence"], len(data["changes"])


CHANGES, SNAPSHOT, SILENT = Announce.CHANGES, Announce.SNAPSHOT, Announce.SILENT


def test_changes_tell_what_differs_and_what_was_not_seen_before():
    known = {}
    assert look(known, order(quantity=1), CHANGES) == ("created", 1, 0)
    assert look(known, order(quantity=1), CHANGES) is None
    assert look(known, order(quantity=2), CHANGES) == ("updated", 2, 1)


def test_an_order_older_than_the_first_syncs_window_is_no_new_one():
    assert look({}, order(order_date=OLD), CHANGES, BEGIN) == ("snapshot", 1, 0)
    assert look({}, order(order_date=NEW), CHANGES, BEGIN) == ("created", 1, 0)


def test_a_snapshot_tells_every_order_again_and_what_differs_as_what_it_is():
    known = {}
    assert look(known, order(quantity=1), SNAPSHOT) == ("snapshot", 1, 0)
    assert look(known, order(quantity=1), SNAPSHOT) == ("snapshot", 2, 0)
    assert look(known, order(quantity=2), SNAPSHOT) == ("updated", 3, 1)
    assert look(known, order(quantity=3), CHANGES) == ("updated", 4, 1)


def test_a_snapshot_tells_no_order_outside_its_window_but_notes_it():
    known = {}
    assert look(known, order(order_date=OLD), SNAPSHOT, BEGIN) is None
    assert look(known, order(order_date=OLD), SNAPSHOT, BEGIN) is None
    assert known["4500"].sequence == 0
    assert look(known, order(order_date=OLD, quantity=2), SNAPSHOT, BEGIN) == ("updated", 1, 1)


def test_what_was_read_silently_is_told_with_its_first_change_as_number_one():
    known = {}
    assert look(known, order(quantity=1), SILENT) is None
    assert look(known, order(quantity=1), CHANGES) is None
    assert look(known, order(quantity=2), CHANGES) == ("updated", 1, 1)
    assert look(known, order(quantity=3), SILENT) is None
    assert look(known, order(quantity=3), CHANGES) is None
    assert look(known, order(quantity=4), CHANGES) == ("updated", 2, 1)


def test_a_deleted_order_is_not_told_again_and_one_never_seen_not_at_all():
    known = {}
    assert [look(known, order().deleted(), announce) for announce in Announce] == [None] * 3
    assert known == {}
    look(known, order(), CHANGES)
    look(known, order().deleted(), CHANGES)
    assert look(known, order().deleted(), SNAPSHOT) is None


@given(states(min_size=1, max_size=6), st.lists(st.sampled_from(list(Announce)), min_size=6, max_size=6))
def test_sequences_have_no_gaps_and_end_at_what_is_noted_whatever_is_announced(looks, announces):
    known, sequences = {}, []
    for one, announce in zip(looks, announces, strict=False):
        if told := look(known, one, announce):
            sequences.append(told[1])
    assert sequences == list(range(1, len(sequences) + 1))
    assert not known or known[looks[0].remote_id].sequence == len(sequences)


@pytest.mark.parametrize(
    ("dates", "inside", "kind"),
    [
        ({}, True, "created"),
        ({"order_date": OLD}, False, "snapshot"),
        ({"order_date": OLD, "remote_updated_at": datetime(2026, 2, 1, tzinfo=UTC)}, True, "snapshot"),
        ({"order_date": OLD, "remote_created_at": datetime(2026, 2, 2, tzinfo=UTC)}, True, "created"),
        ({"order_date": NEW, "remote_created_at": datetime(2026, 1, 2, tzinfo=UTC)}, True, "snapshot"),
    ],
)
def test_a_window_is_about_when_an_order_was_issued_made_or_changed(dates, inside, kind):
    assert within(order(**dates), BEGIN) is inside
    assert within(order(**dates), None)
    assert first_kind(order(**dates), BEGIN) is ChangeKind(kind)
    assert first_kind(order(**dates), None) is ChangeKind.CREATED


def test_polls_wait_for_the_first_sync_only():
    holds = {kind for kind in SyncKind if OpenSync("s", kind, CHANGES).holds_polls}
    assert holds == {SyncKind.FIRST}


def test_the_pace_is_told_when_there_is_one():
    later = START + timedelta(seconds=10)
    assert pace(0, 5, START, later) == pace(5, 5, None, later) == pace(5, 5, later, later) == Pace()
    assert pace(20, None, START, later) == Pace(2.0, None)
    assert pace(20, 50, START, later) == Pace(2.0, later + timedelta(seconds=15))
    assert pace(60, 50, START, later).ends_about == later


# Turns

NOW, SOON = START, START + timedelta(seconds=1)


def test_polls_come_first_and_after_each_there_is_room_for_a_page():
    all_due = Due(NOW, NOW, NOW)
    assert next_turn(all_due, NOW, Turn.WAIT) is Turn.POLL
    assert next_turn(all_due, NOW, Turn.POLL) is Turn.SYNC
    assert next_turn(all_due, NOW, Turn.SYNC) is Turn.POLL
    assert next_turn(Due(SOON, NOW, NOW), NOW, Turn.SYNC) is Turn.PASS
    assert next_turn(Due(SOON, SOON, NOW), NOW, Turn.SYNC) is Turn.SYNC


def test_nothing_is_done_before_the_erp_may_be_asked():
    assert Due(NOW, None, SOON + timedelta(1)).not_before(SOON) == Due(SOON, None, SOON + timedelta(1))


MOMENTS = st.none() | st.integers(-5, 5).map(lambda seconds: START + timedelta(seconds=seconds))


@given(MOMENTS, MOMENTS, MOMENTS, st.sampled_from(list(Turn)))
def test_what_is_due_is_done_and_nothing_else(poll, full_pass, sync, last):
    due = Due(poll, full_pass, sync)
    times = {Turn.POLL: poll, Turn.PASS: full_pass, Turn.SYNC: sync}
    turn = next_turn(due, START, last)
    if turn is Turn.WAIT:
        assert all(at is None or at > START for at in times.values())
        assert next_time(due) == min((at for at in times.values() if at), default=None)
    else:
        assert times[turn] <= START
