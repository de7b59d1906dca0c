"""How fast and how often an ERP may be asked: decisions as values, with time and chance given."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

TRIES: Final = 3
"""How often one read is tried before its failure is told."""
LONGEST_WAIT: Final = 20.0
"""Seconds that one call waits for a retry; whoever asks for more is answered by the connection's schedule."""

READING: Final = "relay.reading"
"""A request with this extension (httpx) set to True only reads, whatever its method: it may be sent again."""

going_first: Final[ContextVar[bool]] = ContextVar("going_first", default=False)
"""Whether this task's calls of an ERP go before those of others: commands before reading."""

_BLIPS: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: how many calls may go at once after a quiet time, and when that was counted (seconds)."""

    tokens: float
    at: float


def take(bucket: Bucket, *, per_second: float, burst: int, now: float) -> tuple[Bucket, float]:
    """Take one token, on credit if need be: the bucket after it, and how many seconds to wait before the call."""
    refilled = min(float(burst), bucket.tokens + (now - bucket.at) * per_second)
    left = refilled - 1
    return Bucket(left, now), max(0.0, -left / per_second)


def retry_in(*, tries: int, status: int | None, retry_after: float | None, dice: float) -> float | None:
    """Seconds until a read is tried again, or None: tell the failure now.

    `tries` counts those made, `status` is None when there was no answer, `dice` is in [0, 1). The ERP's own wish is
    obeyed when it is short, and handed up when it is long.
    """
    if tries >= TRIES or (status is not None and status not in _BLIPS):
        return None
    if retry_after is not None:
        return retry_after if retry_after <= LONGEST_WAIT else None
    return 2.0 ** (tries - 1) * (0.5 + dice / 2)
