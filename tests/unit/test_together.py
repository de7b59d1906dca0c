"""Recording together: what comes while others are written goes in one step, and fails or waits for no other."""

import asyncio

import pytest

from relay.domain.connections import Lease
from relay.domain.errors import LeaseLost, Unavailable
from relay.ports import Heads, Rules
from relay.store.together import AT_ONCE, MOST, Recording, Together
from tests.fakes import run, until

RULES = Rules(latest_only=False, bytes=1)


def recording(name, attempts=1):
    return Recording(Lease(name, "worker-1", 1), [None] * attempts, RULES)


class Store:
    """Writes what it is given, a second each time; `lost` leases fail, `held` endpoints are left out of groups."""

    def __init__(self):
        self.written, self.lost, self.held, self.away, self.present, self.most = [], set(), set(), False, 0, 0

    async def write(self, some):
        self.present += 1
        self.most = max(self.most, self.present)
        await asyncio.sleep(1)
        self.present -= 1
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        names = [each.lease.subject for each in some]
        if len(names) == 1 and names[0] in self.lost:
            raise LeaseLost(names[0])
        done = [name for name in names if len(names) == 1 or name not in self.held | self.lost]
        self.written.append(done)
        return dict.fromkeys(done, Heads(()))


async def all_of(together, *names):
    given = [recording(each) if isinstance(each, str) else each for each in names]
    return await asyncio.gather(*(together.record(each) for each in given), return_exceptions=True)


def test_one_alone_is_written_at_once_and_those_that_come_meanwhile_together():
    store = Store()
    assert run(all_of(Together(store.write), *"abcd")) == [Heads(())] * 4
    assert store.written == [["a"], ["b", "c", "d"]]


def test_one_that_is_lost_or_held_by_another_fails_or_waits_alone():
    store = Store()
    store.lost, store.held = {"b"}, {"c"}
    first, lost, held, fine = run(all_of(Together(store.write), *"abcd"))
    assert isinstance(lost, LeaseLost)
    assert first == held == fine == Heads(())
    assert store.written == [["a"], ["d"], ["c"]]


def test_when_the_store_is_away_each_is_told_and_the_next_is_written():
    async def work():
        store = Store()
        together = Together(store.write)
        store.away = True
        assert {type(each) for each in await all_of(together, *"abc")} == {Unavailable}
        store.away = False
        assert await all_of(together, *"abc") == [Heads(())] * 3
        assert together._writing == 0

    run(work())


def test_no_more_is_written_in_one_step_nor_at_once_than_allowed():
    async def work():
        store = Store()
        together = Together(store.write)
        some = [recording(f"e{n}", MOST // 2) for n in range(9)]
        assert await all_of(together, *some) == [Heads(())] * 9
        assert max(map(len, store.written)) == 2
        assert store.most == AT_ONCE
        huge = [recording("a", 3 * MOST), recording("b", 3 * MOST), recording("c", 3 * MOST)]
        assert await all_of(together, *huge) == [Heads(())] * 3

    run(work())


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_runner_that_is_cancelled_takes_nothing_from_the_others(position):
    async def work():
        store = Store()
        together = Together(store.write)
        tasks = [asyncio.create_task(together.record(recording(name))) for name in "abc"]
        await until(lambda: store.present)
        tasks[position].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in ended].count(True) == 1
        await until(lambda: not together._writing, 10)
        assert await together.record(recording("d")) == Heads(())

    run(work())
