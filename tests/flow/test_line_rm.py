"""RM on the whole line: a real worker reads a simulated one through faults, kills and short tokens."""

from collections import defaultdict

import orjson
import pytest

from relay.demo.rm import NewItem
from relay.demo.rm_http import RmOptions, simulated_rm
from tests.fixtures.line import eventually

pytestmark = pytest.mark.timeout(180)

TWO = [NewItem(1001, 100, 1.25), NewItem(1002, 4, 37.9)]


@pytest.fixture
async def erp():
    async with simulated_rm(RmOptions(token_lifetime=2)) as running:
        running.seed(0)
        yield running


class Heard:
    """What a receiver heard of each order: its events, each once and in order."""

    def __init__(self, hook):
        self.hook, self.of = hook, defaultdict(dict)

    def types(self, key):
        while not self.hook.received.empty():
            webhook = self.hook.received.get_nowait()
            assert webhook.verified
            event = orjson.loads(webhook.body)
            known = self.of[event["data"]["remote_id"]]
            known.setdefault(event["data"]["event_id"], event)
            assert [each["data"]["sequence"] for each in known.values()] == list(range(1, len(known) + 1))
        return [each["type"].removeprefix("purchase_order.") for each in self.of[f"{key[0]}|{key[1]}"].values()]


async def lives(erp, heard, key):
    """Approve, change, receive and close one order; each step is one event."""
    steps = [
        ("approved", lambda: erp.approve(key)),
        ("updated", lambda: erp.add_line(key, NewItem(1003, 1, 9.9))),
        ("quantity_received", lambda: erp.receive(key, 1, 40)),
        ("closed", lambda: erp.finish(key)),
    ]
    for number, (_, act) in enumerate(steps, 2):
        act()
        await eventually(lambda number=number: len(heard.types(key)) == number, f"event {number}")
    return [name for name, _ in steps]


@pytest.mark.parametrize("by_change", [True, False], ids=["by change", "by comparing"])
async def test_every_change_is_told_once_and_in_order_through_faults_and_a_kill(line, by_change):
    options = RmOptions(token_lifetime=2, by_change=by_change)
    async with simulated_rm(options) as erp, line.receiver() as hook:
        erp.seed(0)
        heard = Heard(hook)
        old = erp.create_order(TWO)
        await line.worker()
        await line.synced(await line.rm(erp, settings={"page_size": 2}))
        await eventually(lambda: heard.types(old) == ["snapshot"], "the first sync")
        faults = iter(["500_ttalk", "html", "reset", "truncated", "429", "html_200", "empty"] * 3)
        erp.faults.chance = lambda call, _request: next(faults, None) if call != "token" else None
        key = erp.create_order(TWO, status="B")
        erp.sell()
        await eventually(lambda: heard.types(key) == ["created"], "the new order")
        line.workers[-1].kill()
        await line.worker()
        told = await lives(erp, heard, key)
        assert heard.types(key) == ["created", *told]
        assert heard.types(old) == ["snapshot"]


async def test_a_cancelled_order_is_cancelled_and_a_deleted_one_is_missed_by_two_passes(line, erp):
    async with line.receiver() as hook:
        heard = Heard(hook)
        keys = [erp.create_order(TWO) for _ in range(8)]
        await line.worker()
        await line.synced(await line.rm(erp, reconcile=0.5))
        erp.cancel(keys[0])
        erp.delete(keys[1])
        await eventually(lambda: heard.types(keys[1])[-1:] == ["deleted"], "the deletion")
        await eventually(lambda: heard.types(keys[0])[-1:] == ["cancelled"], "the cancellation")
        assert all(heard.types(key) == ["snapshot"] for key in keys[2:])
