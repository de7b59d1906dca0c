"""Hours: when an ERP may be asked, as its customer's clock on the wall shows it.

    open   Mon-Fri 07:00-20:00           only then; none given: always
    closed Sun 00:00-04:00               never then, whatever is open
    zone   America/Sao_Paulo             whose clock: time zones by name, so that summer time is theirs to know

A window may end after midnight (22:00-06:00): it belongs to the day on which it begins.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_PER_DAY = 24 * 60
LOOK_AHEAD = 9
"""Days that are looked through: a week, and some more for the clock being moved."""
STEP = dt.timedelta(minutes=15)
"""No zone moves its clock at another time than a quarter of an hour."""
MOST_WINDOWS = 50

_WINDOW = re.compile(r"(?:(?P<days>[A-Za-z,-]+)\s+)?(?P<from>\d\d:\d\d)\s*-\s*(?P<to>\d\d:\d\d)")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


def _written(text: str) -> str:
    """The one spelling of a window. Raises ValueError."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"write {text!r} like Mon-Fri 07:00-20:00, or without days for every day")
    days = ",".join(_days(part) for part in (found["days"] or "Mon-Sun").split(","))
    begin, end = _minutes(found["from"]), _minutes(found["to"])
    if begin in {end, MINUTES_PER_DAY}:
        raise ValueError(f"{text!r} has no length: a whole day is 00:00-24:00")
    return f"{days} {found['from']}-{found['to']}"


def _days(text: str) -> str:
    names = [name.strip().capitalize() for name in text.split("-")]
    if not 1 <= len(names) <= 2 or not set(names) <= set(DAYS):  # noqa: PLR2004 - from and to
        raise ValueError(f"{text!r} is no day: the days are {', '.join(DAYS)}")
    return "-".join(names)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > MINUTES_PER_DAY:  # noqa: PLR2004 - a clock
        raise ValueError(f"{text!r} is no time of a day: 00:00 to 24:00")
    return hours * 60 + minutes


def _known_zone(name: str) -> str:
    unknown = f"there is no time zone {name[:60]!r}: write it like America/Sao_Paulo, or UTC"
    if not _ZONE.fullmatch(name):
        # By its name only: a path would be read from the disk.
        raise ValueError(unknown)
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(unknown) from None
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]
"""A time zone by its name."""
Window = Annotated[str, AfterValidator(_written)]
Windows = Annotated[tuple[Window, ...], Field(max_length=MOST_WINDOWS)]


class Hours(BaseModel):
    """When an ERP may be asked: `open` windows (none: always) less the `closed` ones, by the clock of `zone`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open: Windows = ()
    closed: Windows = ()
    zone: Zone = "UTC"

    @property
    def always(self) -> bool:
        """Whether there is no time at which the ERP may not be asked."""
        return not self.open and not self.closed

    def is_open(self, now: dt.datetime) -> bool:
        """Whether the ERP may be asked now."""
        if self.always:
            return True
        wall = now.astimezone(ZoneInfo(self.zone))
        return (not self.open or _in(self.open, wall)) and not _in(self.closed, wall)

    def next_open(self, now: dt.datetime) -> dt.datetime | None:
        """When the ERP may be asked: `now`, or the first moment after it; None: never."""
        return next((moment for moment in self._moments(now) if self.is_open(moment)), None)

    def _moments(self, now: dt.datetime) -> Iterator[dt.datetime]:
        """Now, and every moment at which a window may begin or end, in order."""
        yield now
        zone = ZoneInfo(self.zone)
        today = dt.datetime.combine(now.astimezone(zone).date(), dt.time())
        edges = {dt.timedelta(minutes=edge) for window in (*self.open, *self.closed) for edge in _edges(window)}
        walls = [today + dt.timedelta(days=day) + edge for day in range(-1, LOOK_AHEAD) for edge in edges]
        # Twice where the clock is set back; where it is set forward, a quarter of an hour finds the next time.
        moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for wall in walls for fold in (0, 1)}
        midnight = dt.datetime.combine(now.astimezone(dt.UTC).date(), dt.time(), dt.UTC)
        moments |= {midnight + step * STEP for step in range(LOOK_AHEAD * 96)}
        yield from sorted(moment for moment in moments if moment > now)


@cache
def _edges(window: str) -> tuple[int, int]:
    """Begin and end in minutes from the midnight of its day; the end may lie in the next."""
    _, _, times = window.rpartition(" ")
    begin, end = (_minutes(each) for each in times.split("-"))
    return begin, end if end > begin else end + MINUTES_PER_DAY


@cache
def _weekdays(window: str) -> frozenset[int]:
    found: set[int] = set()
    for part in window.partition(" ")[0].split(","):
        first, _, last = part.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, (end if end >= begin else end + 7) + 1)}
    return frozenset(found)


def _in(windows: Sequence[str], wall: dt.datetime) -> bool:
    minutes = wall.hour * 60 + wall.minute
    for window in windows:
        begin, end = _edges(window)
        days = _weekdays(window)
        if wall.weekday() in days and begin <= minutes < end:
            return True
        if (wall.weekday() - 1) % 7 in days and minutes + MINUTES_PER_DAY < end:
            return True
    return False
