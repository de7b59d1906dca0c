"""Replays: events that are sent again to one endpoint, and which of them go next.

    criteria -> matches, by position -> chosen: whole orders, up to here -> put in line

An order's events are put in line all at once, so a receiver hears of it again from the first to the last, and of what
is new after that. Orders that are being sent just now are left for the next time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from relay.domain.admission import OrderRef


class ReplayState(StrEnum):
    """Whether events are being put in line."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    """All are in line; some may wait there for their turn."""
    CANCELLED = "cancelled"


class Past(StrEnum):
    """What became of an event at an endpoint before. What still waits is never sent again: it is sent anyway."""

    DELIVERED = "delivered"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    NEVER = "never"
    """It was never sent there, for example because the endpoint is younger; its filters of today decide."""


class Criteria(BaseModel):
    """Which events are sent again; what is not given narrows nothing. Times are those of the change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: AwareDatetime | None = None
    until: AwareDatetime | None = Field(None, description="Before this time.")
    order: str | None = Field(None, description="Remote id.")
    event_types: tuple[str, ...] = ()
    connection: str | None = Field(None, description="Id of a connection.")
    statuses: tuple[Past, ...] = Field(tuple(Past), min_length=1)


@dataclass(frozen=True, slots=True)
class Match:
    """One event to be sent again, in the lane it had or will have."""

    position: int
    order: OrderRef
    lane: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The orders whose events are put in line now, and the position up to which nothing is left then."""

    orders: frozenset[OrderRef]
    reached: int
    all: bool
    """Nothing is left at all."""


def chosen(matches: Sequence[Match], *, busy: Collection[str], most: int, end: int, last: bool) -> Chosen:
    """The next orders: about `most` events, none of a lane that is `busy`, the earliest first.

    `matches` are all up to the position `end`, in order; `last` says that nothing follows there.
    """
    taken: set[OrderRef] = set()
    waits = {each.order for each in matches if each.lane in busy}
    events, first_left = 0, None
    for each in matches:
        if each.order in taken or (each.order not in waits and events < most):
            taken.add(each.order)
            events += 1
        else:
            waits.add(each.order)
            first_left = each.position if first_left is None else first_left
    if first_left is not None:
        return Chosen(frozenset(taken), first_left - 1, all=False)
    return Chosen(frozenset(taken), end, all=last)
