"""Schedules as people give them: spans within their bounds, hours that leave some time, a window of history."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from relay.control import given
from relay.domain.errors import UserError
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce
from relay.ports import Pace

HISTORY = timedelta(days=90)
LONGEST_HISTORY = timedelta(days=36_500)
SHORTEST_CALL, LONGEST_CALL = timedelta(seconds=1), timedelta(minutes=30)
SHORTEST_PASS, LONGEST_PASS = timedelta(seconds=10), timedelta(days=90)


def spans_given(pace: Pace, poll_every: timedelta | None, reconcile_every: timedelta | None) -> None:
    """Check how often an ERP is to be asked; None: not given. Raises UserError."""
    if poll_every is not None:
        given.span_given("poll_every", poll_every, max(given.SHORTEST_POLL, pace.floor), given.LONGEST_POLL)
    if reconcile_every is not None:
        given.span_given("reconcile_every", reconcile_every, SHORTEST_PASS, LONGEST_PASS)


def schedule_given(before: Schedule, changes: Mapping[str, Any]) -> Schedule:
    """`before` with the changes; of `hours` what is given changes, too. Raises UserError naming every field."""
    try:
        hours = {**before.hours.model_dump(), **changes.get("hours", {})}
        after = Schedule.model_validate({**before.model_dump(), **changes, "hours": hours})
    except ValidationError as error:
        raise UserError(given.told("schedule", Schedule, error)) from None
    if "slowest" in changes and after.slowest is not None:
        given.span_given("slowest", after.slowest, given.SHORTEST_POLL, given.LONGEST_POLL)
    if after.answer_within is not None:
        given.span_given("answer_within", after.answer_within, SHORTEST_CALL, LONGEST_CALL)
    if after.compare_every is not None:
        given.span_given("compare_every", after.compare_every, SHORTEST_PASS, LONGEST_PASS)
    if after.hours.next_open(datetime.now(UTC)) is None:
        raise UserError("hours: the ERP could never be asked: what is open is closed, too")
    return after


def begin_given(history: timedelta | None) -> date | None:
    """The first day of the window that reaches so far back from now; None: everything. Raises UserError."""
    if history is None:
        return None
    if not timedelta(0) <= history <= LONGEST_HISTORY:
        raise UserError(f"history is {history.days} days: give 0 to {LONGEST_HISTORY.days} days, or all")
    return (datetime.now(UTC) - history).date()


def announce_given(announce: str) -> Announce:
    """What a sync tells. Raises UserError listing what there is."""
    if announce not in set(Announce):
        raise UserError(f"unknown announce {announce!r}: the known ones are {', '.join(Announce)}")
    return Announce(announce)


def first_given(announce: str) -> Announce:
    """What a first sync tells: snapshots, or nothing. Raises UserError."""
    if announce not in {Announce.SNAPSHOT, Announce.SILENT}:
        raise UserError(f"a first sync announces {Announce.SNAPSHOT} or {Announce.SILENT}, not {announce!r}")
    return Announce(announce)
