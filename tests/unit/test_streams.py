"""The consumer of the changes topic as FastStream runs it: a batch is admitted whole, and only then acknowledged."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import CommitFailedError, IllegalStateError
from faststream.kafka import TestKafkaBroker
from structlog.testing import capture_logs

from relay.domain.errors import Unavailable
from relay.domain.messages import Incoming
from relay.streams import consuming, documented
from relay.wire.kafka import Capabilities, KafkaAccess, Topics

TOPICS = Topics("relay")


@dataclass
class Gate:
    """Admission that takes batches, or fails as told."""

    batches: list = field(default_factory=list)
    trouble: Exception | None = None

    async def run_once(self, batch):
        self.batches.append(batch)
        if self.trouble:
            raise self.trouble
        return len(batch)


class Hanging:
    """Admission that never ends."""

    def __init__(self):
        self.entered = asyncio.Event()

    async def run_once(self, _batch):
        self.entered.set()
        await asyncio.Event().wait()


@dataclass
class Consumer:
    """What the broker hears back."""

    commits: int = 0
    seeks: list = field(default_factory=list)
    trouble: Exception | None = None

    async def commit(self):
        self.commits += 1
        if self.trouble:
            raise self.trouble

    def seek(self, partition, offset):
        self.seeks.append((partition.partition, offset))
        if self.trouble:
            raise self.trouble


def record(offset, value=b"{}", headers=(), partition=0):
    return ConsumerRecord(
        TOPICS.changes, partition, offset, 0, 0, b"key", value, None, 3, len(value or b""), tuple(headers)
    )


@asynccontextmanager
async def subscribed(gate, consumer):
    """The subscriber of the changes topic, whose broker is `consumer`."""
    capabilities = Capabilities(idempotent_producer=True, partitions_can_grow=True, session_timeout_ms=6000)
    broker = consuming(KafkaAccess("localhost:9092"), capabilities, TOPICS, gate, pause=0)
    async with TestKafkaBroker(broker):
        [subscriber, *_] = broker.subscribers
        subscriber.parser._setup(consumer)
        yield subscriber


async def consumed(gate, *records, trouble=None):
    consumer = Consumer(trouble=trouble)
    async with subscribed(gate, consumer) as subscriber:
        await subscriber.consume(tuple(records))
    return consumer


async def test_a_batch_is_admitted_and_acknowledged():
    gate = Gate()
    consumer = await consumed(gate, record(4, headers=[("ce_id", b"a")]), record(5, value=None))
    assert gate.batches == [
        [
            Incoming(TOPICS.changes, 0, 4, b"key", b"{}", (("ce_id", b"a"),)),
            Incoming(TOPICS.changes, 0, 5, b"key", None, ()),
        ]
    ]
    assert (consumer.commits, consumer.seeks) == (1, [])


@pytest.mark.parametrize("headers", [[("mine", b"\xff\xfe")], [("mine", None)], [("reply_to", b"x")]])
async def test_headers_that_are_no_text_reach_admission_as_they_are(headers):
    gate = Gate()
    consumer = await consumed(gate, record(4, headers=headers))
    assert gate.batches[0][0].headers == tuple(headers)
    assert consumer.commits == 1


@pytest.mark.parametrize(
    ("trouble", "event"), [(Unavailable("away"), "events.deferred"), (ZeroDivisionError(), "admission.died")]
)
async def test_a_batch_that_could_not_be_admitted_is_read_again_from_its_first_message(trouble, event):
    with capture_logs() as logs:
        consumer = await consumed(Gate(trouble=trouble), record(4), record(7, partition=1), record(5))
    assert (consumer.commits, sorted(consumer.seeks)) == (0, [(0, 4), (1, 7)])
    assert [line["event"] for line in logs] == [event]


@pytest.mark.parametrize("trouble", [None, Unavailable("away")])
async def test_a_partition_that_went_to_another_member_meanwhile_is_theirs(trouble):
    gone = IllegalStateError("no longer assigned") if trouble else CommitFailedError("rebalanced")
    with capture_logs() as logs:
        await consumed(Gate(trouble=trouble), record(4), trouble=gone)
    assert logs[-1]["event"] == "events.unacknowledged"


async def test_a_batch_whose_admission_is_cut_off_is_not_acknowledged():
    """FastStream before 0.7.4 acknowledged what was cancelled (2999): a batch that was never admitted was gone."""
    gate, consumer = Hanging(), Consumer()
    async with subscribed(gate, consumer) as subscriber:
        task = asyncio.create_task(subscriber.consume((record(4),)))
        await asyncio.wait_for(gate.entered.wait(), 30)
        task.cancel()
        await asyncio.wait([task])
    assert (consumer.commits, consumer.seeks) == (0, [])


async def test_each_stage_has_its_own_topics_and_group():
    capabilities = Capabilities(idempotent_producer=True, partitions_can_grow=True, session_timeout_ms=6000)
    broker = consuming(KafkaAccess("localhost:9092"), capabilities, TOPICS, Gate(), Gate())
    groups = {each.group_id: [topic.name for topic in each.topics] for each in broker.subscribers}
    assert groups == {
        "relay.admit": [TOPICS.changes, TOPICS.command_results],
        "relay.commands": [TOPICS.commands],
    }


def test_the_document_names_every_topic():
    channels = documented(TOPICS).schema.to_specification().to_jsonable()["channels"]
    addresses = {each["address"] for each in channels.values()}
    assert addresses == {
        TOPICS.changes,
        TOPICS.state,
        TOPICS.commands,
        TOPICS.command_results,
        TOPICS.dead_letters,
        TOPICS.operations,
    }
