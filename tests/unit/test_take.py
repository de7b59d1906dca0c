"""Taking pages beside commands: what a command told while a page was read is read again before the page is stored."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest

from relay.domain.commands import read_command
from relay.domain.errors import RecordRejected, Unavailable
from relay.ports import OpenCommand
from relay.stages.doubts import Doubts
from relay.stages.gate import NEW, Gate
from relay.stages.poll import Patience, Poll
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.take import Take
from tests.fakes import LEASE, START, Erp, World, clock, connection, order, page, run

SYNCED = connection(synced=True)
PATIENCE = Patience(timedelta(seconds=5), timedelta(minutes=15))


class Finding(Erp):
    """An ERP whose new orders are found, or not, by their mark; each look is noted."""

    finds = True
    made = None

    def writer(self):
        return self

    async def find(self, _command):
        self.asked.append("find")
        return self.made


class Side:
    """A poll of one page, and a command that goes on beside it."""

    def __init__(self, *steps, **orders):
        self.world, self.gate = World(), Gate()
        self.erp = Finding([list(steps)], orders=orders)
        self.doubts = Doubts(self.erp)
        take = Take(SYNCED, self.world, clock, lambda: None, gate=self.gate, doubts=self.doubts)
        self.poll = Poll(SYNCED, LEASE, self.erp, self.world, take, clock, float, PATIENCE)

    async def command(self, key, told, seconds=2):
        async with self.gate.command(key):
            await asyncio.sleep(seconds)
            if told:
                self.gate.told(told)

    def polled(self, key, told):
        async def work():
            command = asyncio.create_task(self.command(key, told))
            await asyncio.sleep(0)
            # Begun before the command is over, so that it may show what was before.
            polled = await self.poll.run_once()
            await command
            return polled

        return run(work())

    def quantities(self):
        return {key: snapshot.tree["notes"] for key, snapshot in self.world.known.items()}


def test_what_a_command_told_while_the_page_was_read_is_read_again():
    side = Side(page(order("1", notes="old"), order("2", notes="other")), **{"1": order("1", notes="new")})
    side.polled("1", "1")
    assert side.quantities() == {"1": "new", "2": "other"}
    assert side.erp.asked == ["1"]


def test_nothing_is_read_again_for_a_command_that_told_nothing():
    side = Side(page(order("1", notes="old")))
    side.polled("1", None)
    assert (side.quantities(), side.erp.asked) == ({"1": "old"}, [])


def test_an_order_that_cannot_be_read_again_is_left_as_the_command_told_it():
    side = Side(page(order("1", notes="old"), order("2", notes="other")), **{"1": RecordRejected("no", remote_id="1")})
    side.polled("1", "1")
    assert side.quantities() == {"2": "other"}


def test_one_that_is_gone_by_then_is_left_to_the_full_pass():
    side = Side(page(order("1", notes="old")))
    side.polled("1", "1")
    assert side.quantities() == {}


def test_an_erp_that_fails_then_fails_the_poll():
    side = Side(page(order("1", notes="old")), **{"1": Unavailable("down")})
    assert side.polled("1", "1").problem == "down"
    assert side.quantities() == {}


def test_a_page_with_an_order_never_seen_waits_for_new_ones_that_are_being_made():
    side = Side(page(order("9", notes="half")), **{"9": order("9", notes="whole")})
    side.polled(NEW, "9")
    assert side.quantities() == {"9": "whole"}


def test_a_page_of_known_orders_waits_for_no_new_one():
    side = Side(page(order("1", notes="old")))

    async def work():
        await side.poll.run_once()
        side.erp.polls = [[page(order("1", notes="newest"))]]
        creating = asyncio.create_task(side.command(NEW, "9", seconds=60))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await side.poll.run_once()
        creating.cancel()
        with suppress(asyncio.CancelledError):
            await creating

    run(work())
    assert side.quantities() == {"1": "newest"}


@pytest.mark.parametrize(("seen", "looks"), [("8", ["find"]), ("1", [])])
def test_new_orders_in_doubt_are_looked_for_when_a_page_shows_one_that_was_never_seen(seen, looks):
    create = read_command(
        {
            "type": "create",
            "command_id": "c1",
            "connection_id": SYNCED.id,
            "order": {},
            "lines": [{"quantity": str(Decimal(1))}],
        }
    )
    side = Side(page(order("1")))

    async def work():
        await side.poll.run_once()
        side.doubts.note(OpenCommand("cmd_1", create, START + timedelta(days=1), START, 1, START))
        side.erp.polls = [[page(order(seen))]]
        await side.poll.run_once()

    run(work())
    assert side.erp.asked == looks


def test_what_a_mapping_made_of_the_older_record_is_left_out_as_well():
    side = Side(
        page(order("1", notes="old"), under=lambda _: {"1": order("1", notes="other rules")}),
        **{"1": order("1", notes="new")},
    )

    async def work():
        async with side.gate.page():
            await asyncio.sleep(0)
            side.gate.told("1")
            taken = await side.poll.take.next(side.erp.changed_since(None))
            return taken.under(None)

    assert run(work()) == {}


def test_a_full_pass_tells_no_delete_of_an_order_that_a_command_told_meanwhile():
    side = Side(page(order("1")))
    reconcile = Reconcile(SYNCED, LEASE, side.erp, side.world, clock, Doubt(1, 1.0), gate=side.gate)

    async def work():
        await side.poll.run_once()
        command = asyncio.create_task(side.command("1", "1"))
        await asyncio.sleep(0)
        deleted = await reconcile.run_once()
        await command
        return deleted

    assert run(work()) == 0
