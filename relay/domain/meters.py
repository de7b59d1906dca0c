"""Two meters in constant memory: what a rate still allows, and how the last minute went. `now` is in seconds."""

from typing import Final

BURST_SECONDS: Final = 0.1
"""After a quiet time so much of a second's rate may go at once: more would break the rate that was agreed."""

_SLOT_SECONDS, _SLOTS = 10, 6


class TokenBucket:
    """A token per attempt, refilled at a rate; it holds at least one."""

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_SECONDS)
        self._tokens, self._at = self._burst, now

    def tokens(self, now: float) -> float:
        """How many there are; an attempt needs a whole one."""
        return min(self._burst, self._tokens + (now - self._at) * self._per_second)

    def take(self, now: float) -> None:
        """Take one."""
        self._tokens, self._at = self.tokens(now) - 1, now

    def refill(self, now: float) -> float:
        """Seconds until there is a whole one."""
        return max(0.0, 1 - self.tokens(now)) / self._per_second


class LastMinute:
    """How many answers of the last 50 to 60 seconds there were, and how many bad ones, in a ring of slots."""

    def __init__(self) -> None:
        self._slots = [(0, 0, 0)] * _SLOTS

    def count(self, now: float, *, bad: bool) -> None:
        """One answer."""
        number = int(now // _SLOT_SECONDS)
        slot, answers, bads = self._slots[number % _SLOTS]
        if slot != number:
            answers = bads = 0
        self._slots[number % _SLOTS] = (number, answers + 1, bads + bad)

    def seen(self, now: float) -> tuple[int, int]:
        """Answers, and the bad ones among them."""
        oldest = int(now // _SLOT_SECONDS) - _SLOTS + 1
        recent = [each for each in self._slots if each[0] >= oldest]
        return sum(answers for _, answers, _ in recent), sum(bads for _, _, bads in recent)
