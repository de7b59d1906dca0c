"""How far one Protheus has been read, as the text that relay keeps: where a pass stands, or the newest stamp.

{"pass": ["D MG 01 ", "000123"], "since": "2026-11-02T12:00:00+00:00"}    in the middle of a full pass
{"stamp": "2026-11-02T12:00:00.123000+00:00"}                             between two polls by stamp
{"pass": null}                                                            between two full passes
"""

import datetime as dt
import json
from dataclasses import dataclass

from relay.connectors.protheus.walk import Raw
from relay.domain.connections import Cursor


@dataclass(frozen=True, slots=True)
class Reached:
    """A cursor's meaning.

    `after` is the last whole order of an unfinished pass, `since` the time from which stamps count once that pass is
    done, `stamp` the newest stamp read.
    """

    after: Raw | None = None
    since: dt.datetime | None = None
    stamp: dt.datetime | None = None

    def text(self) -> Cursor:
        """As relay keeps it."""
        if self.stamp:
            return Cursor(json.dumps({"stamp": self.stamp.isoformat()}))
        told = {"pass": self.after, "since": self.since.isoformat() if self.since else None}
        return Cursor(json.dumps(told, ensure_ascii=False))


def reached(cursor: Cursor | None) -> Reached:
    """What a kept cursor says; one that cannot be read says nothing, and everything is read again."""
    try:
        told = json.loads(cursor or "{}")
        after = told.get("pass")
        return Reached(
            after=(str(after[0]), str(after[1])) if after else None,
            since=_time(told.get("since")),
            stamp=_time(told.get("stamp")),
        )
    except (ValueError, TypeError, AttributeError, LookupError):
        return Reached()


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC) if text else None
