"""The stages of the line, one after the other, each with the clock on it.

    fill (outbox) -> publish (topic) -> admit (deliveries), and all at once: whole, latency

Polling and publishing are the worker's own runners and stages, started by hand in this process, as is the consumer when
admission is measured by itself. For the whole line a real worker admits and delivers.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream.kafka import KafkaBroker

from bench.backlog import arrived, recorded
from bench.clock import Spent, Timed, timed
from bench.counted import Count, CountedAdmissions, TimedOrders
from bench.crew import Crew, crew
from bench.erp import Memory, Source, history, kind, never, once, order, paced
from bench.latency import Latency
from bench.plan import Plan
from bench.stand import Installation
from bench.trouble import Lost
from relay.ports import Admissions
from relay.runners import ConnectionParts, ConnectionRunner, utc_now
from relay.stages.admit import Admit
from relay.stages.carry import Times
from relay.stages.letters import Letters
from relay.stages.poll import Patience, Poll
from relay.stages.publish import Destinations, Publish
from relay.stages.reconcile import Doubt
from relay.stages.take import Take
from relay.store.admission import AdmitStore
from relay.store.commands import CommandStore
from relay.store.mappings import MappingStore
from relay.store.orders import OrderStore
from relay.store.outbox import OutboxStore
from relay.store.syncs import SyncStore
from relay.streams import consuming

PATIENCE = 120.0
"""Seconds that any one measurement may take before the bench gives up."""


async def polled(at: Installation, source: Source, orders: int) -> Timed:
    """One poll of so many orders: read, compared, stored, their events put into the outbox."""
    subject, store = at.connection.subject, OrderStore(at.database)
    take = Take(subject, store, utc_now, lambda: None)
    poll = Poll(subject, at.connection.lease, Memory(source), store, take, utc_now, random.random, _patience(at))
    with timed(orders) as watch:
        ended = await poll.run_once()
    if ended.failures:
        raise Lost(f"the poll failed: {ended.problem}")
    return watch


async def filled(at: Installation, plan: Plan) -> None:
    """A backlog in the outbox."""
    await polled(at, once(history(plan.orders, plan.events)), plan.events)


async def published(at: Installation, plan: Plan) -> Timed:
    """From the outbox to the topics: change and state of each event, acknowledged and marked."""
    publish = Publish(at.connection.lease, _outbox(at), at.publisher, AdmitStore(at.database), _destinations(at))
    left = plan.events
    with timed(plan.events) as watch:
        while left > 0:
            left -= await publish.run_once()
    return watch


async def admitted(at: Installation, plan: Plan) -> Timed:
    """From the topic to deliveries, counted in events, from the first batch on."""
    count = Count(plan.events)
    store = CountedAdmissions(at.database, count)
    watch = Timed(plan.events)
    async with asyncio.timeout(PATIENCE), _consumer(at, store):
        await store.began.wait()
        watch.start()
        await count.done.wait()
        watch.stop()
    return watch


async def whole(at: Installation, plan: Plan) -> Spent:
    """From a backlog in the outbox to the last delivery recorded, with everything at work at the same time."""
    async with crew(at.ground, 1) as worker:
        await _warm(at, plan, worker)
        await filled(at, plan)
        spent = Spent(plan.events, {**worker.whose(), "publisher": [os.getpid()]})
        spent.start()
        async with _connection(at, never, OrderStore(at.database)):
            await recorded(at.ground, worker, plan.events, within=PATIENCE)
            spent.stop()
    spent.again = await arrived(at.ground, plan.events)
    return spent


async def latency(at: Installation, plan: Plan) -> Latency:
    """From commit to receipt, at a steady rate; each event is a page and a transaction of its own."""
    events = round(plan.rate * plan.seconds)
    orders = TimedOrders(at.database)
    async with crew(at.ground, 1) as worker:
        await _warm(at, plan, worker)
        async with _connection(at, paced(history(plan.orders, events), plan.rate), orders, page=1):
            await recorded(at.ground, worker, events, within=PATIENCE)
    times = (await at.stand.sink.taken()).times
    if missing := orders.committed.keys() - times.keys():
        raise Lost(f"{len(missing)} of {events} events did not arrive")
    return Latency(sorted(times[event] - committed for event, committed in orders.committed.items()))


async def _warm(at: Installation, plan: Plan, worker: Crew) -> None:
    """One event through everything: the consumer has joined, all clients are connected."""
    async with _connection(at, once(iter([order(plan.orders)])), OrderStore(at.database)):
        await recorded(at.ground, worker, 1, within=PATIENCE)
    await arrived(at.ground, 1)


@asynccontextmanager
async def _consumer(at: Installation, store: Admissions) -> AsyncIterator[KafkaBroker]:
    topics = at.topics
    consumer = consuming(
        at.stand.access, at.stand.capabilities, topics, Admit(store, Letters(at.publisher, topics.dead_letters))
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def _connection(at: Installation, source: Source, orders: OrderStore, page: int = 200) -> AsyncIterator[None]:
    """The connection's runner, polling `source` and publishing."""
    memory = Memory(source, page)
    parts = ConnectionParts(
        kinds={kind(memory).name: kind(memory)},
        vault=at.vault,
        orders=orders,
        syncs=SyncStore(at.database),
        mappings=MappingStore(at.database),
        outbox=_outbox(at),
        publisher=at.publisher,
        admissions=AdmitStore(at.database),
        topics=_destinations(at),
        patience=_patience(at),
        doubt=Doubt(at.stand.settings.poll.missing_passes, at.stand.settings.poll.missing_share),
        commands=CommandStore(at.database),
        times=Times(at.stand.settings.commands.settle, stale=at.stand.settings.leases.ttl),
    )
    runner = ConnectionRunner(at.connection, parts)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run())
        yield
        runner.stop()


def _outbox(at: Installation) -> OutboxStore:
    return OutboxStore(at.database, at.stand.settings.kafka.stale_after)


def _destinations(at: Installation) -> Destinations:
    return Destinations(at.topics.changes, at.topics.state, at.topics.dead_letters, at.topics.command_results)


def _patience(at: Installation) -> Patience:
    return Patience(at.stand.settings.poll.backoff, at.stand.settings.poll.backoff_limit)
