"""Working: one worker, wired from what it stands on.

worker(settings, parts) -> Worker     leases, runners, consumer, health
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from relay.app.serving import http
from relay.app.standing import Parts, egress, kafka_access, masters
from relay.connectors import CONNECTORS
from relay.control import KeyCare
from relay.control.keys import MOST_NAMED
from relay.domain.errors import Unavailable
from relay.domain.lanes import Memory
from relay.ports import Claimed
from relay.runners import ConnectionParts, ConnectionRunner, EndpointParts, EndpointRunner, utc_now
from relay.settings import Settings
from relay.stages.admit import Admit
from relay.stages.admit_command import Limits
from relay.stages.carry import Times
from relay.stages.expire import Expire
from relay.stages.held import Runner
from relay.stages.lease import KeepLeases
from relay.stages.letters import Letters
from relay.stages.notify import Notify
from relay.stages.poll import Patience
from relay.stages.publish import Destinations
from relay.stages.reconcile import Doubt
from relay.stages.take_commands import TakeCommands
from relay.stages.unblock import Unblock
from relay.stages.watch import Watch
from relay.store.admission import AdmitStore
from relay.store.command_admission import CommandIntake
from relay.store.commands import CommandStore
from relay.store.database import STANDSTILL, Database, listen, opened
from relay.store.deliveries import DeliveryStore
from relay.store.idempotency import IdempotencyStore
from relay.store.keys import KeyStore
from relay.store.leases import LeaseStore
from relay.store.mappings import MappingStore
from relay.store.named import CHANGED
from relay.store.notices import NoticeStore
from relay.store.orders import OrderStore
from relay.store.outbox import OutboxStore
from relay.store.replay import ReplayStore
from relay.store.retention import RetentionStore
from relay.store.standstill import Standstills
from relay.store.syncs import ASKED, SyncStore
from relay.store.watch import DueEndpoints, FullOutboxes
from relay.streams import begin, consuming
from relay.vault.masters import MasterKeys
from relay.vault.vault import Vault
from relay.wire.kafka import Capabilities, KafkaAccess, Topics, probe
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import ensure_topics
from relay.wire.tls import trust_one_bundle

if TYPE_CHECKING:
    from relay.api.app import Check

log = structlog.get_logger()

FORGET_AGAIN, FORGET_MORE = 600.0, 0.2
"""Seconds between looks for events that are old enough to be forgotten; and between bites while there are some."""
LOOK_FOR_STANDSTILLS = timedelta(seconds=5)
"""Between looks for database sessions of processes that stand still."""
WATCH_AGAIN = timedelta(seconds=30)
"""Between looks for deliveries that are due and of which nobody was told."""
LISTEN_AGAIN = 2.0
"""Seconds before the line that wakes a worker is opened again; until then timers do its work."""


@dataclass
class Worker:
    """Everything one process does, wired. `run` works until `stop` is set."""

    connections: KeepLeases
    endpoints: KeepLeases
    watches: Sequence[Watch]
    consumer: KafkaBroker
    retention: RetentionStore
    idempotency: IdempotencyStore
    notify: Notify
    unblock: Unblock
    expire: Expire
    database_url: str
    health: str

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what is in flight and give the leases back."""
        async with asyncio.TaskGroup() as tasks:
            work = (
                *(self._listen(), self._forget(), self.notify.run(), self.unblock.run(), self.expire.run()),
                *(each.run() for each in self.watches),
            )
            background = [tasks.create_task(each) for each in work]
            leases = [tasks.create_task(each.run()) for each in (self.connections, self.endpoints)]
            try:
                await self._consume()
                log.info("worker.started", health=self.health)
                await stop.wait()
                log.info("worker.stopping")
                self.connections.stop()
                self.endpoints.stop()
                await asyncio.wait(leases)
            finally:
                await self.consumer.stop()
            for task in background:
                task.cancel()
        log.info("worker.stopped")

    async def _consume(self) -> None:
        try:
            await begin(self.consumer)
        except KafkaError as error:
            raise Unavailable(f"the topics cannot be read: {type(error).__name__}: {error}") from error

    async def _forget(self) -> None:
        while True:
            more = 0
            try:
                turned = await self.retention.turn_days()
                if turned.made or turned.dropped:
                    log.info("attempts.turned", made=len(turned.made), dropped=len(turned.dropped))
                if forgotten := await self.retention.forget():
                    log.info("events.forgotten", events=forgotten)
                more = forgotten + await self.retention.forget_attempts() + await self.idempotency.forget()
                more += await self.retention.forget_syncs() + await self.retention.forget_commands()
                await self.retention.forget_replays()
            except Unavailable as error:
                log.warning("events.kept", problem=str(error))
            await asyncio.sleep(FORGET_MORE if more else FORGET_AGAIN)

    async def _listen(self) -> None:
        def changed(subjects: str) -> None:
            for each in (self.connections, self.endpoints):
                each.look(_ids(subjects))

        def due(subjects: str) -> None:
            self.endpoints.ring(_ids(subjects))
            if not subjects:  # The line is new: what was said before is looked for.
                for each in self.watches:
                    each.ring()

        def asked(subjects: str) -> None:
            self.connections.ring(_ids(subjects))

        while True:
            try:
                await listen(
                    self.database_url,
                    {CHANGED: changed, ASKED: asked, "relay_deliveries": due, "relay_notices": self.notify.ring},
                )
            except Unavailable as error:
                log.warning("worker.deaf", problem=str(error))
            await asyncio.sleep(LISTEN_AGAIN)


@asynccontextmanager
async def worker(settings: Settings, standing_on: Parts, local: Path | None = None) -> AsyncIterator[Worker]:
    """A wired worker, its topics made and its HTTP side served, at the socket `local`, too.

    Raises:
        Unavailable: database or broker do not answer.
        UserError: a setting, key or port cannot be used.
    """
    trust_one_bundle(os.environ)
    keys = masters(settings)
    access = kafka_access(settings, standing_on.bootstrap)
    topics = Topics(settings.kafka.prefix)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keys.close)
        database = await stack.enter_async_context(
            opened(standing_on.database_url, connections=settings.database.connections)
        )
        # Of their own: whoever waits behind thousands of endpoints' work would lose what it holds meanwhile.
        leasing = await stack.enter_async_context(opened(standing_on.database_url, connections=3))
        capabilities = await probe(access)

        async def make_topics() -> None:
            await ensure_topics(
                access,
                capabilities,
                topics,
                partitions=settings.kafka.partitions,
                replication=settings.kafka.replication,
                retention=settings.kafka.retention,
            )

        await make_topics()
        publisher = Publisher(
            access, capabilities, deadline=settings.kafka.timeout.total_seconds(), prepare=make_topics
        )
        stack.push_async_callback(publisher.stop)

        async def broker_answers() -> None:
            await probe(access, deadline=2)

        await _tell_missing(KeyCare(KeyStore(database), lambda: Vault(keys, KeyStore(database))))
        checks: dict[str, Check] = {"broker": broker_answers}
        health = await stack.enter_async_context(http(settings, standing_on.database_url, checks, local))
        yield _wired(
            settings, Wires(database, leasing, keys, access, capabilities, topics, publisher), standing_on, health
        )


async def _tell_missing(care: KeyCare) -> None:
    """Of master keys that data keys need and that are not here: their customers' work is not done."""
    for master, customers in (await care.missing()).items():
        log.error("keys.missing", master_key=master, customers=customers[:MOST_NAMED], count=len(customers))


@dataclass(frozen=True, slots=True)
class Wires:
    """What is open while a worker runs."""

    database: Database
    leasing: Database
    keys: MasterKeys
    access: KafkaAccess
    capabilities: Capabilities
    topics: Topics
    publisher: Publisher


def _wired(settings: Settings, wires: Wires, standing_on: Parts, health: str) -> Worker:
    vault = Vault(wires.keys, KeyStore(wires.database))
    admissions = AdmitStore(wires.database)
    topics = wires.topics
    connections = ConnectionParts(
        kinds=CONNECTORS,
        vault=vault,
        orders=OrderStore(wires.database),
        syncs=SyncStore(wires.database),
        mappings=MappingStore(wires.database),
        outbox=OutboxStore(wires.database, settings.kafka.stale_after),
        publisher=wires.publisher,
        admissions=admissions,
        topics=Destinations(topics.changes, topics.state, topics.dead_letters, topics.command_results),
        patience=Patience(settings.poll.backoff, settings.poll.backoff_limit),
        doubt=Doubt(settings.poll.missing_passes, settings.poll.missing_share),
        commands=CommandStore(wires.database),
        times=Times(settings.commands.settle, stale=settings.leases.ttl),
        commands_at_once=settings.commands.at_once,
    )
    endpoints = EndpointParts(
        vault,
        DeliveryStore(wires.database),
        settings.deliver.connect,
        egress(settings),
        Memory(settings.deliver.memory),
        settings.deliver.origin,
        ReplayStore(wires.database),
    )
    letters, intake = Letters(wires.publisher, topics.dead_letters), CommandIntake(wires.database)
    limits = Limits(settings.commands.largest, settings.commands.expire_after)
    owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"

    def connection_runner(claimed: Claimed) -> ConnectionRunner:
        return ConnectionRunner(claimed, connections)

    def endpoint_runner(claimed: Claimed) -> EndpointRunner:
        return EndpointRunner(claimed, endpoints)

    connections_held = _leases(settings, wires.leasing, "connections", owner, connection_runner)
    endpoints_held = _leases(settings, wires.leasing, "endpoints", owner, endpoint_runner)
    stale = settings.kafka.stale_after
    return Worker(
        connections=connections_held,
        endpoints=endpoints_held,
        watches=(
            Watch("connections", owner, FullOutboxes(wires.database, stale), connections_held.ring, stale),
            Watch("endpoints", owner, DueEndpoints(wires.database), endpoints_held.ring, WATCH_AGAIN),
        ),
        consumer=consuming(
            wires.access,
            wires.capabilities,
            topics,
            Admit(admissions, letters),
            TakeCommands(intake, letters, limits, utc_now, signed=settings.commands.signed == "required"),
        ),
        expire=Expire(intake, utc_now),
        retention=RetentionStore(wires.database, settings.database.keep),
        idempotency=IdempotencyStore(wires.database),
        notify=Notify(NoticeStore(wires.database, settings.database.keep), wires.publisher, topics.operations),
        unblock=Unblock(Standstills(wires.leasing, timedelta(seconds=STANDSTILL)), LOOK_FOR_STANDSTILLS),
        database_url=standing_on.database_url,
        health=health,
    )


def _ids(subjects: str) -> list[str]:
    return subjects.split(",") if subjects else []


def _leases(
    settings: Settings, database: Database, table: str, owner: str, start: Callable[[Claimed], Runner]
) -> KeepLeases:
    return KeepLeases(
        kind=table,
        owner=owner,
        store=LeaseStore(database, table, settings.leases.ttl),
        start=start,
        ttl=settings.leases.ttl.total_seconds(),
        tick=settings.leases.tick.total_seconds(),
        drain=settings.drain.total_seconds(),
    )
