"""The demo's book: every change, event and webhook it has seen, and the proof drawn from them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from relay.demo.received import Received
from relay.demo.receiver import Receiver
from relay.domain.results import Outcome

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
    commands: int = 0
    caused: set[str] = field(default_factory=set)
    """Commands that a change on the topic names as its cause."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What became of commands, by the id of the result."""
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
        self.caused.update(data["caused_by"])
        order, sequence = data["order_id"], data["sequence"]
        self.topic_gaps += sequence != self._sequences.get(order, 0) + 1
        self._sequences[order] = sequence
        self.topic_times[order, sequence] = now

    def next_command(self) -> str:
        """The id of one more command."""
        self.commands += 1
        return f"demo-{self.commands}"

    def on_result(self, result_id: str, data: dict[str, Any]) -> None:
        """A result was read from its topic."""
        self.results[result_id] = data
        self._news.set()

    async def result(self, command_id: str) -> dict[str, Any]:
        """Wait until a command is over; the data of its last result."""
        while (ended := self._ended(command_id)) is None:
            self._news.clear()
            await self._news.wait()
        return ended

    def _ended(self, command_id: str) -> dict[str, Any] | None:
        return next((each for each in self._ends() if each["command_id"] == command_id), None)

    def _ends(self) -> list[dict[str, Any]]:
        return [each for each in self.results.values() if each["outcome"] != Outcome.ACCEPTED]

    def arrived(self, webhook: Received, now: float) -> None:
        """A verified webhook was taken."""
        self.webhooks += 1
        self.webhook_times.setdefault((webhook.order_id, webhook.sequence), now)
        if self.trips and webhook.order_id:
            self.last = orjson.loads(webhook.body)
        self._news.set()

    def proof(self) -> dict[str, Any]:
        """The figures, and whether they agree: a change is an event, a command two results; each is a webhook."""
        assert self.receiver is not None
        tally, made = self.receiver.tally, self.seeded + self.changes
        applied = {each["command_id"] for each in self._ends() if each["outcome"] == Outcome.APPLIED}
        return {
            "orders_at_start": self.seeded,
            "changes_made": self.changes,
            "events_on_topic": len(self.topic_events),
            "commands_sent": self.commands,
            "commands_applied": len(applied),
            "changes_caused_by_commands": len(self.caused),
            "results_on_topic": len(self.results),
            "verified_webhooks": tally.unique,
            "refused_webhooks": tally.refused,
            "duplicates": tally.duplicates,
            "out_of_order": tally.out_of_order + self.topic_gaps,
            "seconds_to_topic": self._spread(self.topic_times),
            "seconds_to_webhook": self._spread(self.webhook_times),
            "complete": len(self.topic_events) == made
            and tally.unique == made + len(self.results)
            and len(self._ends()) == len(applied) == self.commands
            and self.caused == applied
            and not (tally.out_of_order or self.topic_gaps or tally.refused),
        }

    def _spread(self, times: dict[Key, float]) -> dict[str, float]:
        seconds = sorted(times[trip.event] - trip.changed_at for trip in self.trips if trip.event in times)
        shares = {"p50": 0.5, "p95": 0.95, "max": 1.0} if seconds else {}
        last = len(seconds) - 1
        return {name: round(seconds[min(last, int(share * len(seconds)))], 3) for name, share in shares.items()}
