"""The straight line on Apache Kafka: idempotent, in order, compacted where it should be, and none lost when it dies."""

import asyncio
import os
from collections import defaultdict

import orjson
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.wire.kafka import KafkaAccess, Topics, probe
from tests.fixtures.line import eventually, installed, known_as, state_of

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(240)]

KINDS = ("created", "approved", "quantity_received", "deleted")


@pytest.fixture
async def line(tmp_path, database_url, apache_kafka):
    async with installed(tmp_path, database_url, apache_kafka.bootstrap, f"flow-{os.urandom(4).hex()}") as running:
        yield running


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(0)
        yield running


def an_order(erp):
    return erp.create_order([NewLine("PAR-M8-30", 10, 1.25)])


def headers_of(record):
    return {name: value.decode() for name, value in record.headers()}


def configs(line, topic):
    admin = AdminClient({"bootstrap.servers": line.bootstrap})
    (asked,) = admin.describe_configs([ConfigResource("topic", topic)]).values()
    return {name: entry.value for name, entry in asked.result(30).items()}


async def test_a_change_becomes_an_ordered_event_that_any_client_reads(line, erp):
    assert (await probe(KafkaAccess(line.bootstrap))).idempotent_producer
    connection = await line.protheus(erp)
    async with line.receiver() as hook:
        an_order(erp)
        await line.worker()
        await eventually(lambda: hook.tally.unique == 1, "the first sync")
        await line.synced(connection)
        hook.received.get_nowait()
        order = an_order(erp)
        name = known_as(connection, order)
        await eventually(lambda: hook.tally.latest.get(name) == 1, "created")
        for sequence, change in enumerate(
            (lambda: erp.approve(order), lambda: erp.receive(order, "0001", 3), lambda: erp.delete_order(order)), 2
        ):
            change()
            await eventually(lambda sequence=sequence: hook.tally.latest.get(name) == sequence, f"event {sequence}")
        assert (hook.tally.out_of_order, hook.tally.duplicates, hook.tally.refused) == (0, 0, 0)
        webhooks = [hook.received.get_nowait().body for _ in range(4)]

    key = f"{connection}|{state_of(erp, order)}".encode()
    records = await asyncio.to_thread(line.consume, "changes", until=lambda records: len(records) == 5)
    told = [record for record in records if record.key() == key]
    headers = [headers_of(record) for record in told]
    assert [each["ce_type"] for each in headers] == [f"purchase_order.{kind}" for kind in KINDS]
    assert [each["ce_sequence"] for each in headers] == ["1", "2", "3", "4"]
    assert {(each["ce_specversion"], each["ce_subject"]) for each in headers} == {("1.0", name)}
    assert len({each["ce_id"] for each in headers}) == 4
    assert [record.value() for record in told] == webhooks, "the same bytes on the topic and in the webhook"

    states = await asyncio.to_thread(line.consume, "state", until=lambda records: len(records) == 5)
    ours = [record.value() for record in states if record.key() == key]
    assert [orjson.loads(value)["sequence"] for value in ours[:3]] == [1, 2, 3]
    assert ours[3] is None


async def test_topics_are_made_with_their_configurations(line):
    worker = await line.worker()
    await eventually(lambda: worker.said("worker.started"), "started")
    topics = Topics(line.prefix)
    state = await asyncio.to_thread(configs, line, topics.state)
    assert state["cleanup.policy"] == "compact"
    changes = await asyncio.to_thread(configs, line, topics.changes)
    assert (changes["cleanup.policy"], changes["retention.ms"]) == ("delete", str(14 * 24 * 3600 * 1000))
    assert not worker.said("topic.differs")


async def test_a_broker_that_is_killed_under_load_loses_and_reorders_nothing(line, erp, apache_kafka):
    if not apache_kafka.can_restart:
        pytest.skip("the broker of RELAY_TEST_KAFKA is not ours to kill")
    connection = await line.protheus(erp)
    orders = [an_order(erp) for _ in range(40)]
    async with line.receiver() as hook:
        worker = await line.worker()
        await eventually(lambda: hook.tally.unique >= 10, "under way")

        async def load():
            for quantity in range(20, 60):
                for order in orders[quantity % 4 :: 4]:
                    erp.change_line(order, "0001", {"C7_QUANT": quantity})
                await asyncio.sleep(0.1)

        working = asyncio.create_task(load())
        for _ in range(2):
            before = len(worker.said("outbox.waits"))
            await asyncio.to_thread(apache_kafka.kill)
            await eventually(lambda before=before: len(worker.said("outbox.waits")) > before, "the worker misses it")
            await asyncio.to_thread(apache_kafka.restart)
        await working
        latest = defaultdict(dict)

        def arrived():
            while not hook.received.empty():
                data = orjson.loads(hook.received.get_nowait().body)["data"]
                latest[data["remote_id"]][data["sequence"]] = data["order"]["lines"][0]["quantity"]
            return all(
                (told := latest[state_of(erp, order)]) and float(told[max(told)]) == erp.rows(order)[0]["C7_QUANT"]
                for order in orders
            )

        await eventually(arrived, "every order as the ERP has it")
        assert all(sorted(told) == list(range(1, len(told) + 1)) for told in latest.values())
        assert hook.tally.out_of_order == 0
        assert worker.process.returncode is None

    ids = await asyncio.to_thread(
        line.consume,
        "changes",
        until=lambda records: len({headers_of(each)["ce_id"] for each in records}) == sum(map(len, latest.values())),
    )
    sequences = defaultdict(list)
    for record in ids:
        sequences[record.key()].append(int(headers_of(record)["ce_sequence"]))
    for numbers in sequences.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == list(range(1, len(firsts) + 1)), "first appearances are in order"
    assert {key.decode() for key in sequences} == {f"{connection}|{state_of(erp, order)}" for order in orders}
