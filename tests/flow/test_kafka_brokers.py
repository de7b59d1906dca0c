"""One suite over every broker that relay runs with: the embedded one and Apache Kafka, read by a foreign client."""

import asyncio
import contextlib
import os
import signal
import time
import traceback
import uuid
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from faststream.kafka import KafkaBroker
from structlog.testing import capture_logs

from relay.domain.cloudevents import cloudevent_headers, read_cloudevent
from relay.domain.errors import CredentialsRefused, Unavailable, UserError
from relay.domain.messages import Message, MessageRefused, Published, Reason
from relay.embedded import broker as embedded_broker
from relay.wire.kafka import KafkaAccess, Topics, probe, security
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import MESSAGE_LIMIT, ensure_topics

PARTITIONS = 3
RETENTION = timedelta(days=14)
READ_DEADLINE = 30.0

APACHE = pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.slow])
only_apache = pytest.mark.parametrize("broker", [APACHE], indirect=True)
"""For what the embedded broker does not do: it takes any size and replication, makes topics on demand, stays up."""


class Apache:
    """The session's Apache Kafka, as this suite wants its brokers."""

    real = True

    def __init__(self, kafka):
        self.kafka = kafka
        self.bootstrap = kafka.bootstrap
        self.can_restart = kafka.can_restart

    @property
    def pid(self):
        return self.kafka.process.pid

    async def kill(self):
        await asyncio.to_thread(self.kafka.kill)

    async def back(self):
        await asyncio.to_thread(self.kafka.restart)


class Embedded:
    """The embedded broker with its data on disk; after a kill it comes back by itself."""

    real = False
    can_restart = True

    def __init__(self, program):
        self.program = program
        self.bootstrap = program.bootstrap

    @property
    def pid(self):
        return self.program.pid

    async def kill(self):
        await self.program.kill()

    async def back(self):
        await self.program.up.wait()


@pytest.fixture(params=["embedded", APACHE])
async def broker(request, tmp_path):
    if request.param == "apache":
        yield Apache(request.getfixturevalue("apache_kafka"))
        return
    async with embedded_broker(tmp_path) as program:
        yield Embedded(program)


@contextlib.contextmanager
def frozen(broker):
    """The broker keeps its connections and answers nothing."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


@pytest.fixture
def mortal(broker):
    """A broker that this test may kill."""
    if not broker.can_restart:
        pytest.skip("RELAY_TEST_KAFKA names a broker that is not ours to kill")
    return broker


@pytest.fixture
def access(broker):
    return KafkaAccess(broker.bootstrap)


@pytest.fixture
async def capabilities(access):
    return await probe(access)


@pytest.fixture
def topics():
    return Topics(f"test-{uuid.uuid4().hex[:8]}")


@pytest.fixture
async def created(access, capabilities, topics):
    return await made(access, capabilities, topics)


@pytest.fixture
async def publisher(access, capabilities, created):
    publisher = Publisher(access, capabilities, deadline=5)
    await publisher.start()
    yield publisher
    await publisher.stop()


async def made(access, capabilities, topics, **changed):
    figures = {"partitions": PARTITIONS, "replication": 1, "retention": RETENTION} | changed
    return await ensure_topics(access, capabilities, topics, **figures)


def read_all(bootstrap, topic):
    """Every message of a topic, each partition in its order, by confluent-kafka."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.partition.eof": True}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=READ_DEADLINE).topics[topic].partitions
        consumer.assign(
            [confluent_kafka.TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING) for number in partitions]
        )
        found, ended, until = [], set(), time.monotonic() + READ_DEADLINE
        while len(ended) < len(partitions) and time.monotonic() < until:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                ended.add(message.partition())
        assert len(ended) == len(partitions), "not every partition was read to its end in time"
        return found
    finally:
        consumer.close()


async def arrived(broker, topic):
    return await asyncio.to_thread(read_all, broker.bootstrap, topic)


def orders(topic, *, keys, each, size=200):
    """`each` messages for every key, round robin, numbered per key from 1."""
    filling = os.urandom(size // 2).hex()
    return [
        Message(topic, f"c|{key}".encode(), f"{number}:{filling}".encode())
        for number in range(1, each + 1)
        for key in range(keys)
    ]


def numbers(messages):
    """Per key, the numbers in the order of the topic."""
    found = defaultdict(list)
    for message in messages:
        found[message.key()].append(int(message.value().split(b":")[0]))
    return found


def configs(broker, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    [future] = admin.describe_configs([resource]).values()
    return {name: entry.value for name, entry in future.result(timeout=READ_DEADLINE).items()}


async def test_topics_are_created_with_their_partitions_and_configs(broker, topics, created):
    orders = {topics.changes, topics.state, topics.commands, topics.command_results, topics.dead_letters}
    names = orders | {topics.operations}
    assert set(created) == names
    seen = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=READ_DEADLINE).topics
    assert {name: len(seen[name].partitions) for name in names} == dict.fromkeys(names, PARTITIONS)
    changes = await asyncio.to_thread(configs, broker, topics.changes)
    assert changes["cleanup.policy"] == "delete"
    assert changes["retention.ms"] == str(RETENTION // timedelta(milliseconds=1))
    state = await asyncio.to_thread(configs, broker, topics.state)
    assert state["cleanup.policy"] == "compact"


async def test_topics_that_exist_are_left_alone(access, capabilities, topics, created):
    with capture_logs() as logs:
        assert await made(access, capabilities, topics) == []
    assert [entry for entry in logs if entry["event"] == "topic.differs"] == []


async def test_topics_made_at_the_same_time_by_two_workers_are_fine(access, capabilities, topics):
    both = await asyncio.gather(made(access, capabilities, topics), made(access, capabilities, topics))
    assert len(set(both[0] + both[1])) == 6


async def test_a_topic_that_differs_is_reported_and_not_changed(broker, access, capabilities, topics, created):
    with capture_logs() as logs:
        await made(access, capabilities, topics, partitions=4, retention=timedelta(days=1))
    told = {entry["topic"]: entry["differs"] for entry in logs if entry["event"] == "topic.differs"}
    assert told[topics.changes]["partitions"] == {"wanted": 4, "found": PARTITIONS}
    assert told[topics.changes]["retention.ms"]["wanted"] == "86400000"
    found = await asyncio.to_thread(configs, broker, topics.changes)
    assert found["retention.ms"] == str(RETENTION // timedelta(milliseconds=1))


@pytest.fixture
def login(broker):
    """Access that logs in, to a broker that is ours."""
    if not broker.can_restart:
        pytest.skip("RELAY_TEST_KAFKA names a broker whose logins are unknown")
    return KafkaAccess(
        broker.kafka.login_bootstrap, "SASL_PLAINTEXT", sasl_username="relay", sasl_password=broker.kafka.password
    )


@only_apache
async def test_a_login_is_accepted_everywhere(broker, login, topics):
    capabilities = await probe(login)
    await made(login, capabilities, topics)
    publisher = Publisher(login, capabilities)
    assert await publisher.publish(orders(topics.changes, keys=1, each=1)) == Published(1)
    await publisher.stop()
    async with KafkaBroker(login.bootstrap, security=security(login), client_id=login.client_id) as shell:
        await shell.start()
        await shell.publish(b"2:by FastStream", topics.changes, key=b"c|0")
    assert numbers(await arrived(broker, topics.changes)) == {b"c|0": [1, 2]}


@only_apache
async def test_a_refused_login_is_told_from_a_dead_broker_and_shows_no_password(broker, login):
    wrong = uuid.uuid4().hex
    with pytest.raises(CredentialsRefused, match="'relay'") as caught:
        await probe(replace(login, sasl_password=wrong))
    assert wrong not in "".join(traceback.format_exception(caught.value))


@only_apache
async def test_too_few_brokers_for_the_replication_are_named(broker, access, capabilities, topics):
    with pytest.raises(UserError, match="REPLICATION"):
        await made(access, capabilities, topics, replication=7)


async def test_idempotence_is_chosen_by_capability(broker, capabilities):
    assert capabilities.idempotent_producer is broker.real
    assert capabilities.session_timeout_ms == (10_000 if broker.real else 6_000)


async def test_any_client_reads_the_events_in_order_per_purchase_order(broker, topics, publisher):
    sent = orders(topics.changes, keys=20, each=50)
    assert await publisher.publish(sent) == Published(len(sent))
    found = numbers(await arrived(broker, topics.changes))
    assert len(found) == 20
    assert all(each == list(range(1, 51)) for each in found.values())


async def test_keys_headers_and_tombstones_arrive_as_they_were_sent(broker, topics, publisher):
    headers = cloudevent_headers(
        id="evt_1",
        source="relay:connection:c",
        type="purchase_order.deleted",
        time=datetime(2026, 1, 31, 12, tzinfo=UTC),
        subject="PED-Ç1",
    )
    sent = [
        Message(topics.state, b"c|1", b'{"a":"\xc3\xa9"}', headers),
        Message(topics.state, b"c|1", b"", (*headers, ("empty", b""), ("none", None), ("empty", b"again"))),
        Message(topics.state, b"c|1", None, headers),
    ]
    assert await publisher.publish(sent) == Published(3)
    found = await arrived(broker, topics.state)
    assert [(each.key(), each.value()) for each in found] == [(each.key, each.value) for each in sent]
    assert [tuple(each.headers()) for each in found] == [each.headers for each in sent]
    event = read_cloudevent(found[0].key(), found[0].value(), found[0].headers())
    assert (event.id, event.subject) == ("evt_1", "PED-Ç1")


async def test_a_key_has_the_partition_that_other_clients_give_it(broker, topics, publisher):
    keys = [f"c|{number}".encode() for number in range(50)]
    await publisher.publish([Message(topics.changes, key, b"ours") for key in keys])
    other = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for key in keys:
        other.produce(topics.changes, b"theirs", key)
    assert await asyncio.to_thread(other.flush, READ_DEADLINE) == 0
    places = defaultdict(set)
    for message in await arrived(broker, topics.changes):
        places[message.key()].add(message.partition())
    assert all(len(each) == 1 for each in places.values())


async def test_publishers_that_overlap_each_keep_their_order(broker, topics, publisher):
    parts = [
        [Message(topics.changes, f"{part}|1".encode(), f"{number}:".encode()) for number in range(1, 301)]
        for part in range(8)
    ]
    assert await asyncio.gather(*map(publisher.publish, parts)) == [Published(300)] * 8
    found = numbers(await arrived(broker, topics.changes))
    assert all(each == list(range(1, 301)) for each in found.values())


async def test_a_message_over_the_limit_is_named_and_those_before_it_are_safe(broker, topics, publisher):
    sent = orders(topics.changes, keys=2, each=2)
    sent.insert(3, Message(topics.changes, b"c|0", bytes(MESSAGE_LIMIT + 1)))
    published = await publisher.publish(sent)
    assert published.acknowledged == 3
    assert isinstance(published.error, MessageRefused)
    assert (published.error.index, published.error.reason) == (3, Reason.TOO_LARGE)
    assert await publisher.publish(sent[4:]) == Published(1)
    assert sum(map(len, numbers(await arrived(broker, topics.changes)).values())) == 4


async def test_a_message_of_the_limit_is_taken(broker, topics, publisher):
    value = os.urandom(MESSAGE_LIMIT - 3)
    assert await publisher.publish([Message(topics.changes, b"c|1", value)]) == Published(1)
    assert [each.value() for each in await arrived(broker, topics.changes)] == [value]


@only_apache
async def test_the_message_that_the_broker_refuses_is_found_among_its_batch(broker, access, capabilities):
    narrow = f"test-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    [creating] = admin.create_topics([NewTopic(narrow, 1, 1, config={"max.message.bytes": "20000"})]).values()
    await asyncio.to_thread(creating.result, READ_DEADLINE)
    publisher = Publisher(access, capabilities, deadline=5)
    sent = orders(narrow, keys=1, each=5)
    # Random bytes do not compress, and all six share a batch.
    sent.insert(3, Message(narrow, b"c|0", os.urandom(60_000)))
    published = await publisher.publish(sent)
    assert published.acknowledged == 3
    assert isinstance(published.error, MessageRefused)
    assert (published.error.index, published.error.reason) == (3, Reason.TOO_LARGE)
    assert await publisher.publish(sent[4:]) == Published(2)
    await publisher.stop()
    assert numbers(await arrived(broker, narrow)) == {b"c|0": [1, 2, 3, 4, 5]}


@only_apache
async def test_a_missing_topic_is_named(broker, access, capabilities):
    publisher = Publisher(access, capabilities, deadline=1)
    published = await publisher.publish([Message("nobody-made-me", b"k", b"v")])
    await publisher.stop()
    assert published.acknowledged == 0
    assert "nobody-made-me" in str(published.error)


async def test_a_publisher_cancelled_midway_goes_on_afterwards(broker, topics, publisher):
    sent = orders(topics.changes, keys=5, each=2000)
    task = asyncio.create_task(publisher.publish(sent))
    await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await publisher.publish(sent) == Published(len(sent))
    found = numbers(await arrived(broker, topics.changes))
    assert all(first_times(each) == list(range(1, 2001)) for each in found.values())


def first_times(found):
    return list(dict.fromkeys(found))


async def test_what_was_acknowledged_before_the_broker_died_is_there_and_the_rest_follows_in_order(
    mortal, topics, publisher
):
    sent = orders(topics.changes, keys=7, each=3000)
    flowing = asyncio.Event()
    done, error, pieces = 0, None, iter(range(0, len(sent), 700))

    async def publish():
        nonlocal done, error
        for start in pieces:
            published = await publisher.publish(sent[start : start + 700])
            done = start + published.acknowledged
            if done >= 2100:
                flowing.set()
            if published.error:
                error = published.error
                return

    publishing = asyncio.create_task(publish())
    await flowing.wait()
    await mortal.kill()
    await publishing
    # The embedded broker may be back before the publisher gives up.
    assert isinstance(error, Unavailable) or (error is None and not mortal.real and done == len(sent))

    await mortal.back()
    in_broker = numbers(await arrived(mortal, topics.changes))
    for key, acknowledged in numbers_of(sent[:done]).items():
        assert first_times(in_broker[key])[: len(acknowledged)] == acknowledged

    assert await publisher.publish(sent[done:]) == Published(len(sent) - done)
    found = numbers(await arrived(mortal, topics.changes))
    assert {key: first_times(each) for key, each in found.items()} == numbers_of(sent)


def numbers_of(messages):
    found = defaultdict(list)
    for message in messages:
        found[message.key].append(int(message.value.split(b":")[0]))
    return found


async def test_a_broker_that_hangs_is_given_up_in_time_and_used_again_when_it_goes_on(mortal, topics, publisher):
    sent = orders(topics.changes, keys=3, each=500)
    publisher.deadline = 1
    with frozen(mortal):
        async with asyncio.timeout(publisher.deadline + 5):
            published = await publisher.publish(sent)
        assert published.acknowledged == 0
        assert isinstance(published.error, Unavailable)
    publisher.deadline = 10
    assert await publisher.publish(sent) == Published(len(sent))
    found = numbers(await arrived(mortal, topics.changes))
    assert all(first_times(each) == list(range(1, 501)) for each in found.values())


@only_apache
async def test_a_dead_broker_is_reported_in_time_and_used_again_when_it_is_back(mortal, access, topics, publisher):
    await mortal.kill()
    try:
        async with asyncio.timeout(publisher.deadline + 5):
            published = await publisher.publish(orders(topics.changes, keys=1, each=1))
        assert published.acknowledged == 0
        assert isinstance(published.error, Unavailable)
        with pytest.raises(Unavailable, match=mortal.bootstrap):
            await probe(access)
    finally:
        await mortal.back()
    assert await publisher.publish(orders(topics.changes, keys=1, each=1)) == Published(1)
