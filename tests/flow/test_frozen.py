"""A worker that stands still (SIGSTOP, a machine that is suspended), and goes on after another has taken over."""

import asyncio
import os
import random
import signal
from collections import defaultdict

import orjson
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from tests.fixtures.line import eventually, state_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

REPEATS = int(os.environ.get("RELAY_TEST_KILLS", "1"))


def holder(workers):
    """The worker that took the connection last."""
    taken = [
        (line["timestamp"], number)
        for number, worker in enumerate(workers)
        for line in worker.said("lease.taken")
        if line["kind"] == "connections"
    ]
    return workers[max(taken)[1]]


async def stand_still(worker, other):
    """Until the other has taken over, and told what is newer."""
    worker.process.send_signal(signal.SIGSTOP)
    try:
        await eventually(lambda: holder([worker, other]) is other, "taken over")
        told = len(other.said("event.published"))
        await eventually(lambda: len(other.said("event.published")) > told + 2, "the other publishes")
    finally:
        worker.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("repeat", range(REPEATS))
async def test_a_worker_that_stood_still_tells_nothing_old_after_what_is_newer(line, repeat):
    async with simulated_protheus(Options()) as erp, line.receiver() as hook:
        erp.seed(0)
        orders = [erp.create_order([NewLine("PAR-M8-30", 100, 1.25)]) for _ in range(6)]
        await line.protheus(erp, every=0.1)
        workers = [await line.worker(), await line.worker()]
        await eventually(lambda: hook.tally.unique >= len(orders), "the first sync")
        working = asyncio.Event()

        async def work():
            while not working.is_set():
                for order in orders:
                    erp.change_line(order, "0001", {"C7_QUANT": random.randrange(10**6)})
                    await asyncio.sleep(0.01)

        task = asyncio.create_task(work())
        for _ in range(3):
            still = holder(workers)
            await stand_still(still, workers[1 - workers.index(still)])
        working.set()
        await task
        last = {}

        def arrived():
            while not hook.received.empty():
                data = orjson.loads(hook.received.get_nowait().body)["data"]
                last[data["remote_id"]] = data
            return all(
                (told := last.get(state_of(erp, order)))
                and float(told["order"]["lines"][0]["quantity"]) == erp.rows(order)[0]["C7_QUANT"]
                for order in orders
            )

        await eventually(arrived, "every order as the ERP has it")
        assert [await worker.stop() for worker in workers] == [0, 0]
        assert hook.tally.out_of_order == 0
    sequences = defaultdict(list)
    for record in await asyncio.to_thread(line.everything, "changes"):
        sequences[record.key()].append(int(dict(record.headers())["ce_sequence"]))
    for numbers in sequences.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == list(range(1, len(firsts) + 1)), "first appearances are in order"
    states = {each.key(): orjson.loads(each.value()) for each in await asyncio.to_thread(line.everything, "state")}
    assert {each["id"]: each["sequence"] for each in states.values()} == {
        each["order"]["id"]: each["sequence"] for each in last.values()
    }
