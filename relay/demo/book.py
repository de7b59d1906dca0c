"""The demo's book: every change, event and webhook it has seen, and the proof drawn from them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from relay.demo.received import Received
from relay.demo.receiver import Receiver

Key = tuple[str, int]
"""(order id, sequence): one event."""


@dataclass(frozen=True, slots=True)
class Trip:
    """One change on its way: when it was made, in seconds of the loop's clock, and which event tells of it."""

    name: str
    number: str
    changed_at: float
    event: Key


@dataclass
class Book:
    """What the demo has seen so far; the screen shows it, the proof is drawn from it."""

    seeded: int = 0
    changes: int = 0
    topic_events: set[str] = field(default_factory=set)
    topic_gaps: int = 0
    webhooks: int = 0
    trips: list[Trip] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    phase: str = "starting"
    receiver: Receiver | None = None
    _sequences: dict[str, int] = field(default_factory=dict)
    topic_times: dict[Key, float] = field(default_factory=dict)
    webhook_times: dict[Key, float] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, trip: Trip) -> None:
        """A change was made: wait for its webhook."""
        self.changes += 1
        self.trips.append(trip)
        while trip.event not in self.webhook_times:
            self._news.clear()
            await self._news.wait()

    def on_topic(self, data: dict[str, Any], now: float) -> None:
        """An event was read from the changes topic."""
        if data["event_id"] in self.topic_events:
            return
        self.topic_events.add(data["event_id"])
        order, sequence = data["order_id"], data["sequence"]
        self.topic_gaps += sequence != self._sequences.get(order, 0) + 1
        self._sequences[order] = sequence
        self.topic_times[order, sequence] = now

    def arrived(self, webhook: Received, now: float) -> None:
        """A verified webhook was taken."""
        self.webhooks += 1
        self.webhook_times.setdefault((webhook.order_id, webhook.sequence), now)
        if self.trips:
            self.last = orjson.loads(webhook.body)
        self._news.set()

    def proof(self) -> dict[str, Any]:
        """The figures, and whether they agree: changes made = events on the topic = verified webhooks."""
        assert self.receiver is not None
        tally, made = self.receiver.tally, self.seeded + self.changes
        return {
            "orders_at_start": self.seeded,
            "changes_made": self.changes,
            "events_on_topic": len(self.topic_events),
            "verified_webhooks": tally.unique,
            "refused_webhooks": tally.refused,
            "duplicates": tally.duplicates,
            "out_of_order": tally.out_of_order + self.topic_gaps,
            "seconds_to_topic": self._spread(self.topic_times),
            "seconds_to_webhook": self._spread(self.webhook_times),
            "complete": len(self.topic_events) == tally.unique == made
            and not (tally.out_of_order or self.topic_gaps or tally.refused),
        }

    def _spread(self, times: dict[Key, float]) -> dict[str, float]:
        seconds = sorted(times[trip.event] - trip.changed_at for trip in self.trips if trip.event in times)
        shares = {"p50": 0.5, "p95": 0.95, "max": 1.0} if seconds else {}
        last = len(seconds) - 1
        return {name: round(seconds[min(last, int(share * len(seconds)))], 3) for name, share in shares.items()}
