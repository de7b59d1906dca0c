"""How many attempts one endpoint may have in flight now: as many as its receiver bears.

    closed --(mostly bad, or many bad in a row)--> open --(after a wait)--> half-open: one probe, a real delivery
      ^                                             ^                          | bad: twice the wait
      |                                             +--------------------------+
      +---------- answered: up again from one at a time -----------------------+

While closed, the limit doubles per round of good answers until the first trouble, then grows by one per round, and
halves on trouble. A token bucket keeps to the rate that was agreed. A delivery that waits here spends no attempt.
`now` is monotonic, in seconds; `dice` is a number from 0 to 1, thrown anew for each answer.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.domain.deliveries import Answer
from relay.domain.meters import LastMinute, TokenBucket

START: Final = 4
"""Attempts at once to begin with."""
SLOW_PART: Final = 1 / 3
"""A success that took more of the deadline than this is a sign of too much work."""
FEWEST_ANSWERS: Final = 20
"""In the last minute, before their share of bad ones is judged."""
BAD_SHARE: Final = 0.5
BAD_IN_A_ROW: Final = 10
"""Open the breaker however slowly they came: a receiver that hangs gives too few answers for a share."""
UNREACHABLE_WEIGHS: Final = 2
"""Five unreachable in a row are enough: nothing of the receiver was seen at all."""
FIRST_PROBE: Final = 5.0
LONGEST_PROBE: Final = 300.0
PROBE_SUSPENDED: Final = 3600.0
JITTER: Final = 0.25
LONGEST_PAUSE: Final = 300.0
"""Of the whole endpoint, by Retry-After with 408, 429 or 503; what is beyond holds only the delivery."""

_MOST_DOUBLINGS = 16
_TICK = 0.001
"""Added to each wait: rounding must not end it a hair too early."""

_SUCCESS, _SERVER_ERRORS = range(200, 300), range(500, 600)
_OVERLOAD = frozenset({408, 429, 503})
_NOT_IMPLEMENTED = 501
_NOT_REACHED = frozenset({"resolve", "refused", "tls", "policy", "auth", "proxy"})


class Signal(StrEnum):
    """What an answer says about its receiver (for its delivery see `retry.classify`)."""

    FINE = "fine"
    SLOW = "slow"
    """Delivered, but late: fewer at once, and nothing worse."""
    REFUSED = "refused"
    """It is there, and does not want this event, or not in this way."""
    OVERLOAD = "overload"
    BROKEN = "broken"
    UNREACHABLE = "unreachable"


_BAD = frozenset({Signal.OVERLOAD, Signal.BROKEN, Signal.UNREACHABLE})


class BreakerState(StrEnum):
    """Whether attempts are made: as many as the limit says, none, or a probe that is in flight."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may never be exceeded, whatever the receiver bears."""

    at_once: int
    per_second: float | None = None


def signal(answer: Answer, seconds: float, deadline: float) -> Signal:
    """What an answer that took `seconds` says about its receiver.

    | answer                                                 | signal      |
    |--------------------------------------------------------|-------------|
    | error resolve, refused, tls, policy, auth, proxy       | UNREACHABLE |
    | any other error (timeout, reset, protocol)             | BROKEN      |
    | 2xx; slower than a third of the deadline               | FINE; SLOW  |
    | 408, 429, 503                                          | OVERLOAD    |
    | other 3xx and 4xx, and 501                             | REFUSED     |
    | other 5xx, and what is no final status                 | BROKEN      |
    """
    status = answer.status or 0
    if answer.error:
        return Signal.UNREACHABLE if answer.error in _NOT_REACHED else Signal.BROKEN
    if status in _SUCCESS:
        return Signal.SLOW if seconds > deadline * SLOW_PART else Signal.FINE
    if status in _OVERLOAD:
        return Signal.OVERLOAD
    broken = status < _SUCCESS.stop or (status in _SERVER_ERRORS and status != _NOT_IMPLEMENTED)
    return Signal.BROKEN if broken else Signal.REFUSED


class Flow:
    """One endpoint's flow. Whoever sends asks for `room`, and reports each attempt when it starts and when it ends."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._most = limits.at_once
        self._concurrency = _Concurrency(limits.at_once)
        self._bucket = TokenBucket(limits.per_second, now) if limits.per_second else None
        self._last_minute = LastMinute()
        self._state = BreakerState.CLOSED
        self._in_flight = self._repeated = 0
        self._in_a_row = self._failed_probes = 0
        self._not_before = now
        self._suspended = False

    @property
    def in_flight(self) -> int:
        """Attempts that started and have not ended."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """How many attempts may be in flight at present; after a cut there may still be more."""
        return self._concurrency.limit if self._state is BreakerState.CLOSED else 1

    @property
    def state(self) -> BreakerState:
        """The breaker's."""
        return self._state

    def room(self, now: float) -> int:
        """How many attempts may start now."""
        if now < self._not_before:
            return 0
        free = max(0, self.limit - self._in_flight)
        return min(free, int(self._bucket.tokens(now))) if self._bucket else free

    def retry_room(self, room: int) -> int:
        """How many of `room` may be repeated attempts while fresh ones wait: half of the slots, and at least one."""
        return max(0, min(room, max(1, self.limit // 2) - self._repeated))

    def wait(self, now: float) -> float | None:
        """Seconds until there is room without an answer; None: there is room, or only an answer can make some."""
        if self.limit <= self._in_flight or self.room(now):
            return None
        refill = self._bucket.refill(now) if self._bucket else 0.0
        return max(self._not_before - now, refill) + _TICK

    def started(self, *, repeated: bool, now: float) -> None:
        """An attempt goes out, for which there was room; `repeated` if it is not its delivery's first."""
        self._in_flight += 1
        self._repeated += repeated
        if self._bucket:
            self._bucket.take(now)
        if self._state is BreakerState.OPEN:
            self._state = BreakerState.HALF_OPEN

    def ended(
        self, signal: Signal, *, repeated: bool, now: float, dice: float, retry_after: float | None = None
    ) -> None:
        """An attempt is over. `retry_after` (seconds) holds up the whole endpoint when the receiver is overloaded."""
        busy = self._in_flight
        self._in_flight -= 1
        self._repeated -= repeated
        if signal is Signal.OVERLOAD and retry_after is not None:
            self._not_before = max(self._not_before, now + min(retry_after, LONGEST_PAUSE))
        if self._state is BreakerState.CLOSED:
            self._concurrency.adapt(signal, busy)
            self._judge(signal, now, dice)
        elif self._state is BreakerState.HALF_OPEN:
            self._probed(signal, now, dice)
        # While it is open, what ends began before, and tells nothing new.

    def suspend(self, now: float) -> None:
        """The endpoint failed for days: from now on only a probe an hour, the first soon, until one is taken."""
        self._suspended = True
        if self._state is not BreakerState.HALF_OPEN:
            self._state = BreakerState.OPEN
            self._not_before = max(self._not_before, now + FIRST_PROBE)

    def _judge(self, signal: Signal, now: float, dice: float) -> None:
        bad = signal in _BAD
        self._last_minute.count(now, bad=bad)
        weighs = UNREACHABLE_WEIGHS if signal is Signal.UNREACHABLE else 1
        self._in_a_row = self._in_a_row + weighs if bad else 0
        if bad and (self._in_a_row >= BAD_IN_A_ROW or self._mostly_bad(now)):
            self._open(now, dice)

    def _mostly_bad(self, now: float) -> bool:
        answers, bad = self._last_minute.seen(now)
        return answers >= FEWEST_ANSWERS and bad >= BAD_SHARE * answers

    def _probed(self, signal: Signal, now: float, dice: float) -> None:
        # A receiver that took nothing for days, and refuses once more, is still not to be sent what waits.
        if signal in _BAD or (self._suspended and signal is Signal.REFUSED):
            self._failed_probes = min(self._failed_probes + 1, _MOST_DOUBLINGS)
            self._open(now, dice)
            return
        self._state = BreakerState.CLOSED
        self._concurrency = _Concurrency(self._most, start=1)
        self._last_minute = LastMinute()
        self._in_a_row = self._failed_probes = 0
        self._suspended = False

    def _open(self, now: float, dice: float) -> None:
        self._state = BreakerState.OPEN
        wait = PROBE_SUSPENDED if self._suspended else min(FIRST_PROBE * 2.0**self._failed_probes, LONGEST_PROBE)
        self._not_before = max(self._not_before, now + wait * (1 + JITTER * (2 * dice - 1)))


class _Concurrency:
    """The limit as the answers form it (additive increase, multiplicative decrease), from 1 to `most`."""

    def __init__(self, most: int, start: int = START) -> None:
        self.limit = min(start, most)
        self._most = most
        self._doubling = True
        self._good = self._peak = 0
        self._old = 0

    def adapt(self, signal: Signal, busy: int) -> None:
        """After an answer; `busy` attempts were in flight, with this one."""
        if self._old:
            # As many answers as were in flight at the cut belong to the load before it.
            self._old -= 1
        elif signal in _BAD:
            self._cut(1, busy)
        elif signal is Signal.SLOW and self.limit > START:
            # A receiver that is always slow but keeps its deadline is not brought down to one at a time.
            self._cut(START, busy)
        elif signal is not Signal.REFUSED:
            self._grow(busy)

    def _cut(self, floor: int, busy: int) -> None:
        self.limit = max(floor, self.limit // 2)
        self._doubling = False
        self._good, self._peak, self._old = 0, 0, busy - 1

    def _grow(self, busy: int) -> None:
        self._good, self._peak = self._good + 1, max(self._peak, busy)
        if self._good >= self.limit:
            # A round of a few attempts at a time does not show that more are borne.
            if 2 * self._peak >= self.limit:
                self.limit = min(self._most, 2 * self.limit if self._doubling else self.limit + 1)
            self._good = self._peak = 0
