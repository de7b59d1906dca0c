"""The gate: commands and pages never at the same time, commands first, and neither for ever."""

import asyncio

from relay.stages.gate import BATCH, Gate
from tests.fakes import run


class Passing:
    """Who goes through a gate, in order."""

    def __init__(self):
        self.gate, self.told, self.inside = Gate(), [], set()

    async def command(self, name, seconds=1):
        async with self.gate.command():
            assert "page" not in self.inside
            await self._stay(name, seconds)

    async def page(self, seconds=1):
        async with self.gate.page():
            assert not self.inside
            await self._stay("page", seconds)

    async def _stay(self, name, seconds):
        self.inside.add(name)
        self.told.append(name)
        await asyncio.sleep(seconds)
        self.inside.discard(name)


def together(*works):
    async def work():
        async with asyncio.TaskGroup() as tasks:
            for each in works:
                tasks.create_task(each)
                await asyncio.sleep(0)

    run(work())


def test_several_commands_are_inside_at_once():
    passing = Passing()

    async def watch():
        await asyncio.sleep(0.5)
        assert passing.inside == {"a", "b"}

    together(passing.command("a"), passing.command("b"), watch())


def test_a_page_waits_for_what_is_inside_and_commands_go_before_it():
    passing = Passing()
    together(passing.command("a"), passing.page(), passing.command("b"), passing.command("c"))
    assert passing.told == ["a", "b", "c", "page"]


def test_a_command_waits_for_one_page():
    passing = Passing()
    together(passing.page(), passing.page(), passing.command("a"))
    assert passing.told == ["page", "a", "page"]


def test_a_page_has_its_turn_after_a_batch_of_commands():
    passing = Passing()

    async def busy():
        for number in range(3 * BATCH):
            await passing.command(number)

    async def pages():
        await asyncio.sleep(0.5)
        await passing.page()
        await passing.page()

    together(busy(), busy(), pages())
    first = passing.told.index("page")
    assert first <= BATCH + 2
    assert passing.told.count("page") == 2


def test_who_gives_up_holds_up_nobody():
    async def work():
        passing = Passing()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(passing.page(10))
            await asyncio.sleep(0)
            waiting = [tasks.create_task(passing.command("a")), tasks.create_task(passing.page())]
            await asyncio.sleep(1)
            for each in waiting:
                each.cancel()
            await asyncio.sleep(0)
            tasks.create_task(passing.command("b"))
        assert passing.told == ["page", "b"]

    run(work())
