"""The straight line, whole: a change in a Protheus becomes an event on the topic and a verified webhook."""

import asyncio

import orjson
import pytest
from confluent_kafka import Producer

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from tests.fixtures.line import eventually, known_as, state_of

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(10)
        yield running


def lines(*quantities):
    return [NewLine("PAR-M8-30", quantity, 1.25) for quantity in quantities]


async def test_a_change_in_the_erp_becomes_an_ordered_event_and_a_verified_webhook(line, erp):
    connection = await line.protheus(erp)
    at_start = len(erp.purchase_orders(deleted=False))
    async with line.receiver() as hook:
        worker = await line.worker()
        await eventually(lambda: hook.tally.unique == at_start, "the first sync")
        await line.synced(connection)

        order = erp.create_order(lines(10, 4))
        name = known_as(connection, order)
        await eventually(lambda: hook.tally.latest.get(name) == 1, "created")
        erp.approve(order)
        await eventually(lambda: hook.tally.latest.get(name) == 2, "approved")
        erp.receive(order, "0001", 10)
        await eventually(lambda: hook.tally.latest.get(name) == 3, "received")
        erp.delete_order(order)
        await eventually(lambda: hook.tally.latest.get(name) == 4, "deleted")
        assert await worker.stop() == 0

        assert (hook.tally.out_of_order, hook.tally.duplicates, hook.tally.refused) == (0, 0, 0)
    key = f"{connection}|{state_of(erp, order)}".encode()
    told = await asyncio.to_thread(
        line.consume, "changes", until=lambda records: sum(r.key() == key for r in records) == 4
    )
    ours = [record for record in told if record.key() == key]
    assert [dict(record.headers())["ce_type"].decode() for record in ours] == [
        f"purchase_order.{kind}" for kind in ("created", "approved", "quantity_received", "deleted")
    ]
    assert [dict(record.headers())["ce_sequence"] for record in ours] == [b"1", b"2", b"3", b"4"]
    assert {dict(record.headers())["ce_specversion"] for record in told} == {b"1.0"}
    assert [orjson.loads(record.value())["data"]["sequence"] for record in ours] == [1, 2, 3, 4]
    state = await asyncio.to_thread(
        line.consume, "state", until=lambda records: any(r.key() == key and r.value() is None for r in records)
    )
    assert orjson.loads(next(r for r in state if r.key() == key).value())["number"] == order.number


async def test_a_clean_restart_repeats_nothing_and_misses_nothing(line, erp):
    connection = await line.protheus(erp)
    async with line.receiver() as hook:
        first = await line.worker()
        await eventually(lambda: hook.tally.unique == len(erp.purchase_orders(deleted=False)), "the first sync")
        assert await first.stop() == 0
        order = erp.create_order(lines(3))
        await line.worker()
        await eventually(lambda: hook.tally.latest.get(known_as(connection, order)) == 1, "what changed meanwhile")
        assert hook.tally.duplicates == 0


async def test_two_workers_share_and_one_takes_over_when_the_other_dies(line, erp):
    connection = await line.protheus(erp)
    async with line.receiver() as hook, line.receiver(name="second") as second:
        workers = [await line.worker(), await line.worker()]
        await eventually(
            lambda: second.tally.unique == hook.tally.unique == len(erp.purchase_orders(deleted=False)),
            "the first sync",
        )
        await eventually(lambda: all(worker.said("lease.taken") for worker in workers), "both have work")
        workers[0].kill()
        order = erp.create_order(lines(3))
        name = known_as(connection, order)
        await eventually(lambda: hook.tally.latest.get(name) == second.tally.latest.get(name) == 1, "taken over")
        assert (hook.tally.out_of_order, second.tally.out_of_order) == (0, 0)


async def test_a_receiver_that_was_down_gets_everything_in_order(line, erp):
    connection = await line.protheus(erp)
    down = True
    async with line.receiver(answer=lambda _: 503 if down else 204) as hook:
        await line.worker()
        await eventually(lambda: hook.tally.refused >= len(erp.purchase_orders(deleted=False)), "all are refused once")
        order = erp.create_order(lines(3))
        erp.approve(order)
        await eventually(lambda: hook.tally.refused > len(erp.purchase_orders(deleted=False)), "the new one too")
        erp.receive(order, "0001", 1)
        down = False
        name = known_as(connection, order)
        await eventually(lambda: hook.tally.latest.get(name, 0) >= 2, "caught up")
        await eventually(lambda: hook.tally.unique >= len(erp.purchase_orders(deleted=False)) + 1, "the others too")
        assert hook.tally.out_of_order == 0


async def test_a_broker_that_dies_and_returns_costs_no_event(line, erp, embedded_broker):
    connection = await line.protheus(erp)
    async with line.receiver() as hook:
        await line.worker()
        await eventually(lambda: hook.tally.unique == len(erp.purchase_orders(deleted=False)), "the first sync")
        for _ in range(3):
            order = erp.create_order(lines(3))
            await embedded_broker.kill()
            erp.approve(order)
            name = known_as(connection, order)
            await eventually(lambda name=name: hook.tally.latest.get(name, 0) >= 1, "delivered")
        assert hook.tally.out_of_order == 0


async def test_junk_on_the_changes_topic_goes_to_the_dead_letters_byte_for_byte(line, erp):
    await line.protheus(erp)
    async with line.receiver() as hook:
        await line.worker()
        await eventually(lambda: hook.tally.unique == len(erp.purchase_orders(deleted=False)), "the first sync")
        producer = Producer({"bootstrap.servers": line.bootstrap})
        known = {
            "ce_specversion": "1.0",
            "ce_id": "evt_stranger",
            "ce_source": "/x",
            "content-type": "application/json",
        }
        for value, headers in (
            (b"\xff\x00junk", {"mine": "kept"}),
            (b"{}", {**known, "ce_type": "purchase_order.exploded"}),
            (b"{}", {**known, "ce_type": "purchase_order.created"}),
        ):
            producer.produce(line.topic("changes"), value, key=b"k", headers=headers)
        await asyncio.to_thread(producer.flush, 10)
        letters = await asyncio.to_thread(line.consume, "dead-letters", until=lambda records: len(records) == 3)
        reasons = {dict(letter.headers())["relay-reason"]: letter for letter in letters}
        assert set(reasons) == {b"not_a_cloudevent", b"unknown_type", b"unknown_event"}
        assert reasons[b"not_a_cloudevent"].value() == b"\xff\x00junk"
        assert dict(reasons[b"not_a_cloudevent"].headers())["mine"] == b"kept"
        order = erp.create_order(lines(3))
        await eventually(lambda: hook.tally.unique == len(erp.purchase_orders(deleted=False)), "the line goes on")
        assert order in erp.orders()
