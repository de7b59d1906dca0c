"""kill -9 of the worker at the worst moments: nothing is lost, order is kept, repeats carry the same id.

RELAY_TEST_KILLS repeats every case that often.
"""

import asyncio
import os
import random
from collections import defaultdict
from decimal import Decimal

import orjson
import pytest
from confluent_kafka import Consumer

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from tests.fixtures.line import eventually, state_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

REPEATS = int(os.environ.get("RELAY_TEST_KILLS", "1"))
ORDERS = 6


class Watched:
    """Everything a receiver was sent, in the order it came."""

    def __init__(self, hook):
        self.hook = hook
        self.ids = defaultdict(list)
        self.last = {}

    def drain(self):
        while not self.hook.received.empty():
            webhook = self.hook.received.get_nowait()
            assert webhook.verified
            data = orjson.loads(webhook.body)["data"]
            seen = self.ids[data["remote_id"]]
            if data["event_id"] in seen:
                continue
            seen.append(data["event_id"])
            assert data["sequence"] == len(seen), "an order's events come in sequence, none is missing"
            self.last[data["remote_id"]] = data["order"]


def quantities(order):
    return [Decimal(line["quantity"]) for line in order["lines"] if not line["remote_was_deleted"]]


def in_erp(erp, order):
    return [Decimal(str(row["C7_QUANT"])) for row in erp.rows(order) if row["D_E_L_E_T_"] != "*"]


async def work(erp, orders, dice):
    """One change somewhere."""
    order = dice.choice(orders)
    rows = [row for row in erp.rows(order) if row["D_E_L_E_T_"] != "*"]
    match dice.randrange(4):
        case 0:
            erp.change_line(order, rows[0]["C7_ITEM"], {"C7_QUANT": dice.randint(50, 500)})
        case 1:
            erp.add_line(order, NewLine("ROL-6204", dice.randint(1, 9), 37.9))
        case 2 if len(rows) > 1:
            erp.delete_line(order, rows[-1]["C7_ITEM"])
        case _:
            erp.receive(order, rows[0]["C7_ITEM"], 1)
    await asyncio.sleep(dice.random() * 0.05)


async def until_reading(line, erp, hook, kill):
    queries = iter(range(3))

    def before_query():
        if next(queries, None) is None:
            kill()

    erp.before_query = before_query


async def until_published(line, erp, hook, kill):
    consumer = Consumer(
        {
            "bootstrap.servers": line.bootstrap,
            "group.id": f"kill-{os.urandom(4).hex()}",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "fetch.wait.max.ms": 5,
        }
    )
    consumer.subscribe([line.topic("changes")])

    def watch():
        for _ in range(300):
            if consumer.poll(0.1) is not None:
                kill()
                return

    task = asyncio.create_task(asyncio.to_thread(watch))
    task.add_done_callback(lambda _: consumer.close())


async def until_sent(line, erp, hook, kill):
    hook.kill_before_answer = kill


async def until_answered(line, erp, hook, kill):
    hook.kill_after_answer = kill


async def at_any_time(line, erp, hook, kill):
    asyncio.get_running_loop().call_later(random.random() * 6, kill)


class Plot:
    kill_before_answer = None
    kill_after_answer = None

    def answer(self, _):
        if self.kill_before_answer:
            self.kill_before_answer()
        if self.kill_after_answer:
            asyncio.get_running_loop().call_soon(self.kill_after_answer)
        return 204


@pytest.mark.parametrize("repeat", range(REPEATS))
@pytest.mark.parametrize("when", [until_reading, until_published, until_sent, until_answered, at_any_time])
async def test_a_killed_worker_loses_nothing_and_repeats_only_equal_ids(line, when, repeat):
    dice = random.Random(repeat)
    plot = Plot()
    async with simulated_protheus(Options()) as erp, line.receiver(answer=plot.answer) as hook:
        erp.seed(0)
        orders = [erp.create_order([NewLine("PAR-M8-30", 100, 1.25)], note="x") for _ in range(ORDERS)]
        connection = await line.protheus(erp)
        watched = Watched(hook)
        for _ in range(2):
            worker = await line.worker()
            await when(line, erp, plot, worker.kill)
            while worker.process.returncode is None:
                await work(erp, orders, dice)
                watched.drain()
            erp.before_query = plot.kill_before_answer = plot.kill_after_answer = None
            await worker.process.wait()
            await work(erp, orders, dice)
        await line.worker()

        def arrived():
            watched.drain()
            return all(
                quantities(watched.last.get(state_of(erp, order), {"lines": []})) == in_erp(erp, order)
                for order in orders
            )

        await eventually(arrived, "every order as the ERP has it")
        events = (await line.registry.connection(connection)).counts["events"]
        await eventually(lambda: watched.drain() or sum(map(len, watched.ids.values())) == events, "every event")
    told = {event for events in watched.ids.values() for event in events}
    topic = await asyncio.to_thread(
        line.consume,
        "changes",
        until=lambda records: told <= {dict(record.headers())["ce_id"].decode() for record in records},
    )
    sequences = defaultdict(list)
    for record in topic:
        headers = dict(record.headers())
        sequences[record.key()].append(int(headers["ce_sequence"]))
    for numbers in sequences.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts) == list(range(1, len(firsts) + 1)), "first appearances are in order"
