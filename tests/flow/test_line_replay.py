"""Sending again through the whole line: under live traffic, in order, over a killed worker, until cancelled."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest

from relay.control import Asked
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from tests.fixtures.line import PATIENCE, eventually, known_as

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(12)
        yield running


class Heard:
    """What a receiver heard, told apart by what it had heard before `again`."""

    def __init__(self):
        self.all, self.before = [], None

    def answer(self, received):
        self.all.append(received)
        return 204

    def again(self):
        self.before = {each.event_id for each in self.all}
        self.all.clear()

    @property
    def repeated(self):
        return [each for each in self.all if each.event_id in self.before]


@asynccontextmanager
async def heard_all(line, erp):
    """A line at rest: every order was told once as a snapshot, and three of them twice more."""
    connection = await line.protheus(erp)
    heard = Heard()
    async with line.receiver(heard.answer) as hook:
        await line.worker()
        orders = erp.purchase_orders(deleted=False)
        await eventually(lambda: hook.tally.unique == len(orders), "the first sync")
        await line.synced(connection)
        busy = [erp.create_order([NewLine("PAR-M8-30", 100, 1.25)]) for _ in range(3)]
        names = [known_as(connection, order) for order in busy]
        await eventually(lambda: [hook.tally.latest.get(name) for name in names] == [1, 1, 1], "created")
        for order in busy:
            erp.approve(order)
        await eventually(lambda: [hook.tally.latest.get(name) for name in names] == [2, 2, 2], "approved")
        async with asyncio.timeout(PATIENCE):
            # What was answered is recorded a moment later.
            while (await line.registry.endpoint("hook")).counts["waiting"]:  # noqa: ASYNC110 - it watches a database
                await asyncio.sleep(0.02)
        heard.again()
        yield heard, hook, busy


async def shown(line, replay, what, true):
    async with asyncio.timeout(PATIENCE):
        while not true(found := await line.control.replaying.replay(replay.id)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    assert found, what
    return found


async def test_everything_is_heard_again_in_order_with_its_ids_while_new_changes_go_on(line, erp):
    async with heard_all(line, erp) as (heard, hook, busy):
        replay = await line.control.replaying.start("hook", Asked(), per_second=10)
        live = 0
        while (await line.control.replaying.replay(replay.id)).state != "done":
            before = hook.tally.unique
            erp.receive(busy[live % len(busy)], "0001", 1)
            await eventually(lambda before=before: hook.tally.unique > before, "what is new is not held up")
            live += 1
        found = await shown(line, replay, "all of it was sent", lambda each: not each.waiting)
        assert (found.found, found.done, found.delivered) == (len(heard.before),) * 3
        assert live
        repeated = heard.repeated
        assert {each.event_id for each in repeated} == heard.before
        assert len(repeated) == len(heard.before)
        by_order = defaultdict(list)
        for each in repeated:
            by_order[each.order_id].append(each.sequence)
        assert all(sequences == sorted(sequences) for sequences in by_order.values())
        assert hook.tally.out_of_order == 0


async def test_a_replay_goes_on_where_a_killed_worker_left_it(line, erp):
    async with heard_all(line, erp) as (heard, _, _):
        replay = await line.control.replaying.start("hook", Asked(), per_second=5)
        await eventually(lambda: len(heard.repeated) >= 3, "some of it")
        line.workers[0].kill()
        assert (await line.control.replaying.replay(replay.id)).state == "running"
        await line.worker()
        await shown(line, replay, "all of it", lambda each: each.state == "done" and not each.waiting)
        assert {each.event_id for each in heard.repeated} == heard.before
        by_order = defaultdict(list)
        for each in heard.repeated:
            by_order[each.order_id].append(each.sequence)
        assert all(sequences == sorted(sequences) for sequences in by_order.values())


async def test_a_cancelled_replay_stops_and_what_is_new_goes_on(line, erp):
    async with heard_all(line, erp) as (heard, hook, _):
        replay = await line.control.replaying.start("hook", Asked(), per_second=1)
        await eventually(lambda: heard.repeated, "the first of it")
        await line.control.replaying.cancel(replay.id)
        stopped = await shown(line, replay, "nothing of it waits", lambda each: not each.waiting)
        assert stopped.done < stopped.found
        before = hook.tally.unique
        erp.create_order([NewLine("PAR-M8-30", 3, 1.25)])
        await eventually(lambda: hook.tally.unique > before, "what is new")
        assert len(heard.repeated) == stopped.delivered


async def test_an_endpoint_that_was_added_later_hears_what_it_missed(line, erp):
    async with heard_all(line, erp) as (heard, _, _):
        late = Heard()
        async with line.receiver(late.answer, name="late"):
            counted = await line.control.replaying.found("late", Asked(statuses=("never",)))
            assert counted.events == len(heard.before)
            await line.control.replaying.start("late", Asked(statuses=("never",)), per_second=200)
            await eventually(lambda: {each.event_id for each in late.all} == heard.before, "all of it")
            assert not any(each.problem for each in late.all)
