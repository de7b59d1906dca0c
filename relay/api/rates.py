"""Rates: how often one caller may call, so that none takes the others' share. Counted per process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from relay.domain.pace import Bucket, take

BURST = 2
"""Seconds' worth of calls that may come at once after a quiet time."""
KEPT = 10_000
"""Callers remembered; those that have called least lately make room."""


@dataclass
class Rates:
    """A token bucket per caller, with `per_second` calls. `clock` counts seconds."""

    per_second: float
    clock: Callable[[], float]
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def wait(self, caller: str) -> int:
        """Take one call: 0, or the seconds to wait before this caller's next one; nothing is taken then."""
        now, burst = self.clock(), max(1, ceil(self.per_second * BURST))
        before = self._buckets.pop(caller, Bucket(float(burst), now))
        after, seconds = take(before, per_second=self.per_second, burst=burst, now=now)
        self._buckets[caller] = before if seconds else after
        if len(self._buckets) > KEPT:
            del self._buckets[next(iter(self._buckets))]
        return ceil(seconds)
