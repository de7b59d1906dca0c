"""Deliver: sign, send, record, decide what comes next, for one endpoint.

    head of a lane -> signed -> sent -> recorded(delivered | due again | dead) -> the lane's next

A lane goes on only after its head is recorded, so a receiver never sees an order's events in another order. A crash
after sending and before recording sends twice; receivers deduplicate on `webhook-id`. How many attempts are in flight
is the flow's decision, how many deliveries are in memory that of lanes and window.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from relay.domain.connections import Lease
from relay.domain.deliveries import Attempt, Delivery, DeliveryId, Outcome, Wish
from relay.domain.endpoints import Endpoint, EndpointState, Health, Ordering
from relay.domain.flow import BreakerState, Flow, Limits, signal
from relay.domain.health import Verdict, judged
from relay.domain.lanes import Lanes, Memory
from relay.domain.signing import SigningKey, TimedKey
from relay.domain.verification import limit
from relay.ports import Clock, Deliveries, Dice, Heads, Rules, Sending, Space
from relay.stages.attempt import Attempting

log = structlog.get_logger()

AHEAD = 4
"""Lanes under way per attempt in flight: those that wait to be recorded must not keep others from being sent."""
SAFETY_NET = timedelta(minutes=10)
"""The store is asked at least this often, should a wake-up have been lost."""
BREATH = timedelta(milliseconds=50)
"""The shortest rest before something falls due: the store's clock may still have to reach what ours has passed."""
MOST_BYTES = 256 * 1024 * 1024
MOST_READ = 16 * 1024 * 1024
"""Bytes that one question to the store may bring: what many ask for at the same time is counted only afterwards."""


@dataclass
class Deliver:
    """One endpoint's deliveries, from `run` until `stop`."""

    endpoint: Endpoint
    lease: Lease
    secrets: Sequence[SigningKey | TimedKey] = field(repr=False)
    sender: Sending
    store: Deliveries
    clock: Clock
    dice: Dice
    memory: Memory = field(default_factory=lambda: Memory(MOST_BYTES))
    _ended: list[Attempt] = field(default_factory=list, init=False)
    _bell: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _more: bool = field(default=True, init=False)
    _next_due: datetime | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _disabled: str = field(default="", init=False)
    _recording: bool = field(default=False, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _flow: Flow = field(init=False)
    _health: Health = field(init=False)

    def __post_init__(self) -> None:
        self._window = 2 * AHEAD * self.endpoint.at_once
        self._lanes = Lanes(self._window, self.memory)
        self._health = self.endpoint.health
        self._deadline = self.endpoint.deadline.total_seconds()
        self._attempting = Attempting(self.endpoint, self.secrets, self.sender, self.clock, self.dice)
        # Heads that were read before a record was committed would be sent again after it.
        self._turn = asyncio.Lock()
        # Looked up once: for each delivery it would ask the system several times which process this is.
        self._now = asyncio.get_running_loop().time

    def ring(self) -> None:
        """The store may have new heads."""
        self._more = True
        self._bell.set()

    def stop(self) -> None:
        """Send nothing more; `run` ends when what is in flight is recorded."""
        self._stopping = True
        self._bell.set()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[frozenset[DeliveryId]]:
        """What is in memory; while the block runs, nothing is read from the store or recorded."""
        async with self._turn:
            yield self._lanes.ids

    async def run(self) -> None:
        """Deliver until stopped, or until the endpoint is disabled: by its own wish, or after days in failure.

        Raises an exception group with LeaseLost when another worker took over, or Unavailable when the store is not
        there; attempts that were not recorded are then made again, with the same id.
        """
        self._flow = Flow(Limits(self.endpoint.at_once, limit(self.endpoint)), self._now())
        if self._health.suspended_at is not None:
            self._flow.suspend(self._now())
        try:
            async with asyncio.TaskGroup() as tasks:
                while not self._over():
                    self._bell.clear()
                    if self._ended and not self._recording:
                        self._recording = True
                        tasks.create_task(self._record())
                    if not self._stopping:
                        await self._refill()
                        for delivery in self._taken():
                            tasks.create_task(self._send(tasks, delivery))
                    await self._rest()
        finally:
            self._lanes.close()
        if self._disabled:
            await self.store.disable(self.lease, self.endpoint.url, self._disabled)
            log.warning("endpoint.disabled", endpoint=self.endpoint.id, reason=self._disabled)

    def _over(self) -> bool:
        return self._stopping and not (self._flow.in_flight or self._ended or self._recording)

    async def _refill(self) -> None:
        if self._next_due is not None and self._next_due <= self.clock():
            # Forgotten here: while there is no room to ask again, a time in the past would leave no rest.
            self._more, self._next_due = True, None
        # As large as the receiver is fast: a slow one need not hold what it cannot take.
        window = min(self._window, 2 * AHEAD * self._flow.limit)
        room, space = window - self._lanes.held, self._lanes.bytes_room()
        if not self._more or room < window // 2 or (not space and self._lanes.held):
            return
        async with self._turn:
            self._more = False
            held = self._lanes.ids
            if self.endpoint.options.ordering is Ordering.LATEST_ONLY:
                await self.store.supersede(self.lease, held)
            heads = await self.store.heads(self.endpoint.id, Space(room, max(1, room // 2), _read(space), held))
            self._offer(heads)
        self._next_due = heads.next_due

    def _offer(self, heads: Heads) -> None:
        offered = self._lanes.offer(heads.due)
        self._more = self._more or heads.more or offered < len(heads.due)

    def _taken(self) -> list[Delivery]:
        """What goes now: its flow has begun."""
        if self._lanes.idle:
            return []
        now = self._looked_at = self._now()
        most = min(self._flow.room(now), AHEAD * self._flow.limit - self._lanes.under_way)
        taken = self._lanes.take(most, self._flow.retry_room(most))
        for delivery in taken:
            self._flow.started(repeated=delivery.attempts > 0, now=now)
        return taken

    async def _rest(self) -> None:
        """Until the bell rings, something falls due, or the flow lets something go."""
        wait = SAFETY_NET if self._next_due is None else min(SAFETY_NET, self._next_due - self.clock())
        asking = max(BREATH, wait).total_seconds()
        # From the moment of the last look: by now there may be room that nobody has seen, and that is no time to wait.
        flowing = None if self._lanes.idle or self._stopping else self._flow.wait(self._looked_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(asking if flowing is None else min(asking, flowing)):
                await self._bell.wait()
                return
        self._more = self._more or flowing is None or asking <= flowing

    async def _send(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        going = [delivery]
        while going:
            # On the same task as long as there is something: to make one for each delivery costs as much as signing it.
            delivery, *others = going
            for other in others:
                tasks.create_task(self._send(tasks, other))
            attempt = await self._attempting.make(delivery)
            self._flowed(attempt)
            self._obeyed(attempt)
            # Looked up after the wait: recording puts a new list in the place of the one it takes.
            self._ended.append(attempt)
            if not self._recording:  # or it rings when it ends
                self._bell.set()
            going = [] if self._stopping else self._taken()

    def _flowed(self, attempt: Attempt) -> None:
        before = self._flow.state
        self._flow.ended(
            signal(attempt.answer, attempt.seconds, self._deadline),
            repeated=attempt.number > 1,
            now=self._now(),
            dice=self.dice(),
            retry_after=attempt.answer.retry_after,
        )
        if (after := self._flow.state) is not before and BreakerState.CLOSED in {before, after}:
            log.info("breaker.turned", endpoint=self.endpoint.id, state=after)

    def _obeyed(self, attempt: Attempt) -> None:
        """A receiver that wants no more gets no more."""
        answer = attempt.answer
        if attempt.outcome is Outcome.GONE or answer.wish is Wish.DISABLE:
            said = "410 Gone" if answer.status == 410 else "`webhook-delivery: disable`"  # noqa: PLR2004 - RFC 9110
            self._disabled, self._stopping = f"the endpoint answered {said}: it asks never to be called again", True

    async def _record(self) -> None:
        async with self._turn:
            attempts, self._ended = self._ended, []
            verdict = self._verdict(attempts)
            latest_only = self.endpoint.options.ordering is Ordering.LATEST_ONLY
            rules = Rules(latest_only, _read(self._lanes.bytes_room()), verdict)
            promoted = await self.store.record(self.lease, attempts, rules)
            for attempt in attempts:
                self._lanes.finish(attempt.delivery)
            self._offer(promoted)
        retries = [each.due_at for each in attempts if each.outcome is Outcome.RETRY and each.due_at is not None]
        self._next_due = min([*retries, *([self._next_due] if self._next_due else [])], default=None)
        if verdict:
            self._turned(verdict)
        self._recording = False
        self._bell.set()

    def _verdict(self, attempts: Sequence[Attempt]) -> Verdict | None:
        if all(each.answer.error == "proxy" for each in attempts):
            return None  # Our own proxy's fault: no endpoint is suspended for that.
        return judged(
            self._health,
            delivered=any(each.outcome is Outcome.DELIVERED for each in attempts),
            now=self.clock(),
            disable_after=self.endpoint.options.disable_after,
        )

    def _turned(self, verdict: Verdict) -> None:
        self._health = verdict.health
        if verdict.notice:
            log.warning("endpoint.turned", endpoint=self.endpoint.id, notice=verdict.notice, problem=verdict.problem)
        if verdict.state is EndpointState.SUSPENDED:
            self._flow.suspend(self._now())
        elif verdict.state is EndpointState.DISABLED:
            self._stopping = True


def _read(space: int) -> int:
    return min(max(1, space), MOST_READ)
