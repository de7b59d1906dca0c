"""How far one RM has been read, as the text that relay keeps: where a pass stands, or the newest change.

{"pass": [200, [1, 4711]], "since": "2026-11-03T10:00:01"}    in the middle of a pass: records passed, key of the last
{"stamp": "2026-11-03T10:00:01"}                              between two polls by stamp
{"pass": null, "since": null}                                 between two full passes
"""

import datetime as dt
import json
from dataclasses import dataclass

from relay.connectors.rm.walk import Place
from relay.domain.connections import Cursor


@dataclass(frozen=True, slots=True)
class Reached:
    """A cursor's meaning; times are local ones of RM.

    `place` is where an unfinished pass stands, `since` the newest change when it began, `stamp` the newest change read.
    """

    place: Place | None = None
    since: dt.datetime | None = None
    stamp: dt.datetime | None = None

    def text(self) -> Cursor:
        """As relay keeps it."""
        if self.stamp:
            return Cursor(json.dumps({"stamp": self.stamp.isoformat()}))
        place = [self.place.position, self.place.last] if self.place else None
        return Cursor(json.dumps({"pass": place, "since": self.since.isoformat() if self.since else None}))


def reached(cursor: Cursor | None) -> Reached:
    """What a kept cursor says; one that cannot be read says nothing, and everything is read again."""
    try:
        told = json.loads(cursor or "{}")
        place = told.get("pass")
        return Reached(
            place=Place(int(place[0]), tuple(int(part) for part in place[1])) if place else None,
            since=_time(told.get("since")),
            stamp=_time(told.get("stamp")),
        )
    except (ValueError, TypeError, AttributeError, LookupError):
        return Reached()


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).replace(tzinfo=None) if text else None
