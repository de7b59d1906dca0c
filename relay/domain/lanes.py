"""Lanes: which deliveries of one endpoint may go now.

    offer -> waiting -> take -> under way -> finish -> the lane's next

A lane is one purchase order's way to one endpoint: first in first out, never two under way. The store keeps the lanes
and offers only heads that are due, so this holds a window of the most urgent ones; a refused delivery goes back to the
store and is offered again when it is due. Repeated attempts never take more than half of the window, so refused orders
cannot keep new ones out, and all lanes of a worker share one limit of bytes.
"""

import heapq
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from relay.domain.deliveries import Delivery, DeliveryId

if TYPE_CHECKING:
    from datetime import datetime

_position = attrgetter("position")


@dataclass(slots=True)
class Memory:
    """Bytes of bodies that the lanes of one worker hold together."""

    most: int
    used: int = 0

    def room(self) -> int:
        """How many bytes more may be held."""
        return max(0, self.most - self.used)


class Lanes:
    """What one endpoint's runner holds in memory: at most `window` deliveries."""

    def __init__(self, window: int, memory: Memory) -> None:
        if window < 1:
            raise ValueError("a window holds at least one delivery")
        self._window = window
        self._memory = memory
        self._bytes = 0
        self._repeated = 0
        self._ids: set[DeliveryId] = set()
        self._waiting: dict[str, list[Delivery]] = {}
        self._under_way: dict[str, Delivery] = {}
        self._fresh_heads = _Heads()
        self._repeated_heads = _Heads()

    @property
    def held(self) -> int:
        """How many deliveries are in memory, waiting or under way."""
        return len(self._ids)

    @property
    def ids(self) -> frozenset[DeliveryId]:
        """Those that are in memory."""
        return frozenset(self._ids)

    @property
    def under_way(self) -> int:
        """How many were taken and are not finished."""
        return len(self._under_way)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be taken."""
        return len(self._ids) == len(self._under_way)

    def room(self) -> int:
        """How many more may be offered."""
        return self._window - self.held

    def bytes_room(self) -> int:
        """How many bytes of bodies may be offered; one delivery is held however large it is."""
        return self._memory.room()

    def offer(self, deliveries: Iterable[Delivery]) -> int:
        """Hold these due heads, and say how many were new.

        Ids already held are ignored, and what finds no room stays the store's. Several of one lane go by position.
        """
        before = self.held
        full: set[str] = set()
        # By position, and nothing more of a lane that was refused: a later one must not be held without it.
        for delivery in sorted(deliveries, key=_position):
            if delivery.id in self._ids or delivery.lane in full:
                continue
            if self._fits(delivery):
                self._hold(delivery)
            else:
                full.add(delivery.lane)
        return self.held - before

    def take(self, most: int, repeated: int) -> list[Delivery]:
        """Up to `most` that go now, longest due first, one of each lane.

        Only `repeated` of them were attempted before, unless nothing else waits.
        """
        taken: list[Delivery] = []
        while len(taken) < most and (heads := self._next(repeated)) is not None:
            lane = heads.pop()
            waiting = self._waiting[lane]
            head = self._under_way[lane] = waiting.pop(0)
            if not waiting:
                del self._waiting[lane]
            repeated -= head.attempts > 0
            taken.append(head)
        return taken

    def finish(self, delivery: Delivery) -> None:
        """Its attempt is recorded, or was not made: its lane goes on."""
        taken = self._under_way.get(delivery.lane)
        if taken is None or taken.id != delivery.id:
            raise ValueError(f"delivery {delivery.id} is not under way")
        del self._under_way[delivery.lane]
        self._ids.remove(taken.id)
        self._count(taken, -1)
        self._show(delivery.lane)

    def close(self) -> None:
        """Give back the bytes; nothing may be asked of these lanes any more."""
        self._memory.used -= self._bytes
        self._bytes = 0

    def _fits(self, delivery: Delivery) -> bool:
        if len(self._ids) >= self._window or (delivery.attempts and self._repeated >= max(1, self._window // 2)):
            return False
        return not self._ids or len(delivery.body) <= self._memory.room()

    def _hold(self, delivery: Delivery) -> None:
        self._ids.add(delivery.id)
        self._count(delivery, 1)
        waiting = self._waiting.setdefault(delivery.lane, [])
        insort(waiting, delivery, key=_position)
        if waiting[0] is delivery:
            self._show(delivery.lane)

    def _count(self, delivery: Delivery, sign: int) -> None:
        size = sign * len(delivery.body)
        self._repeated += sign * (delivery.attempts > 0)
        self._bytes += size
        self._memory.used += size

    def _show(self, lane: str) -> None:
        if lane not in self._waiting or lane in self._under_way:
            return
        head = self._waiting[lane][0]
        heads = self._repeated_heads if head.attempts else self._fresh_heads
        heads.push(head)
        if len(heads.entries) > 2 * self._window:
            heads.entries = [each for each in heads.entries if self._goes(each)]
            heapq.heapify(heads.entries)

    def _next(self, repeated: int) -> "_Heads | None":
        """The heads among which the longest due one is that may go."""
        fresh, again = self._first(self._fresh_heads), self._first(self._repeated_heads)
        if fresh is None or again is None:
            return self._fresh_heads if fresh else self._repeated_heads if again else None
        return self._repeated_heads if repeated > 0 and again < fresh else self._fresh_heads

    def _first(self, heads: "_Heads") -> "tuple[datetime, int, str] | None":
        while heads.entries and not self._goes(heads.entries[0]):
            heapq.heappop(heads.entries)
        return heads.entries[0] if heads.entries else None

    def _goes(self, entry: "tuple[datetime, int, str]") -> bool:
        """Whether it is still the head of its lane: entries of former heads are passed over."""
        _, position, lane = entry
        return lane not in self._under_way and lane in self._waiting and self._waiting[lane][0].position == position


class _Heads:
    """Heads that wait, longest due first."""

    def __init__(self) -> None:
        self.entries: list[tuple[datetime, int, str]] = []

    def push(self, head: Delivery) -> None:
        heapq.heappush(self.entries, (head.due_at, head.position, head.lane))

    def pop(self) -> str:
        return heapq.heappop(self.entries)[2]
