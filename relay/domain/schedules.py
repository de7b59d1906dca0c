"""Schedules: when a connection is polled next, and why then.

changes came        as fast as is allowed
quiet               a little slower with each quiet poll, down to the slowest
a poll takes long   no sooner than it took: an ERP is asked at most half of the time
closed              when the working hours begin
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.domain.hours import Hours
from relay.domain.spans import Span

SLOWER: Final = 1.25
"""How much longer each quiet poll makes the wait for the next."""
PATIENT: Final = 3
"""Quiet polls after which it slows down: people work in bursts."""
SPREAD: Final = 0.1
"""The largest part of a wait that chance adds, so that connections do not poll in step."""
SLOWEST_TIMES: Final = 5
"""How many times slower than its fastest a connection polls, unless it is told otherwise."""
COMPARE_EVERY: Final = timedelta(days=7)
OFF_PEAK: Final = ("Mon-Sun 00:00-06:00",)


def _no_number(value: object) -> object:
    if isinstance(value, (int, float)):
        raise ValueError("write a time span with its unit: PT15S, or 15s")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


Every = Annotated[Span, BeforeValidator(_no_number)]


class Schedule(BaseModel):
    """How a connection's polling adapts, when and how fast its ERP may be asked, how often all of it is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slowest: Every | None = Field(None, description="The longest wait between two polls (default: always the same).")
    compare_every: Every | None = Field(
        COMPARE_EVERY, description="How often all orders are read and compared, at night; null: never."
    )
    hours: Hours = Hours()
    calls_per_second: float | None = Field(
        None, gt=0, le=1000, description="Calls of the ERP per second, on average; null: what its connector says."
    )
    calls_at_once: int | None = Field(
        None, ge=1, le=64, description="Calls of the ERP at the same time; null: what its connector says."
    )
    answer_within: Every | None = Field(
        None, description="How long one call of the ERP may take; null: what its connector says."
    )

    def off_peak(self) -> Hours:
        """When all orders are compared: at night by the clock of its zone, or when it is open if it never is then."""
        night = self.hours.model_copy(update={"open": OFF_PEAK})
        return night if self._meets(night) else self.hours

    def _meets(self, night: Hours) -> bool:
        """Whether the ERP may be asked at some time of the night."""
        week = (datetime.fromisoformat("2026-01-05T00:00Z") + timedelta(minutes=15) * step for step in range(7 * 96))
        return any(night.is_open(moment) and self.hours.is_open(moment) for moment in week)


@dataclass(frozen=True, slots=True)
class Next:
    """When a connection is polled next, and why then, in words for people."""

    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What the wait for the next poll goes by: bounds, quiet polls in a row, how long the last one took."""

    fastest: timedelta
    slowest: timedelta | None
    floor: timedelta
    quiet: int
    took: timedelta


def interval(rhythm: Rhythm, dice: float) -> tuple[timedelta, str]:
    """How long to wait after a poll that went well, and why so long."""
    fastest = max(rhythm.fastest, rhythm.floor)
    slowest = max(fastest, rhythm.slowest or fastest)
    slowed = max(0, rhythm.quiet - PATIENT)
    # Beyond this the power is larger than any wait: it is not worked out.
    factor = SLOWER ** min(slowed, 100)
    wait = min(slowest.total_seconds(), fastest.total_seconds() * factor)
    if rhythm.took.total_seconds() > wait:
        why, wait = f"the last poll took {rhythm.took.total_seconds():.1f} s", rhythm.took.total_seconds()
    elif slowed and slowest > fastest:
        why = f"quiet for {rhythm.quiet} polls"
    else:
        why = "as fast as it is set"
    return timedelta(seconds=wait * (1 + SPREAD * dice)), why
