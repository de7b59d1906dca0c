"""Turns: what one connection's ERP is asked next; one thing at a time, so that nothing older replaces what is newer.

poll due -> poll -> (a full pass when it is due) -> one page of a sync -> poll due? ...      closed: nothing
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self


class Turn(StrEnum):
    """What is done next."""

    POLL = "poll"
    PASS = "pass"  # noqa: S105 - a full pass of ids
    SYNC = "sync"
    """One page of a sync."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Due:
    """When each is due; None: it is not to be done."""

    poll: datetime | None
    full_pass: datetime | None
    sync: datetime | None

    def not_before(self, opens: datetime) -> Self:
        """The same, once the ERP may be asked."""
        times = (self.poll, self.full_pass, self.sync)
        return type(self)(*(at and max(at, opens) for at in times))


def next_turn(due: Due, now: datetime, last: Turn) -> Turn:
    """What to do now: polls first, but after each there is room for one page of a sync."""
    times = {Turn.POLL: due.poll, Turn.PASS: due.full_pass, Turn.SYNC: due.sync}
    ready = [turn for turn, at in times.items() if at is not None and at <= now]
    if last is not Turn.SYNC and last is not Turn.WAIT and Turn.SYNC in ready:
        return Turn.SYNC
    return ready[0] if ready else Turn.WAIT


def next_time(due: Due) -> datetime | None:
    """When there is something to do again; None: only when somebody rings."""
    return min((at for at in (due.poll, due.full_pass, due.sync) if at is not None), default=None)
