"""When to try again, and what an answer means.

    answer -> classify -> DELIVERED | GONE | DEAD | RETRY -> next_attempt -> a time, or None: the schedule is used up

Time and chance are arguments. `dice` is a number from 0 to 1, thrown anew for each decision.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from relay.domain.deliveries import Answer, Outcome, Wish
from relay.domain.endpoints import EndpointOptions, Ordering

SCHEDULE: tuple[timedelta, ...] = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=8),
    timedelta(hours=12),
    timedelta(hours=24),
)
"""The wait before each attempt, first to last: twelve attempts over about 52 hours."""

JITTER = 0.25
"""The largest part of a wait that chance adds or takes."""
FLOOR = timedelta(seconds=1)
LONGEST_RETRY_AFTER = timedelta(hours=24)

_GONE, _NOT_IMPLEMENTED = 410, 501
_AGAIN = frozenset({408, 425, 429})
_LONGEST_VALUE = 64


def classify(answer: Answer) -> Outcome:
    """What an answer means for its delivery.

    | answer                                                           | outcome                     |
    |------------------------------------------------------------------|-----------------------------|
    | any error, also after a status                                   | RETRY                       |
    | 2xx                                                              | DELIVERED                   |
    | 410, or `webhook-delivery: disable`                              | GONE: the endpoint disabled |
    | 501, or `webhook-delivery: abort-message`                        | DEAD                        |
    | 408, 425, 429, other 5xx                                         | RETRY                       |
    | 3xx (never followed), other 4xx                                  | RETRY, fewer: see `most`    |

    A 2xx whose body broke off is tried again: a second webhook has the same id, a lost one never comes back. Most 4xx,
    and addresses that our own rules forbid (error "policy"), are somebody's mistake and are mended within the schedule,
    so they do not cost the customer an event at once.
    """
    if answer.error:
        return Outcome.RETRY
    status = answer.status or 0
    if 200 <= status <= 299:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        return Outcome.DELIVERED
    if status == _GONE or answer.wish is Wish.DISABLE:
        return Outcome.GONE
    return Outcome.DEAD if status == _NOT_IMPLEMENTED or answer.wish is Wish.ABORT else Outcome.RETRY


def refused(answer: Answer) -> bool:
    """Whether the receiver was there and did not want this event: 3xx and 4xx, but not "try again" (408, 425, 429)."""
    return not answer.error and 300 <= (answer.status or 0) <= 499 and answer.status not in _AGAIN  # noqa: PLR2004 - RFC 9110 section 15


def most_attempts(answer: Answer, options: EndpointOptions) -> int:
    """How often an event may be tried in all, when the latest try was answered so."""
    limits = [len(schedule_of(options))]
    if options.ordering is Ordering.SKIP_AFTER:
        limits.append(options.skip_after)
    if refused(answer):
        limits.append(options.refused_attempts)
    return min(limits)


def schedule_of(options: EndpointOptions) -> Sequence[timedelta]:
    """The waits before each attempt of an endpoint."""
    return options.schedule or SCHEDULE


def next_attempt(  # noqa: PLR0913 - what the decision rests on
    *,
    attempts: int,
    now: datetime,
    dice: float,
    retry_after: float | None = None,
    schedule: Sequence[timedelta] = SCHEDULE,
    most: int | None = None,
) -> datetime | None:
    """When to try again after `attempts` tries, or None when the schedule, or `most`, is used up.

    `retry_after` (seconds) is the receiver's "not before": it makes the wait longer, up to 24 hours, and never shorter
    than the schedule's, or a receiver that always says "1" would use up twelve attempts in as many seconds.
    """
    if attempts >= len(schedule) or (most is not None and attempts >= most):
        return None
    if attempts <= 0:
        return now + schedule[0]
    wait = max(FLOOR, schedule[attempts] * (1 + JITTER * (2 * dice - 1)))
    if retry_after is not None:
        wait = max(wait, timedelta(seconds=_bounded(retry_after)))
    return now + wait


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 section 10.2.3), from 0 to 24 hours; None when unreadable.

    Both forms are read: seconds, and the three kinds of HTTP date. A date in the past gives 0.
    """
    text = value.strip()
    if not text.isascii() or len(text) > _LONGEST_VALUE:
        return None
    if text.isdigit():
        return _bounded(float(text))
    try:
        date = parsedate_to_datetime(text)
        # The asctime form names no zone: every HTTP date is in UTC.
        return _bounded(((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())
    except (ValueError, OverflowError):
        return None


def backoff(failures: int, dice: float, *, base: timedelta, cap: timedelta) -> timedelta:
    """The wait of a connection after `failures` polls in a row failed: doubling from `base`, never above `cap`.

    Chance only shortens it (by up to a quarter), so that connections at the cap spread out too.
    """
    # 2^64 is past any cap; the bound keeps the arithmetic finite.
    doubled = base.total_seconds() * 2.0 ** min(max(failures - 1, 0), 64)
    return timedelta(seconds=min(doubled, cap.total_seconds()) * (1 - JITTER * dice))


def _bounded(seconds: float) -> float:
    # In this order a NaN ends as 0.
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER.total_seconds())
