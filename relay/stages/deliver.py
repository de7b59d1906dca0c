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
from relay.domain.signing import EndingKey, SigningKey, webhook_headers
from relay.ports import Clock, Deliveries, Dice, Sending

log = structlog.get_logger()

AHEAD = 4
"""Lanes under way per attempt in flight: those that wait to be recorded must not keep others from being sent."""
SAFETY_NET = timedelta(seconds=30)
"""The store is asked at least this often, should a wake-up have been lost."""
BREATH = timedelta(milliseconds=50)
"""The shortest rest before something falls due: the store's clock may still have to reach what ours has passed."""


@dataclass
class Deliver:
    """One endpoint's deliveries, from `run` until `stop`."""

    endpoint: Endpoint
    lease: Lease
    secrets: Sequence[SigningKey | EndingKey] = field(repr=False)
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
        self._window = 2 * under_way
        self._lanes = Lanes(at_once=under_way, window=self._window)
        # Heads that were read before a record was committed would be sent again after it.
        self._turn = asyncio.Lock()
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
                    for delivery in self._lanes.take():
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
            # Forgotten here: while there is no room to ask again, a time in the past would leave no rest.
            self._more, self._next_due = True, None
        if not self._more or self._lanes.room() < self._window // 2:
            return
        async with self._turn:
            self._more = False
            # What is already held comes again and is ignored, so a full answer means that there may be more.
            heads = await self.store.heads(self.endpoint.id, self._window)
            self._lanes.offer(heads.due)
        self._more = self._more or len(heads.due) == self._window
        self._next_due = heads.next_due

    async def _rest(self) -> None:
        """Until the bell rings or something falls due."""
        wait = SAFETY_NET if self._next_due is None else min(SAFETY_NET, self._next_due - self.clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(BREATH, wait).total_seconds()):
                await self._bell.wait()
                return
        self._more = True

    async def _send(self, delivery: Delivery) -> None:
        async with self._slots:
            if not self._stopping:
                attempt = await self._attempt(delivery)
                # Looked up after the wait: recording puts a new list in the place of the one it takes.
                self._ended.append(attempt)
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
            event_id=delivery.event_id,
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
        async with self._turn:
            attempts, self._ended = self._ended, []
            promoted = await self.store.record(self.lease, attempts)
            for attempt in attempts:
                self._lanes.finish(attempt.delivery)
            offered = self._lanes.offer(promoted)
        self._more = self._more or offered < len(promoted)
        retries = [each.due_at for each in attempts if each.outcome is Outcome.RETRY and each.due_at is not None]
        self._next_due = min([*retries, *([self._next_due] if self._next_due else [])], default=None)
        self._recording = False
        self._bell.set()
