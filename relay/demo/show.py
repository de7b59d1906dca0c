"""The demo: a Protheus, relay and a receiver on this machine, and the proof that nothing was lost on the way.

    simulated Protheus -> relay (embedded PostgreSQL and broker) -> changes topic -> verified webhook

Everything is real but the ERP: the worker is the one that `relay up` runs, the topic is read with a Kafka client, the
receiver checks every signature.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from relay.app import Parts, parts, wired_control, worker
from relay.demo.protheus_http import Options, SimulatedProtheus, simulated_protheus
from relay.demo.receiver import Received, Receiver, receiver
from relay.demo.stories import ProtheusStory, Step
from relay.domain.errors import UserError
from relay.domain.orders import order_id
from relay.domain.signing import parse_secret
from relay.settings import Http, Kafka, Settings

POLL_EVERY = timedelta(milliseconds=500)
PATIENCE = 60.0
"""Seconds that one change may take to become a webhook before the demo gives up."""


@dataclass
class Trip:
    """One change on its way: times in seconds of the loop's clock."""

    name: str
    number: str
    changed_at: float
    on_topic_at: float | None = None
    arrived_at: float | None = None


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
    _open: dict[tuple[str, int], tuple[Trip, asyncio.Future[None]]] = field(default_factory=dict)

    def expect(self, order: str, sequence: int, trip: Trip) -> "asyncio.Future[None]":
        """A change was made: its webhook is the one of this order and sequence."""
        self.changes += 1
        self.trips.append(trip)
        arrived = asyncio.get_running_loop().create_future()
        self._open[order, sequence] = trip, arrived
        return arrived

    def on_topic(self, data: dict[str, Any], now: float) -> None:
        """An event was read from the changes topic."""
        if data["event_id"] in self.topic_events:
            return
        self.topic_events.add(data["event_id"])
        order, sequence = data["order_id"], data["sequence"]
        self.topic_gaps += sequence != self._sequences.get(order, 0) + 1
        self._sequences[order] = sequence
        if found := self._open.get((order, sequence)):
            found[0].on_topic_at = now

    def arrived(self, webhook: Received, now: float) -> None:
        """A verified webhook was taken."""
        self.webhooks += 1
        if found := self._open.get((webhook.order_id, webhook.sequence)):
            trip, waiting = found
            trip.arrived_at = now
            self.last = orjson.loads(webhook.body)
            if not waiting.done():
                waiting.set_result(None)

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
            "seconds_to_topic": _spread([t.on_topic_at - t.changed_at for t in self.trips if t.on_topic_at]),
            "seconds_to_webhook": _spread([t.arrived_at - t.changed_at for t in self.trips if t.arrived_at]),
            "complete": len(self.topic_events) == tally.unique == made
            and not (tally.out_of_order or self.topic_gaps or tally.refused),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """How big the demo is. `data` None: a directory that is removed at the end."""

    orders: int = 200
    stories: int = 24
    keep: bool = False
    data: Path | None = None
    dice: int = 7


async def run(settings: Settings, plan: Plan, book: Book, done: Callable[[dict[str, Any]], None]) -> None:
    """Run the demo: fills `book`, calls `done` with the proof, and goes on until cancelled when `plan.keep`.

    Raises:
        UserError: a change did not arrive in time, or a part could not be started.
    """
    async with AsyncExitStack() as stack:
        book.phase = "starting PostgreSQL and the broker"
        home = plan.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-")))
        settings = _settings(settings, home)
        standing_on = await stack.enter_async_context(parts(settings))
        book.phase = "starting a simulated Protheus with years of orders"
        erp = await stack.enter_async_context(simulated_protheus(Options(latency=0.02)))
        erp.seed(plan.orders)
        book.seeded = len(erp.purchase_orders(deleted=False))
        connection_id = await _connect(settings, standing_on, erp, book, stack)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stop = asyncio.Event()
        working = await stack.enter_async_context(worker(settings, standing_on))
        # After the worker has made its topics: a consumer that asks for a missing one makes it with other partitions.
        background = [
            tasks.create_task(_watch_topic(standing_on, settings.kafka.prefix, book)),
            tasks.create_task(_watch_webhooks(book)),
            tasks.create_task(working.run(stop)),
        ]
        try:
            book.phase = "first sync: every order is told as a snapshot"
            await _until(lambda: book.webhooks >= book.seeded, "the first sync")
            book.phase = "people work in the ERP"
            await _live(erp, connection_id, plan, book)
            await _until(lambda: len(book.topic_events) >= book.seeded + book.changes, "the topic")
            book.phase = "done"
            done(book.proof())
            while plan.keep:
                book.phase = f"kept running: Kafka {standing_on.bootstrap}, data {home}; Ctrl-C ends it"
                await _live(erp, connection_id, Plan(stories=3, dice=random.randrange(1 << 30)), book)
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(background[-1]), 20)
            for task in background[:-1]:
                task.cancel()


def _settings(settings: Settings, home: Path) -> Settings:
    # Three partitions are enough to show that order holds per purchase order, not per topic.
    kafka = Kafka(prefix=settings.kafka.prefix, partitions=3)
    return settings.model_copy(update={"data": home, "kafka": kafka, "http": Http(port=0)})


async def _connect(
    settings: Settings, standing_on: Parts, erp: SimulatedProtheus, book: Book, stack: AsyncExitStack
) -> str:
    async with wired_control(settings, standing_on.database_url) as control:
        added = await control.add_connection(
            customer="demo",
            kind="protheus",
            name="protheus",
            settings={"url": erp.url, "tenant": erp.tenant, "all_branches": True},
            credentials={"username": erp.username, "password": erp.password},
            poll_every=POLL_EVERY,
        )
        listening = await stack.enter_async_context(receiver([]))
        book.receiver = listening
        made = await control.add_endpoint(customer="demo", name="receiver", url=listening.url, allow_http=True)
        listening.trust([parse_secret(made.secret)])
        return added.connection.id


async def _watch_topic(standing_on: Parts, prefix: str, book: Book) -> None:
    consumer = AIOKafkaConsumer(
        f"{prefix}.purchase-orders.changes.v1",
        bootstrap_servers=standing_on.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    loop = asyncio.get_running_loop()
    try:
        async for record in consumer:
            book.on_topic(orjson.loads(record.value)["data"], loop.time())
    finally:
        await consumer.stop()


async def _watch_webhooks(book: Book) -> None:
    assert book.receiver is not None
    loop = asyncio.get_running_loop()
    while True:
        webhook = await book.receiver.received.get()
        if webhook.verified:
            book.arrived(webhook, loop.time())


async def _live(erp: SimulatedProtheus, connection_id: str, plan: Plan, book: Book) -> None:
    dice = random.Random(plan.dice)
    async with asyncio.TaskGroup() as lives:
        for _ in range(plan.stories):
            lives.create_task(_tell(ProtheusStory(erp, random.Random(dice.random())), connection_id, book))


async def _tell(story: ProtheusStory, connection_id: str, book: Book) -> None:
    for sequence, step in enumerate(story.steps(), 1):
        await _do(story, step, sequence, connection_id, book)


async def _do(story: ProtheusStory, step: Step, sequence: int, connection_id: str, book: Book) -> None:
    step.act()
    trip = Trip(step.name, story.remote_id, asyncio.get_running_loop().time())
    arrived = book.expect(order_id(connection_id, story.remote_id), sequence, trip)
    try:
        async with asyncio.timeout(PATIENCE):
            await arrived
    except TimeoutError:
        raise UserError(f"order {story.remote_id}: {step.name!r} did not arrive within {PATIENCE:.0f} s") from None


async def _until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE * 3):
            while not true():  # noqa: ASYNC110 - the book is filled in many places; none has to know who waits
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise UserError(f"{what} did not end within {PATIENCE * 3:.0f} s") from None


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    pick = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) for name, share in pick.items()}
