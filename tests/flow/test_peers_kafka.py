"""What other consumers of Kafka got wrong, on a real broker and a real store. Each test names whose fault it is."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import aiokafka
import confluent_kafka
import orjson
import pytest

from relay.domain.cloudevents import cloudevent_headers
from relay.domain.errors import Unavailable
from relay.domain.events import EVENT_TYPES
from relay.ports import OutboxEntry
from relay.stages.admit import Admit
from relay.stages.letters import Letters
from relay.stages.publish import Destinations, Publish
from relay.streams import consuming
from relay.wire.kafka import KafkaAccess, Topics, probe
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import ensure_topics
from tests.fixtures.engine import PATIENCE, until
from tests.fixtures.store import NOW

TOPICS = Topics("relay")
PAUSE = 0.2

pytestmark = pytest.mark.timeout(120)


@dataclass
class Admissions:
    """The real store; while it is away it takes nothing."""

    store: object
    away: bool = False
    asked: list = field(default_factory=list)
    admitted: list = field(default_factory=list)
    rewind: Callable = None
    """Read the topic from its beginning again."""

    async def admit(self, event_ids):
        self.asked.append((time.monotonic(), list(event_ids)))
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        done = await self.store.admit(event_ids)
        self.admitted += event_ids
        return done


@dataclass
class Kafka:
    """A broker with its topics, and what relay does with them."""

    access: KafkaAccess
    capabilities: object
    publisher: Publisher
    store: object

    @asynccontextmanager
    async def consumer(self, *, away=False):
        """A consumer of the changes topic, and what it asked of the store."""
        admissions = Admissions(self.store, away)
        admit = Admit(admissions, Letters(self.publisher, TOPICS.dead_letters))
        broker = consuming(self.access, self.capabilities, TOPICS, admit, pause=PAUSE)
        await broker.start()
        [subscriber] = broker.subscribers
        admissions.rewind = lambda: [
            subscriber.consumer.seek(aiokafka.TopicPartition(TOPICS.changes, number), 0) for number in range(2)
        ]
        try:
            yield admissions
        finally:
            await broker.stop()

    async def put(self, *messages):
        """Messages (partition, value, headers) onto the changes topic."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.access.bootstrap})
        for partition, value, headers in messages:
            producer.produce(TOPICS.changes, value, key=b"k", headers=list(headers), partition=partition)
        assert await asyncio.to_thread(producer.flush, PATIENCE) == 0

    async def acknowledged(self):
        """The partitions of which relay's consumer group has acknowledged anything."""
        group = {"bootstrap.servers": self.access.bootstrap, "group.id": f"{TOPICS.prefix}.admit"}
        consumer = confluent_kafka.Consumer(group)
        partitions = [confluent_kafka.TopicPartition(TOPICS.changes, number) for number in range(2)]
        try:
            found = await asyncio.to_thread(consumer.committed, partitions, PATIENCE)
        finally:
            consumer.close()
        return {each.partition for each in found if each.offset > 0}

    async def read(self, topic, count):
        """The first `count` messages of a topic."""
        group = {"bootstrap.servers": self.access.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"}
        consumer = confluent_kafka.Consumer(group)
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(2)])
        try:
            return await asyncio.to_thread(lambda: consumer.consume(count, PATIENCE))
        finally:
            consumer.close()


@pytest.fixture
async def kafka(embedded_broker, world):
    access = KafkaAccess(embedded_broker.bootstrap)
    capabilities = await probe(access)
    await ensure_topics(access, capabilities, TOPICS, partitions=2, replication=1, retention=timedelta(days=1))
    publisher = Publisher(access, capabilities)
    try:
        yield Kafka(access, capabilities, publisher, world.admissions)
    finally:
        await publisher.stop()


def headers(event_id):
    return cloudevent_headers(id=event_id, source="/relay", type="purchase_order.updated", time=NOW)


async def test_a_first_consumer_begins_at_the_beginning_and_nothing_bad_holds_up_what_is_behind_it(kafka, world):
    """Bridge begins at the end, takes equal offsets of two partitions for one event, and drops what it cannot read.

    Aiven fails on a null value, and (204) for ever on any bad record; Kafka Connect drops it without a word.
    """
    erp, hook = await world.connection(), await world.endpoint()
    first, second, third = await world.tell(erp, "p1", "p2", "p3")
    await kafka.put(
        (0, b"{}", headers(first)),
        (0, None, ()),
        (0, None, headers("evt_tombstone")),
        (0, b"\xff\x00junk", (("mine", b"\xff"),)),
        (0, b"{}", headers(second)),
        (1, b"{}", headers(third)),
    )
    async with kafka.consumer() as admissions:
        await until(lambda: {first, second, third} <= set(admissions.admitted))
        letters = await kafka.read(TOPICS.dead_letters, 3)
    assert {each.body for each in await world.heads(hook)} == {b"p1 1", b"p2 1", b"p3 1"}
    reasons = Counter(dict(letter.headers())["relay-reason"] for letter in letters)
    assert reasons == {b"not_a_cloudevent": 2, b"unknown_event": 1}
    assert Counter(letter.value() for letter in letters) == {None: 2, b"\xff\x00junk": 1}


async def test_a_batch_is_read_until_it_is_admitted_and_admitted_once_however_often_it_is_read(kafka, world):
    """FastStream acknowledges first, and a refused batch spins; Svix buries a batch that was refused three times.

    Knative, and whoever acknowledges after the work, admits again what was not acknowledged.
    """
    erp, hook = await world.connection(), await world.endpoint()
    told = await world.tell(erp, "p1", "p2")
    await kafka.put((0, b"{}", headers(told[0])), (1, b"{}", headers(told[1])))
    async with kafka.consumer(away=True) as admissions:
        await until(lambda: len(admissions.asked) >= 5)
        assert await kafka.acknowledged() == set()
        times = [at for at, _ in admissions.asked]
        assert all(later - earlier >= PAUSE for earlier, later in pairwise(times))
        admissions.away = False
        async with asyncio.timeout(PATIENCE):
            while await kafka.acknowledged() != {0, 1}:  # noqa: ASYNC110 - a broker rings no bell
                await asyncio.sleep(0.05)
        assert sorted(admissions.admitted) == sorted(told)

        admissions.rewind()
        await until(lambda: Counter(admissions.admitted) == dict.fromkeys(told, 2))
    assert len(await world.heads(hook)) == 2
    assert await world.one("SELECT count(*) FROM deliveries") == 2


BODY = (
    rb'{ "type":"purchase_order.updated", "data" : {"z":1.0,"a":1e2,"n":12345678901234567890.10,'
    rb'"text":"\u00e9 \ud83d\ude00 \/ <&>" , '
    + '"é":"e\u0301 😀 \u2028",'.encode()
    + rb'"order":{"id":"ord_1","remote_was_deleted":false}}}'
    + b"\r\n"
)


async def test_an_events_bytes_are_the_same_in_the_outbox_on_the_topic_and_at_the_receiver(kafka, engine):
    """Convoy writes JSON anew on its way; Bridge loses key and headers."""
    world = engine.world
    assert orjson.loads(BODY)["type"] in EVENT_TYPES
    engine.erp = await world.connection()
    entry = OutboxEntry("evt_1", "changes", "p1", 1, "purchase_order.updated", NOW, BODY)
    await world.orders.save_page(engine.erp.lease, engine.erp.subject, [], [entry], None)
    destinations = Destinations(TOPICS.changes, TOPICS.state, TOPICS.dead_letters, TOPICS.command_results)
    async with engine.receiving(lambda _: 204) as (hook, claimed), kafka.consumer() as admissions:
        await Publish(engine.erp.lease, world.outbox, kafka.publisher, world.admissions, destinations).run_once()
        await until(lambda: admissions.admitted == ["evt_1"])
        async with engine.running(claimed):
            sent = await asyncio.wait_for(hook.received.get(), PATIENCE)
    [told] = await kafka.read(TOPICS.changes, 1)
    assert told.value() == sent.body == BODY
    assert sent.verified
    assert told.key() == f"{engine.erp.lease.subject}|p1".encode()
    assert dict(told.headers())["ce_id"] == b"evt_1"
    assert sent.event_id == "evt_1"
