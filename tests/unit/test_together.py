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
    """Writes what it is given, a second each time; `lost` leases fail, `held` endpoints are left out, `bad` ones break
    what they are written with.
    """

    def __init__(self):
        self.written, self.lost, self.held, self.bad = [], set(), set(), set()
        self.away, self.present, self.most = False, 0, 0

    async def write(self, some):
        self.present += 1
        self.most = max(self.most, self.present)
        await asyncio.sleep(1)
        self.present -= 1
        names = [each.lease.subject for each in some]
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        if self.bad & set(names):
            raise ValueError("a bug")
        done = [name for name in names if name not in self.held | self.lost]
        self.written.append(done)
        return dict.fromkeys(done, Heads(())) | {name: LeaseLost(name) for name in names if name in self.lost}


async def all_of(together, *names):
    given = [recording(each) if isinstance(each, str) else each for each in names]
    return await asyncio.gather(*(together.record(each) for each in given), return_exceptions=True)


def test_what_comes_together_or_while_others_are_written_is_written_together():
    async def work():
        store = Store()
        together = Together(store.write)
        assert await all_of(together, *"ab") == [Heads(())] * 2
        assert await all_of(together, "c", recording("d", MOST), *"ef") == [Heads(())] * 4
        assert store.written == [["a", "b"], ["c"], ["d"], ["e", "f"]]

    run(work())


def test_one_that_is_lost_or_a_bug_fails_alone_and_one_that_is_held_comes_again_and_holds_up_nobody():
    async def work():
        store = Store()
        together = Together(store.write)
        store.lost, store.held, store.bad = {"b"}, {"c", "d"}, {"e"}
        held = asyncio.create_task(all_of(together, *"cd"))
        first, lost, bug, fine = await all_of(together, *"abef")
        assert isinstance(lost, LeaseLost)
        assert isinstance(bug, ValueError)
        assert first == fine == Heads(())
        assert not held.done()
        store.held.clear()
        assert await held == [Heads(())] * 2

    run(work())


def test_what_two_leases_of_an_endpoint_brought_is_never_written_in_one_step():
    store = Store()
    run(all_of(Together(store.write), *"abab"))
    assert sorted(store.written) == [["a", "b"], ["a", "b"]]


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
