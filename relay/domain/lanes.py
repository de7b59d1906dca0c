"""Lanes: which deliveries of one endpoint may go now.

    offer -> waiting -> take -> in flight -> finish              the lane goes on
                 ^                  └────── retry ──> parked      head of its lane until its due time

A lane is one purchase order's way to one endpoint: first in first out, never two in flight. The store keeps the lanes
and offers only their heads, so this holds a window of the most urgent ones. Parked deliveries may fill at most half of
the window, and nothing is held behind them: what is too much is let go, the one due last first (the store has it and
offers it again when it is due). So a thousand refused orders cannot keep the others out.
"""

import heapq
from bisect import insort
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from operator import attrgetter

from relay.domain.deliveries import Delivery, DeliveryId

_position = attrgetter("position")


class Lanes:
    """What one endpoint's runner holds in memory: at most `window` deliveries, `at_once` of them in flight."""

    def __init__(self, at_once: int, window: int) -> None:
        if not 1 <= at_once <= window:
            raise ValueError("an endpoint needs at least one delivery at once and a window that holds them")
        self._at_once = at_once
        self._window = window
        self._ids: set[DeliveryId] = set()
        self._waiting: dict[str, list[Delivery]] = {}
        self._flying: dict[str, Delivery] = {}
        self._due = _Order()
        self._parked = _Order()
        self._let_go: datetime | None = None

    @property
    def held(self) -> int:
        """How many deliveries are in memory, waiting or in flight."""
        return len(self._ids)

    @property
    def in_flight(self) -> int:
        """How many were taken and are neither finished nor parked."""
        return len(self._flying)

    def room(self) -> int:
        """How many more may be offered."""
        return self._window - self.held

    def offer(self, deliveries: Iterable[Delivery]) -> int:
        """Hold these due heads, and say how many were new.

        Ids already held are ignored, and what finds no room stays the store's. Several of one lane go by position.
        """
        before = self.held
        for delivery in sorted(deliveries, key=_position):
            # By position: what finds no room is then never followed by a later one of its lane that does.
            if delivery.id not in self._ids and self.room() and not self._is_behind_parked(delivery):
                self._wait(delivery)
        return self.held - before

    def take(self, now: datetime) -> list[Delivery]:
        """Those that go now, longest due first: one of each lane, and no more in flight than allowed."""
        if self._let_go is not None and self._let_go <= now:
            self._let_go = None
        taken: list[Delivery] = []
        while self.in_flight < self._at_once and (head := self._head()) is not None and head.due_at <= now:
            self._leave_ground(head)
            taken.append(head)
        return taken

    def finish(self, delivery: Delivery) -> None:
        """It was delivered or given up: its lane goes on."""
        self._land(delivery)
        self._ids.remove(delivery.id)
        self._show(delivery.lane)

    def retry(self, delivery: Delivery, due_at: datetime) -> None:
        """It was refused: it stays the head of its lane until `due_at`, and comes back with one attempt more."""
        self._land(delivery)
        self._release(delivery.lane)
        self._wait(replace(delivery, due_at=due_at, attempts=delivery.attempts + 1))
        self._parked.put(delivery.lane, -due_at.timestamp())
        if len(self._parked) > self._window // 2 and (last := self._parked.first()) is not None:
            self._release(last)

    def next_due(self) -> datetime | None:
        """When `take`, or the store, has something next, if nothing is finished or offered before; None for never.

        A time in the past means: as soon as one in flight ends.
        """
        head = self._head()
        times = [head.due_at if head else None, self._let_go]
        return min((time for time in times if time is not None), default=None)

    def _head(self) -> Delivery | None:
        lane = self._due.first()
        return None if lane is None else self._waiting[lane][0]

    def _wait(self, delivery: Delivery) -> None:
        self._ids.add(delivery.id)
        insort(self._waiting.setdefault(delivery.lane, []), delivery, key=_position)
        self._show(delivery.lane)

    def _show(self, lane: str) -> None:
        """Put the lane where its head's due time says, unless it is in flight or empty."""
        if lane in self._waiting and lane not in self._flying:
            self._due.put(lane, self._waiting[lane][0].due_at.timestamp())

    def _leave_ground(self, head: Delivery) -> None:
        self._flying[head.lane] = head
        self._due.drop(head.lane)
        self._parked.drop(head.lane)
        del self._waiting[head.lane][0]
        if not self._waiting[head.lane]:
            del self._waiting[head.lane]

    def _land(self, delivery: Delivery) -> None:
        flying = self._flying.get(delivery.lane)
        if flying is None or flying.id != delivery.id:
            raise ValueError(f"delivery {delivery.id} is not in flight")
        del self._flying[delivery.lane]

    def _is_behind_parked(self, delivery: Delivery) -> bool:
        """It would take room for nothing: the store offers it when its turn comes."""
        return delivery.lane in self._parked and self._waiting[delivery.lane][0].position < delivery.position

    def _release(self, lane: str) -> None:
        """Leave what waits in the lane to the store."""
        for gone in self._waiting.pop(lane, ()):
            self._ids.remove(gone.id)
            self._let_go = min(gone.due_at, self._let_go or gone.due_at)
        self._due.drop(lane)
        self._parked.drop(lane)


class _Order:
    """Lanes by a number, smallest first, the one put earliest among equals. Every step is O(log n) on average."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._valid: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._valid)

    def __contains__(self, lane: str) -> bool:
        return lane in self._valid

    def put(self, lane: str, number: float) -> None:
        self._count += 1
        self._valid[lane] = self._count
        heapq.heappush(self._heap, (number, self._count, lane))
        # Old entries leave when they surface; these may be too far down ever to do so.
        if len(self._heap) > 2 * len(self._valid) + 64:
            self._heap = [entry for entry in self._heap if self._valid.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def drop(self, lane: str) -> None:
        self._valid.pop(lane, None)

    def first(self) -> str | None:
        while self._heap and self._valid.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None
