"""Deliver: sign, send, record, decide what comes next, for one endpoint.

    head of a lane -> signed -> sent -> recorded(delivered | due again | dead) -> the lane's next

A lane goes on only after its head is recorded, so a receiver never sees an order's events in another order. A crash
after sending and before recording sends twice; receivers deduplicate on `webhook-id`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from relay import metrics
from relay.domain.connections import Lease
from relay.domain.deliveries import Answer, Attempt, Delivery, Outcome
from relay.domain.endpoints import Endpoint
from relay.domain.lanes import Lanes
from relay.domain.retry import classify, next_attempt
from relay.domain.signing import webhook_headers
from relay.ports import Clock, Deliveries, Dice, Sending

log = structlog.get_logger()

AHEAD = 4
"""Lanes under way per attempt in flight: those that wait to be recorded must not keep others from being sent."""
SAFETY_NET = timedelta(seconds=30)
"""The store is asked at least this often, should a wake-up have been lost."""


@dataclass
class Deliver:
    """One endpoint's deliveries, from `run` until `stop`."""

    endpoint: Endpoint
    lease: Lease
    secrets: Sequence[bytes] = field(repr=False)
    sender: Sending
    store: Deliveries
    clock: Clock
    dice: Dice
    _ended: list[Attempt] = field(default_factory=list, init=False)
    _bell: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _more: bool = field(default=True, init=False)
    _next_due: datetime | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _gone: bool = field(default=False, init=False)
    _recording: bool = field(default=False, init=False)
    _sending: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        under_way = AHEAD * self.endpoint.at_once
        self._lanes = Lanes(at_once=under_way, window=2 * under_way)
        self._slots = asyncio.Semaphore(self.endpoint.at_once)

    def ring(self) -> None:
        """The store may have new heads."""
        self._more = True
        self._bell.set()

    def stop(self) -> None:
        """Send nothing more; `run` ends when what is in flight is recorded."""
        self._stopping = True
        self._bell.set()

    async def run(self) -> None:
        """Deliver until stopped, or until the endpoint says that it is gone.

        Raises an exception group with LeaseLost when another worker took over, or Unavailable when the store is not
        there; attempts that were not recorded are then made again, with the same id.
        """
        async with asyncio.TaskGroup() as tasks:
            while not self._over():
                self._bell.clear()
                if self._ended and not self._recording:
                    self._recording = True
                    tasks.create_task(self._record())
                if not self._stopping:
                    await self._refill()
                    for delivery in self._lanes.take(self.clock()):
                        self._sending += 1
                        tasks.create_task(self._send(delivery))
                await self._rest()
        if self._gone:
            await self.store.disable(self.lease, "the endpoint answered 410 Gone: it asks never to be called again")
            log.warning("endpoint.disabled", endpoint=self.endpoint.id, reason="410")

    def _over(self) -> bool:
        return self._stopping and not (self._sending or self._ended or self._recording)

    async def _refill(self) -> None:
        if self._next_due is not None and self._next_due <= self.clock():
            self._more = True
        room = self._lanes.room()
        if not self._more or room < self._lanes.held:
            return
        self._more = False
        heads = await self.store.heads(self.endpoint.id, room + self._lanes.held)
        self._lanes.offer(heads.due)
        # A full answer means that there may be more; what is already held comes again and is ignored.
        self._more = self._more or len(heads.due) == room + self._lanes.held
        self._next_due = heads.next_due

    async def _rest(self) -> None:
        """Until the bell rings or something falls due."""
        wait = SAFETY_NET if self._next_due is None else min(SAFETY_NET, self._next_due - self.clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait.total_seconds())):
                await self._bell.wait()
                return
        self._more = True

    async def _send(self, delivery: Delivery) -> None:
        async with self._slots:
            if not self._stopping:
                self._ended.append(await self._attempt(delivery))
        self._sending -= 1
        self._bell.set()

    async def _attempt(self, delivery: Delivery) -> Attempt:
        started_at = self.clock()
        headers = webhook_headers(self.secrets, delivery, int(started_at.timestamp()))
        answer = await self.sender.send(headers, delivery.body)
        ended_at = self.clock()
        attempt = self._judged(delivery, answer, started_at, ended_at)
        metrics.ATTEMPTS.labels(attempt.outcome).inc()
        metrics.ATTEMPT_SECONDS.observe(attempt.seconds)
        log.info(
            "delivery.attempted",
            endpoint=self.endpoint.id,
            delivery=delivery.id,
            event=delivery.event_id,
            attempt=attempt.number,
            outcome=attempt.outcome,
            status=answer.status,
            error=answer.error,
            seconds=round(attempt.seconds, 4),
        )
        return attempt

    def _judged(self, delivery: Delivery, answer: Answer, started_at: datetime, ended_at: datetime) -> Attempt:
        number, outcome, due_at = delivery.attempts + 1, classify(answer), None
        if outcome is Outcome.RETRY:
            due_at = next_attempt(attempts=number, now=ended_at, dice=self.dice(), retry_after=answer.retry_after)
            outcome = Outcome.RETRY if due_at else Outcome.DEAD
        elif outcome is Outcome.GONE:
            # It stays the head of its lane, and goes first should a person enable the endpoint again.
            due_at, self._gone, self._stopping = ended_at, True, True
        return Attempt(
            delivery=delivery,
            number=number,
            started_at=started_at,
            seconds=(ended_at - started_at).total_seconds(),
            answer=answer,
            outcome=outcome,
            due_at=due_at,
        )

    async def _record(self) -> None:
        attempts, self._ended = self._ended, []
        promoted = await self.store.record(self.lease, attempts)
        for attempt in attempts:
            self._lanes.finish(attempt.delivery)
            if attempt.outcome is Outcome.RETRY and attempt.due_at is not None:
                self._next_due = min(attempt.due_at, self._next_due or attempt.due_at)
        if self._lanes.offer(promoted) < len(promoted):
            self._more = True
        self._recording = False
        self._bell.set()
