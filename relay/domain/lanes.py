"""Lanes: which deliveries of one endpoint may go now.

    offer -> waiting -> take -> in flight -> finish -> the lane's next

A lane is one purchase order's way to one endpoint: first in first out, never two in flight. The store keeps the lanes
and offers only heads that are due, so this holds a window of the most urgent ones; a refused delivery goes back to the
store and is offered again when it is due, so refused orders cannot keep the others out.
"""

import heapq
from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from relay.domain.deliveries import Delivery, DeliveryId

if TYPE_CHECKING:
    from datetime import datetime

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
        self._flying: dict[str, DeliveryId] = {}
        self._heads: list[tuple[datetime, int, str]] = []
        """(due, position, lane) of each head that waits; entries of former heads are passed over when they surface."""

    @property
    def held(self) -> int:
        """How many deliveries are in memory, waiting or in flight."""
        return len(self._ids)

    @property
    def in_flight(self) -> int:
        """How many were taken and are not finished."""
        return len(self._flying)

    def room(self) -> int:
        """How many more may be offered."""
        return self._window - self.held

    def offer(self, deliveries: Iterable[Delivery]) -> int:
        """Hold these due heads, and say how many were new.

        Ids already held are ignored, and what finds no room stays the store's. Several of one lane go by position.
        """
        before = self.held
        # By position: what finds no room is then never followed by a later one of its lane that does.
        for delivery in sorted(deliveries, key=_position):
            if delivery.id not in self._ids and self.room():
                self._ids.add(delivery.id)
                insort(self._waiting.setdefault(delivery.lane, []), delivery, key=_position)
                self._show(delivery.lane)
        return self.held - before

    def take(self) -> list[Delivery]:
        """Those that go now, longest due first: one of each lane, and no more in flight than allowed."""
        taken: list[Delivery] = []
        while self._heads and self.in_flight < self._at_once:
            _, position, lane = heapq.heappop(self._heads)
            if lane in self._flying or lane not in self._waiting or self._waiting[lane][0].position != position:
                continue
            head, *behind = self._waiting.pop(lane)
            if behind:
                self._waiting[lane] = behind
            self._flying[lane] = head.id
            taken.append(head)
        return taken

    def finish(self, delivery: Delivery) -> None:
        """Its attempt is recorded: its lane goes on."""
        if self._flying.get(delivery.lane) != delivery.id:
            raise ValueError(f"delivery {delivery.id} is not in flight")
        del self._flying[delivery.lane]
        self._ids.remove(delivery.id)
        self._show(delivery.lane)

    def _show(self, lane: str) -> None:
        if lane not in self._waiting or lane in self._flying:
            return
        head = self._waiting[lane][0]
        heapq.heappush(self._heads, (head.due_at, head.position, lane))
        if len(self._heads) > 2 * self._window:
            # Entries of former heads may lie too deep ever to surface.
            self._heads = [
                (some[0].due_at, some[0].position, name)
                for name, some in self._waiting.items()
                if name not in self._flying
            ]
            heapq.heapify(self._heads)
