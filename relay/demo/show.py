"""The demo: an ERP, relay and a receiver on this machine, and the proof that nothing was lost on the way.

    simulated Protheus, or a real Tryton -> relay (embedded PostgreSQL and broker) -> topic -> verified webhook
    command on a topic -> relay -> the ERP -> result, and the change that it caused

Everything but Protheus is real: the worker is the one that `relay up` runs, the topic is read with a Kafka client, the
receiver checks every signature.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from relay.app.serving import wired_control
from relay.app.standing import Parts, parts
from relay.app.working import worker
from relay.demo.book import Book, Trip
from relay.demo.commander import Commander, commanding
from relay.demo.receiver import receiver
from relay.demo.stories import CommandedStory, Step, Story, Theatre, protheus, real_tryton, rm
from relay.domain.errors import UserError
from relay.domain.orders import order_id
from relay.domain.signing import verifying_key
from relay.settings import Database, Egress, Http, Kafka, Settings, Vault

POLL_EVERY = timedelta(milliseconds=500)
SPREAD = 5.0
"""Seconds over which lives begin, so that there is something to watch."""
COMMANDED = 4
"""Lives of orders that are written by commands."""
PATIENCE = 60.0
"""Seconds that one change may take to become a webhook before the demo gives up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How big the demo is. `data` None: a directory that is removed at the end."""

    orders: int = 200
    keep: bool = False
    data: Path | None = None
    dice: int = 7
    erp: str = "protheus"
    installed: Path = Path()
    """Where a real Tryton is kept between demos."""


async def run(settings: Settings, plan: Plan, book: Book, done: Callable[[dict[str, Any]], None]) -> None:
    """Run the demo: fills `book`, calls `done` with the proof, and goes on until cancelled when `plan.keep`.

    Raises:
        UserError: a change did not arrive in time, or a part could not be started.
    """
    async with AsyncExitStack() as stack:
        book.phase = "starting PostgreSQL and the broker"
        home = plan.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-")))
        settings = on_its_own(settings, home)
        standing_on = await stack.enter_async_context(parts(settings))
        erp = await _erp(plan, settings.data, book, stack)
        book.seeded = erp.orders
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
            commander = await stack.enter_async_context(
                commanding(standing_on.bootstrap, settings.kafka.prefix, connection_id, book)
            )
            await _live(erp, commander, connection_id, plan, book)
            await _until(lambda: len(book.topic_events) >= book.seeded + book.changes, "the topic")
            await _until(lambda: book.webhooks >= book.seeded + book.changes + len(book.results), "the results")
            book.phase = "done"
            done(book.proof())
            while plan.keep:
                book.phase = f"kept running: Kafka {standing_on.bootstrap}, data {home}; Ctrl-C ends it"
                await _live(erp, commander, connection_id, Plan(dice=random.randrange(1 << 30)), book)
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(background[-1]), 20)
            for task in background[:-1]:
                task.cancel()


async def _erp(plan: Plan, home: Path, book: Book, stack: AsyncExitStack) -> Theatre:
    def say(what: str) -> None:
        book.phase = what

    if plan.erp == "rm":
        say("starting a simulated RM with years of orders")
        return await stack.enter_async_context(rm(plan.orders))
    if plan.erp == "tryton":
        say("starting a real Tryton (the first time it is installed: about a minute)")
        return await stack.enter_async_context(real_tryton(plan.installed, home / "tryton", say))
    say("starting a simulated Protheus with years of orders")
    return await stack.enter_async_context(protheus(plan.orders))


def on_its_own(settings: Settings, home: Path) -> Settings:
    """The demo's settings: embedded parts and a new master key in `home`, whatever database and broker are named."""
    # Three partitions are enough to show that order holds per purchase order, not per topic.
    kafka = Kafka(prefix=settings.kafka.prefix, partitions=3)
    own = {"data": home, "database": Database(), "kafka": kafka, "vault": Vault(), "http": Http(port=0)}
    own["egress"] = Egress(private=True)
    return settings.model_copy(update=own)


async def _connect(settings: Settings, standing_on: Parts, erp: Theatre, book: Book, stack: AsyncExitStack) -> str:
    async with wired_control(settings, standing_on.database_url) as control:
        added = await control.add_connection(
            customer="demo",
            kind=erp.connector,
            name=erp.connector,
            settings=erp.settings,
            credentials=erp.credentials,
            history=None,
            poll_every=POLL_EVERY,
            schedule={"calls_per_second": 40, "calls_at_once": 3},
        )
        listening = await stack.enter_async_context(receiver([]))
        book.receiver = listening
        made = await control.add_endpoint(customer="demo", name="receiver", url=listening.url)
        listening.trust([verifying_key(each) for each in made.for_receiver])
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


async def _live(erp: Theatre, commander: Commander, connection_id: str, plan: Plan, book: Book) -> None:
    dice = random.Random(plan.dice)
    async with asyncio.TaskGroup() as lives:
        for _ in range(erp.at_once):
            story = erp.story(random.Random(dice.random()))
            lives.create_task(_tell(story, dice.random() * SPREAD, connection_id, book))
        for _ in range(COMMANDED):
            commanded = CommandedStory(commander, erp.draft(random.Random(dice.random())))
            lives.create_task(_tell(commanded, dice.random() * SPREAD, connection_id, book))


async def _tell(story: Story, delay: float, connection_id: str, book: Book) -> None:
    await asyncio.sleep(delay)
    for sequence, step in enumerate(story.steps(), 1):
        await _do(story, step, sequence, connection_id, book)


async def _do(story: Story, step: Step, sequence: int, connection_id: str, book: Book) -> None:
    changed_at = asyncio.get_running_loop().time()
    await step.act()
    trip = Trip(step.name, story.remote_id, changed_at, (order_id(connection_id, story.remote_id), sequence))
    try:
        async with asyncio.timeout(PATIENCE):
            await book.follow(trip)
    except TimeoutError:
        raise UserError(f"order {story.remote_id}: {step.name!r} did not arrive within {PATIENCE:.0f} s") from None


async def _until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE * 3):
            while not true():  # noqa: ASYNC110 - the book is filled in many places; none has to know who waits
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise UserError(f"{what} did not end within {PATIENCE * 3:.0f} s") from None
