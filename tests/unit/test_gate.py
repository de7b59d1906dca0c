"""The gate: a command and a page never have one order at the same time, and neither waits for the other for long."""

import asyncio

from relay.stages.gate import NEW, Gate
from tests.fakes import run


class Passing:
    """Who goes through a gate, in order."""

    def __init__(self):
        self.gate, self.told = Gate(), []

    async def command(self, order, seconds=1, *, makes=None):
        async with self.gate.command(order):
            self.told.append(f"command {order}")
            await asyncio.sleep(seconds)
            self.gate.told(makes or order)
        self.told.append(f"over {order}")

    async def page(self, *orders, reading=1, storing=1):
        async with self.gate.page():
            self.told.append("read")
            await asyncio.sleep(reading)
            told = await self.gate.hold(orders)
            self.told.append("held")
            await asyncio.sleep(storing)
        self.told.append("stored")
        return told


def together(*works):
    async def work():
        async with asyncio.TaskGroup() as tasks:
            started = []
            for each in works:
                started.append(tasks.create_task(each))
                await asyncio.sleep(0.1)
        return [each.result() for each in started]

    return run(work())


def test_commands_and_a_page_of_other_orders_go_side_by_side():
    passing = Passing()
    told = together(passing.command("a", 5), passing.page("b"))
    assert passing.told == ["command a", "read", "held", "stored", "over a"]
    assert told[1] == set()


def test_a_page_is_held_once_the_commands_to_its_orders_are_over_and_knows_what_they_told():
    passing = Passing()
    told = together(passing.command("a", 3), passing.command("c", 0.5), passing.page("a", "b"))
    assert passing.told == ["command a", "command c", "read", "over c", "over a", "held", "stored"]
    assert told[2] == {"a"}


def test_a_command_waits_until_the_page_that_holds_its_order_is_stored():
    passing = Passing()

    async def later():
        await asyncio.sleep(1)
        await passing.command("a")

    told = together(passing.page("a", storing=5), later())
    assert passing.told == ["read", "held", "stored", "command a", "over a"]
    assert told[0] == set()


def test_what_was_told_before_a_page_was_begun_is_in_it():
    passing = Passing()

    async def after():
        await passing.command("a", 0.5)
        return await passing.page("a")

    assert together(after()) == [set()]


def test_new_orders_are_held_as_one():
    passing = Passing()
    assert not passing.gate.making

    async def page():
        assert passing.gate.making
        return await passing.page("n", NEW)

    told = together(passing.command(NEW, 3, makes="n"), page())
    assert told[1] == {"n"}
    assert not passing.gate.making


def test_who_gives_up_holds_up_nobody():
    async def work():
        passing = Passing()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(passing.command("a", 10))
            await asyncio.sleep(0)
            page = tasks.create_task(passing.page("a", reading=0))
            await asyncio.sleep(1)
            waiting = tasks.create_task(passing.command("a"))
            await asyncio.sleep(1)
            assert passing.told == ["command a", "read"]
            page.cancel()
            await asyncio.sleep(0)
            await waiting
        assert passing.told == ["command a", "read", "command a", "over a", "over a"]

    run(work())
