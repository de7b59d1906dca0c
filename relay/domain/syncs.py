"""Syncs: reading orders beside the polls, for a reason of its own, and what is told of what is read.

    waiting -> running -> done | cancelled | failed

What a sync tells of one order, and what is noted as told:

                not seen before                      differs from what was told     is as it was told
    changes     created, or snapshot when older      its change                     nothing
    snapshot    snapshot; outside the window noted   its change                     snapshot, inside the window
    silent      noted                                noted                          nothing

An order that is noted has a sequence of 0 when nothing was ever told of it: its first true change is told as number 1.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from relay.domain.changes import ChangeKind
from relay.domain.connections import Cursor
from relay.domain.orders import PurchaseOrder


class SyncKind(StrEnum):
    """Why orders are read."""

    FIRST = "first"
    """The connection is new. Polls begin with its end."""
    RESYNC = "resync"
    """A person asked for it."""
    MAPPING = "mapping"
    """What the connection makes of its records has changed. Orders that were never seen are left to the polls."""
    COMPARE = "compare"
    """It is time again: whatever the polls have missed is found."""
    POLL = "poll"
    """A person wants what changed to be read now."""


class Announce(StrEnum):
    """What is told of the orders that a sync reads."""

    CHANGES = "changes"
    SNAPSHOT = "snapshot"
    SILENT = "silent"


class SyncState(StrEnum):
    """How far a sync is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """A poll that somebody asked for met a failure; the next is due as ever."""


HOLDING = frozenset({SyncKind.FIRST})
"""Kinds for whose end the polls wait."""


@dataclass(frozen=True, slots=True)
class OpenSync:
    """A sync that has not ended. `begin` is the first day of its window (None: everything), `cursor` its own."""

    id: str
    kind: SyncKind
    announce: Announce
    begin: dt.date | None = None
    cursor: Cursor | None = None
    started: bool = False
    failures: int = 0

    @property
    def holds_polls(self) -> bool:
        """Whether polls wait for its end."""
        return self.kind in HOLDING


@dataclass(frozen=True, slots=True)
class Moved:
    """What a page of a sync came to: where the next begins, orders read, events told, records rejected, notices."""

    sync_id: str
    cursor: Cursor
    read: int
    told: int
    rejected: int
    notices: tuple[str, ...] = ()


def within(order: PurchaseOrder, begin: dt.date | None) -> bool:
    """Whether an order was issued, made or changed on or after `begin`; one that has no date is."""
    if begin is None:
        return True
    stamps = (order.remote_created_at, order.remote_updated_at)
    days = [order.order_date, *(stamp and stamp.astimezone(dt.UTC).date() for stamp in stamps)]
    known = [day for day in days if day is not None]
    return not known or max(known) >= begin


def first_kind(order: PurchaseOrder, begin: dt.date | None) -> ChangeKind:
    """How an order is told that changes tell of for the first time.

    One that was there before the window of the first sync began is no new order: a snapshot, not created.
    """
    born = order.remote_created_at.astimezone(dt.UTC).date() if order.remote_created_at else order.order_date
    return ChangeKind.SNAPSHOT if begin is not None and born is not None and born < begin else ChangeKind.CREATED


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a sync reads, and when it will be through at that pace; None where that cannot be said."""

    per_second: float | None = None
    ends_about: dt.datetime | None = None


def pace(read: int, total: int | None, started_at: dt.datetime | None, now: dt.datetime) -> Pace:
    """The pace of a sync that has read so many orders, of `total` if that is known."""
    seconds = 0.0 if started_at is None else (now - started_at).total_seconds()
    if seconds <= 0 or read <= 0:
        return Pace()
    per_second = read / seconds
    if total is None:
        return Pace(per_second)
    return Pace(per_second, now + dt.timedelta(seconds=max(0, total - read) / per_second))
