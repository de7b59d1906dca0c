"""Slots of calls: so many at once, and those that go first before the others."""

import asyncio

from relay.wire.slots import Slots
from tests.fakes import run


def calling(slots, told):
    async def call(name, *, first=False):
        async with slots.one(first=first):
            told.append(name)
            await asyncio.sleep(1)

    return call


def test_those_that_go_first_are_before_the_others_and_each_kind_goes_by_when_it_came():
    async def work():
        told = []
        call = calling(Slots(1), told)
        async with asyncio.TaskGroup() as tasks:
            for name in ("a", "read 1", "read 2", "write 1", "write 2"):
                tasks.create_task(call(name, first=name.startswith("write")))
                await asyncio.sleep(0)
        assert told == ["a", "write 1", "write 2", "read 1", "read 2"]

    run(work())


def test_a_slot_that_nobody_waits_for_any_more_goes_to_the_next():
    async def work():
        told, slots = [], Slots(1)
        call = calling(slots, told)
        async with asyncio.TaskGroup() as tasks:
            async with slots.one(first=False):
                gone, late, last = (tasks.create_task(call(name)) for name in ("gone", "late", "last"))
                await asyncio.sleep(0)
                gone.cancel()
                await asyncio.sleep(0)
            # The slot has been given to it, and it leaves without having used it.
            late.cancel()
            await last
            await call("again")
        assert told == ["last", "again"]

    run(work())
