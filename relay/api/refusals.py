"""Refusals: whoever shows wrong tokens again and again is answered without a look at the database.

Counted per client address and endpoint: behind one proxy everybody has one address, and a receiver with an old token
must not lock out the others; nor must a stranger who knows an endpoint's id lock out its receiver. Tokens cannot be
guessed; this only bounds the work.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

MOST = 10
"""Failures before the first wait."""
EACH = 6.0
"""Seconds until one more is allowed."""
KEPT = 10_000
"""Pairs remembered; the oldest make room."""

Who = tuple[str, str]


@dataclass
class Refusals:
    """The failures of each client address and endpoint, forgotten one by one. `clock` counts seconds."""

    clock: Callable[[], float]
    _clear: dict[Who, float] = field(default_factory=dict)
    """When the last of the failures is forgotten."""

    def wait(self, who: Who) -> int:
        """Seconds until this one may try again; 0: now."""
        over = self._clear.get(who, 0.0) - self.clock() - (MOST - 1) * EACH
        return max(0, ceil(over))

    def count(self, who: Who) -> None:
        """One more failure."""
        self._clear[who] = max(self._clear.pop(who, 0.0), self.clock()) + EACH
        if len(self._clear) > KEPT:
            del self._clear[next(iter(self._clear))]
