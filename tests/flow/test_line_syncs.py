"""Syncs on the whole line: a real worker reads a simulated Protheus again, beside live changes and through kills."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.errors import UserError
from relay.domain.hours import DAYS
from relay.domain.syncs import Announce, SyncKind, SyncState
from tests.fixtures.line import eventually, known_as, state_of

pytestmark = pytest.mark.timeout(180)

SMALL = {"page_size": 5}
MANY = 12


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(0)
        yield running


def lines(*quantities):
    return [NewLine("PAR-M8-30", quantity, 1.25) for quantity in quantities]


class Heard:
    """What a receiver heard of each order: (type, sequence, quantity of its first line)."""

    def __init__(self, hook):
        self.hook, self.of = hook, defaultdict(list)

    def drain(self):
        while not self.hook.received.empty():
            webhook = self.hook.received.get_nowait()
            assert webhook.verified
            event = orjson.loads(webhook.body)
            data = event["data"]
            told = (
                event["type"].removeprefix("purchase_order."),
                data["sequence"],
                data["order"]["lines"][0]["quantity"],
            )
            if told not in self.of[data["remote_id"]]:
                self.of[data["remote_id"]].append(told)
        return self.of

    def types(self):
        return {each[0] for told in self.drain().values() for each in told}


async def ended(line, sync_id):
    async with asyncio.timeout(60):
        while (seen := await line.control.sync(sync_id)).ended_at is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    return seen


async def test_a_resync_beside_live_changes_makes_no_false_event_and_keeps_their_order(line, erp):
    connection = await line.protheus(erp, settings=SMALL)
    orders = [erp.create_order(lines(10)) for _ in range(MANY)]
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        await line.synced(connection)
        begun = await line.control.resync(connection)
        quantity = 10
        while (await line.control.sync(begun.id)).ended_at is None:
            quantity += 1
            for order in (orders[quantity % MANY], orders[0], orders[-1]):
                erp.change_line(order, "0001", {"C7_QUANT": quantity})
            await asyncio.sleep(0.1)
        found = await line.control.sync(begun.id)
        assert (found.state, found.read, found.total) == (SyncState.DONE, MANY, MANY)
        last = {state_of(erp, order): str(erp.rows(order)[0]["C7_QUANT"]) for order in orders}

        def all_heard():
            told = heard.drain()
            return len(told) == MANY and all(float(told[name][-1][2]) == float(last[name]) for name in last)

        await eventually(all_heard, "every order's last quantity")
        for told in heard.of.values():
            assert [sequence for _, sequence, _ in told] == list(range(1, len(told) + 1))
            quantities = [float(each) for _, _, each in told]
            assert quantities == sorted(set(quantities)), "no event tells an older state, and none tells nothing"
        assert heard.types() <= {"snapshot", "updated", "line_updated"}


async def test_a_change_that_polls_missed_is_found_by_a_resync(line, erp):
    connection = await line.protheus(erp)
    order = erp.create_order(lines(10))
    name = known_as(connection, order)
    async with line.receiver() as hook:
        await line.worker()
        await eventually(lambda: hook.tally.latest.get(name) == 1, "the first sync")
        await line.synced(connection)
        # Somebody writes behind the trigger: no stamp moves.
        with erp.stamped_at(None):
            erp.change_line(order, "0001", {"C7_QUANT": 77})
        found = await ended(line, (await line.control.resync(connection)).id)
        assert (found.read, found.told) == (1, 1)
        await eventually(lambda: hook.tally.latest.get(name) == 2, "told")


async def test_a_resync_can_tell_every_order_as_a_snapshot_or_nothing(line, erp):
    connection = await line.protheus(erp)
    for _ in range(3):
        erp.create_order(lines(10))
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        await line.synced(connection)
        found = await ended(line, (await line.control.resync(connection, announce=Announce.SILENT)).id)
        assert (found.read, found.told) == (3, 0)
        window = await line.control.resync(connection, history=timedelta(1), announce=Announce.SNAPSHOT)
        assert (await ended(line, window.id)).told == 3
        await eventually(lambda: sum(map(len, heard.drain().values())) == 6, "each once more")
        assert heard.types() == {"snapshot"}


async def test_a_killed_worker_goes_on_with_the_sync_where_it_was(line, erp):
    connection = await line.protheus(erp, settings=SMALL)
    for _ in range(40):
        erp.create_order(lines(10))
    first = await line.worker()
    await line.synced(connection)
    begun = await line.control.resync(connection, announce=Announce.SNAPSHOT)
    async with asyncio.timeout(60):
        while not 0 < (await line.control.sync(begun.id)).read < 35:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.005)
    first.kill()
    assert (await line.control.sync(begun.id)).ended_at is None
    await line.worker()
    found = await ended(line, begun.id)
    assert (found.read, found.told) == (40, 40)
    events = (await line.registry.connection(connection)).counts["events"]
    assert events == 80, "each order once at first, and once again"


async def test_a_first_sync_tells_its_window_and_an_older_order_when_it_changes(line, erp):
    long_ago = erp.today() - timedelta(days=200)
    with erp.stamped_at(None):
        old = [erp.create_order(lines(10), order_date=long_ago) for _ in range(3)]
    new = [erp.create_order(lines(10)) for _ in range(3)]
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        connection = await line.protheus(erp, settings=SMALL, history_from=erp.today() - timedelta(days=90))
        await line.synced(connection)
        first = (await line.control.syncs(connection))[0]
        assert (first.kind, first.state, first.read, first.total) == (SyncKind.FIRST, SyncState.DONE, 3, 3)
        await eventually(lambda: set(heard.drain()) == {state_of(erp, order) for order in new}, "the window")
        erp.change_line(old[0], "0001", {"C7_QUANT": 11})
        made = erp.create_order(lines(1))
        await eventually(lambda: len(heard.drain()) == 5, "the old one that changed, and a new one")
        assert [each[0] for each in heard.of[state_of(erp, old[0])]] == ["snapshot"]
        assert [each[0] for each in heard.of[state_of(erp, made)]] == ["created"]


async def test_without_stamps_orders_older_than_the_window_are_noted_and_their_next_change_is_told(line):
    async with simulated_protheus(Options(stamps=False)) as erp:
        erp.seed(0)
        old = erp.create_order(lines(10), order_date=erp.today() - timedelta(days=200))
        erp.create_order(lines(10))
        async with line.receiver() as hook:
            heard = Heard(hook)
            await line.worker()
            connection = await line.protheus(erp, history_from=erp.today() - timedelta(days=90))
            await line.synced(connection)
            erp.receive(old, "0001", 4)
            await eventually(lambda: len(heard.drain()) == 2, "both")
            assert [each[:2] for each in heard.of[state_of(erp, old)]] == [("quantity_received", 1)]


async def test_a_silent_first_sync_tells_nothing_before_something_changes(line, erp):
    orders = [erp.create_order(lines(10)) for _ in range(3)]
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        connection = await line.protheus(erp, announce=Announce.SILENT)
        await line.synced(connection)
        erp.receive(orders[1], "0001", 4)
        await eventually(heard.drain, "the change")
        told = {name: [each[:2] for each in events] for name, events in heard.of.items()}
        assert told == {state_of(erp, orders[1]): [("quantity_received", 1)]}
        counts = (await line.registry.connection(connection)).counts
        assert (counts["orders"], counts["events"]) == (3, 1)


async def test_a_worker_killed_in_the_first_sync_goes_on_where_it_was_and_tells_each_order_once(line, erp):
    orders = [erp.create_order(lines(10)) for _ in range(40)]
    connection = await line.protheus(erp, settings=SMALL)
    first = await line.worker()
    async with asyncio.timeout(60):
        while not 0 < (await line.control.syncs(connection))[0].read < 35:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.005)
    first.kill()
    reading = (await line.control.connection(connection)).reading
    assert 0 < reading.read < 40
    erp.change_line(orders[0], "0001", {"C7_QUANT": 99})
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        await line.synced(connection)
        found = (await line.control.syncs(connection))[-1]
        assert (found.read, found.told) == (40, 40)
        changed = state_of(erp, orders[0])
        await eventually(lambda: any(each[1] == 2 for each in heard.drain()[changed]), "what changed meanwhile")
        assert heard.of[changed][-1][0] == "updated"


async def test_a_poll_that_is_asked_for_is_made_at_once(line, erp):
    connection = await line.protheus(erp, every=3600)
    await line.worker()
    await line.synced(connection)
    async with asyncio.timeout(60):
        while (await line.control.connection(connection)).polled_at is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    erp.create_order(lines(10))
    began = asyncio.get_running_loop().time()
    found = await line.control.poll_now(connection, wait=timedelta(seconds=30))
    took = asyncio.get_running_loop().time() - began
    assert (found.state, found.told) == (SyncState.DONE, 1)
    assert took < 10, "long before the next hour"
    print(f"a poll was asked for and answered in {took:.3f} s")  # noqa: T201 - a figure


async def test_an_erp_is_not_asked_in_a_blackout_and_what_was_read_goes_on(line, erp):
    order = erp.create_order(lines(10))
    connection = await line.protheus(erp)
    down, asked = True, []
    async with line.receiver(answer=lambda _: 503 if down else 204) as hook:
        worker = await line.worker()
        await eventually(lambda: hook.tally.refused, "the first sync")
        await line.control.change_connection(connection, schedule={"hours": {"open": [a_later_day()]}})
        assert (await line.control.connection(connection)).schedule.hours.open == (a_later_day(),)
        with pytest.raises(UserError, match="may not be asked now"):
            await line.control.poll_now(connection)
        await eventually(lambda: len(worker.said("lease.taken")) == 3, "its runner begins anew")
        erp.before_query = lambda: asked.append(1)
        erp.approve(order)
        down = False
        await eventually(lambda: hook.tally.unique == 1, "what was read before is delivered")
        assert asked == []
        await line.control.change_connection(connection, schedule={"hours": {"open": []}})
        await eventually(lambda: hook.tally.unique == 2, "it is asked again")
    assert asked


def a_later_day():
    """A window that is closed today and tomorrow, whatever the hour."""
    day = DAYS[(datetime.now(UTC).weekday() + 3) % 7]
    return f"{day} 08:00-09:00"
