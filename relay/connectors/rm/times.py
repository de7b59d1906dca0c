"""RM's times: local times of its server, without a zone, and days that come with a midnight.

A time is compared with others as RM wrote it and told in UTC. Where the clock is put back, one local time is two: what
is then looked for begins that much earlier.
"""

import datetime as dt
import re
from typing import Any, Final
from zoneinfo import ZoneInfo

from relay.connectors.kit.readers import date_of, text_of

_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?")
_NEVER: Final = "0001-01-01"
"""What .NET writes for a date that was never set."""
LONG_AGO: Final = dt.datetime(1900, 1, 1)  # noqa: DTZ001 - a local time


def day_of(value: Any) -> dt.date | None:
    """The day of a date or time; blank or never set is null. Raises ValueError."""
    text = (text_of(value) or "").strip()
    if text.startswith(_NEVER):
        return None
    return date_of(text[:10] if _TIME.fullmatch(text) else text)


def local_of(value: Any, zone: str) -> dt.datetime | None:
    """A time as RM's own clock shows it; blank or never set is null. Raises ValueError."""
    text = (text_of(value) or "").strip()
    if not text or text.startswith(_NEVER):
        return None
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError("expected a time (YYYY-MM-DDThh:mm:ss)")
    day, time, fraction, offset = match.groups()
    try:
        told = dt.datetime.fromisoformat(f"{day}T{time}{(fraction or '')[:7]}{offset or ''}")
        return told if told.tzinfo is None else told.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError("no such time") from None


def utc_of(local: dt.datetime | None, zone: str) -> dt.datetime | None:
    """A local time as an aware one, in UTC; of two possible ones the earlier. Raises ValueError."""
    try:
        return local.replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC) if local else None
    except OverflowError:
        raise ValueError("no such time") from None


def before(local: dt.datetime, overlap: dt.timedelta, zone: str) -> dt.datetime:
    """The local time to begin at so that nothing of the last `overlap` is missed, even if the clock was put back."""
    begin = max(local, LONG_AGO + overlap) - overlap
    first, last = (moment.replace(tzinfo=ZoneInfo(zone)).utcoffset() for moment in (begin, local.replace(fold=1)))
    put_back = max(dt.timedelta(0), (first or dt.timedelta(0)) - (last or dt.timedelta(0)))
    return begin - put_back
