"""The lease stage on virtual time: a fair share each, never two runners of one subject, nothing left behind."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.domain.errors import KeyTrouble, LeaseLost, Stuck
from relay.stages.held import TIMES
from relay.stages.lease import KeepLeases
from tests.fakes import Leases, run, running, until

TTL, TICK, DRAIN = 15.0, 1.0, 20.0


class Bug(Exception):
    pass


@dataclass
class Work:
    """A runner: ends when it is told to, after `slow` seconds, or as `ending` says."""

    subject: str
    going: dict
    slow: float = 0.0
    ending: object = None
    rung: int = 0
    stopped: bool = False
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self):
        if isinstance(self.ending, Exception):
            raise self.ending
        if self.ending == "done":
            return
        assert self.subject not in self.going, "two runners of one subject"
        self.going[self.subject] = self
        try:
            await self._end.wait()
            await asyncio.sleep(self.slow)
        finally:
            del self.going[self.subject]

    def stop(self):
        self.stopped = True
        self._end.set()

    def ring(self):
        self.rung += 1


@dataclass
class Shop:
    """Workers over one store. `going` are the subjects that are worked on, by anybody, now."""

    store: Leases = field(default_factory=lambda: Leases(ttl=TTL))
    going: dict = field(default_factory=dict)
    made: list = field(default_factory=list)
    slow: float = 0.0
    endings: dict = field(default_factory=dict)

    def start(self, claimed):
        subject = claimed.lease.subject
        self.made.append(Work(subject, self.going, self.slow, self.endings.get(subject)))
        return self.made[-1]

    def keeper(self, owner="w1"):
        return KeepLeases("connections", owner, self.store, self.start, TTL, TICK, DRAIN)

    @asynccontextmanager
    async def worker(self, owner="w1"):
        keeper = self.keeper(owner)
        task = asyncio.create_task(keeper.run())
        try:
            yield keeper
            keeper.stop()
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass
class Deaf(Work):
    """A runner that goes on though it is cancelled, until it was often enough."""

    enough: float = float("inf")
    cancelled: int = 0

    async def run(self):
        while self.cancelled < self.enough:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1


def with_a_deaf_one(here, keeper, **values):
    """The runner of "a" does not hear that it is cancelled."""
    deaf, start = Deaf("a", here.going, **values), keeper.start
    starting = {"a": deaf}
    keeper.start = lambda claimed: starting.pop(claimed.lease.subject, None) or start(claimed)
    return deaf


def shop(*names, **values):
    made = Shop(**values)
    made.store.add(*names)
    return made


def now():
    return asyncio.get_running_loop().time()


def test_one_worker_holds_everything_and_gives_it_back():
    async def work():
        here = shop("a", "b", "c")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 3)
            await asyncio.sleep(100)
            assert len(here.made) == 3
            assert here.store.held_by("w1") == set(keeper.held) == {"a", "b", "c"}
        assert (here.going, keeper.held, here.store.workers) == ({}, {}, {})
        assert sorted(here.store.released) == ["a", "b", "c"]

    run(work())


def test_workers_share_and_surplus_is_given_back_gracefully():
    async def work():
        here = shop("a", "b", "c", "d", slow=3.0)
        async with here.worker("w1") as first:
            await until(lambda: len(here.going) == 4)
            async with here.worker("w2") as second:
                await until(lambda: len(second.held) == 2)
                await asyncio.sleep(50)
                assert (len(first.held), len(second.held)) == (2, 2)
                assert len(here.made) == 6
            await until(lambda: len(first.held) == 4)

    run(work())


def test_a_slow_end_holds_up_neither_the_renewals_nor_new_work():
    async def work():
        here = shop("a", "b", slow=DRAIN - 1)
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            here.store.rows["a"]["version"] = 2
            keeper.look()
            await until(lambda: here.made[0].stopped, 2)
            here.store.add("c")
            await until(lambda: "c" in here.going, 2)
            await asyncio.sleep(DRAIN)
            assert here.store.held_by("w1") == {"a", "b", "c"}
            assert here.store.rows["b"]["epoch"] == 1

    run(work())


def test_a_changed_subject_is_started_anew_as_soon_as_it_is_said():
    async def work():
        here = shop("a", "b")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            here.store.rows["a"]["version"] = 2
            keeper.look()
            await until(lambda: len(here.made) == 3, 0.5)
            assert [each.subject for each in here.made if each.stopped] == ["a"]

    run(work())


def test_a_change_that_nobody_said_is_seen_at_the_next_renewal():
    async def work():
        here = shop("a")
        async with here.worker():
            await until(lambda: here.going)
            here.store.rows["a"]["version"] = 2
            await until(lambda: len(here.made) == 2, TTL / 3 + 2 * TICK)

    run(work())


def test_a_paused_subject_ends():
    async def work():
        here = shop("a")
        async with here.worker() as keeper:
            await until(lambda: here.going)
            here.store.rows["a"]["active"] = False
            keeper.look()
            await until(lambda: not keeper.held, 1)
            await asyncio.sleep(60)
            assert len(here.made) == 1

    run(work())


def test_a_lost_lease_cancels_its_runner_at_once_and_is_not_given_back():
    async def work():
        here = shop("a", "b")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            here.store.rows["a"] |= {"owner": "thief", "epoch": 9, "until": now() + 1000}
            keeper.look()
            with capture_logs() as logs:
                await until(lambda: set(keeper.held) == {"b"}, 0.5)
            assert (here.made[0].stopped, here.store.rows["a"]["owner"]) == (False, "thief")
            assert next(line["event"] for line in logs) == "lease.lost"

    run(work())


def test_a_lost_lease_that_is_free_again_waits_for_the_old_runner_to_end():
    async def work():
        here = shop("a")
        async with here.worker() as keeper:
            await until(lambda: here.going)
            here.store.rows["a"] |= {"owner": None, "epoch": 9}
            keeper.look()
            await until(lambda: len(here.made) == 2, 2)

    run(work())


@pytest.mark.parametrize("how", ["away", "hanging"])
def test_runners_end_before_others_may_take_over_when_the_store_is_gone(how):
    async def work():
        here = shop("a", "b")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            await asyncio.sleep(47)
            until_when = min(row["until"] for row in here.store.rows.values())
            setattr(here.store, how, True)
            await until(lambda: not here.going, 2 * TTL)
            assert now() <= until_when + 0.1
            await asyncio.sleep(100)
            setattr(here.store, how, False)
            await until(lambda: len(here.going) == 2, TTL + 2 * TICK)
            assert set(keeper.held) == {"a", "b"}

    run(work())


def test_a_store_that_is_away_for_a_moment_ends_nothing():
    async def work():
        here = shop("a")
        async with here.worker():
            await until(lambda: here.going)
            for _ in range(5):
                here.store.away = True
                await asyncio.sleep(TTL / 2)
                here.store.away = False
                await asyncio.sleep(TTL / 2)
            assert len(here.made) == 1

    run(work())


def test_a_runner_that_ended_is_released_at_once():
    async def work():
        here = shop("a", endings={"a": "done"})
        keeper = here.keeper()
        await keeper.run_once()
        await asyncio.sleep(0.1)
        here.store.rows["a"]["active"] = False
        assert await keeper.run_once() == 0
        assert here.store.released == ["a"]

    run(work())


@pytest.mark.parametrize(
    ("ending", "event", "level"),
    [
        (Bug("what"), "runner.died", "error"),
        (ExceptionGroup("both", [LeaseLost("gone"), Bug("what")]), "runner.died", "error"),
        (KeyTrouble("no master key k2"), "runner.ended", "warning"),
        (ExceptionGroup("one", [ExceptionGroup("two", [LeaseLost("gone")])]), "lease.lost", "warning"),
    ],
)
def test_a_runner_that_fails_is_told_and_its_lease_is_free_again_by_time(ending, event, level):
    async def work():
        here = shop("a", "b", endings={"a": ending})
        with capture_logs() as logs:
            async with here.worker() as keeper:
                await until(lambda: "a" not in keeper.held and len(here.going) == 1)
                [line] = [line for line in logs if line["event"] == event]
                assert (line["log_level"], line["subject"]) == (level, "a")
                assert line.get("problem", "no master key k2") == "no master key k2"
                assert (here.store.rows["a"]["owner"], here.store.released) == ("w1", [])
                del here.endings["a"]
                await until(lambda: len(here.going) == 2, TTL + 2 * TICK)
                assert now() > TTL

    run(work())


def test_stop_waits_for_what_is_in_flight():
    async def work():
        here = shop("a", "b", slow=DRAIN - 1)
        async with here.worker():
            await until(lambda: len(here.going) == 2)
            at = now()
        assert DRAIN - 2 < now() - at < DRAIN + TICK
        assert sorted(here.store.released) == ["a", "b"]
        assert here.store.renewals > 2

    run(work())


def test_stop_cuts_off_what_does_not_end_in_time():
    async def work():
        here = shop("a", slow=10_000)
        async with here.worker():
            await until(lambda: here.going)
            at = now()
        assert now() - at < DRAIN + 2 * TICK
        assert (here.going, here.store.released) == ({}, ["a"])

    run(work())


@pytest.mark.parametrize("how", ["away", "hanging"])
def test_stop_ends_without_a_store(how):
    async def work():
        here = shop("a", "b", slow=1)
        async with here.worker():
            await until(lambda: len(here.going) == 2)
            setattr(here.store, how, True)
            at = now()
        assert now() - at < 2 * TTL + 2 * TICK
        assert here.going == {}

    run(work())


def test_a_worker_that_is_cancelled_takes_its_runners_with_it():
    async def work():
        here = shop("a", "b")
        task = asyncio.create_task(here.keeper().run())
        await until(lambda: len(here.going) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert here.going == {}

    run(work())


def test_a_runner_that_fails_while_it_is_cancelled_is_told():
    async def work():
        here = shop("a")
        keeper = here.keeper()

        class Clumsy(Work):
            async def run(self):
                try:
                    await asyncio.Event().wait()
                finally:
                    raise Bug("while ending")

        keeper.start = lambda _: Clumsy("a", {})
        task = asyncio.create_task(keeper.run())
        await until(lambda: keeper.held)
        await asyncio.sleep(0.1)
        with capture_logs() as logs:
            task.cancel()
            await asyncio.wait([task])
        assert "runner.died" in [line["event"] for line in logs]

    run(work())


def test_a_runner_that_does_not_end_is_told_and_cancelled_again_while_the_others_go_on():
    async def work():
        here = shop("a", "b")
        async with here.worker() as keeper:
            deaf = with_a_deaf_one(here, keeper, enough=3)
            await until(lambda: set(keeper.held) == {"a", "b"})
            here.store.rows["a"] |= {"owner": None, "epoch": 9}
            keeper.look()
            await until(lambda: deaf.cancelled == 1, 1)
            at = now()
            here.store.add("c")
            await until(lambda: "c" in here.going, 2 * TICK)
            assert here.store.rows["a"]["epoch"] == 9, "its subject is left to others as long as it goes on"
            with capture_logs() as logs:
                await until(lambda: deaf.cancelled == 3)
            assert 2 * DRAIN <= now() - at < 2 * DRAIN + 2 * TICK
            told = [line for line in logs if line["event"] not in {"lease.released", "lease.taken"}]
            assert [(line["event"], line["log_level"], line["subject"]) for line in told] == [
                ("runner.stuck", "error", "a")
            ] * 2
            await until(lambda: len(here.going) == 3, 2 * TICK)
            assert here.store.rows["a"]["epoch"] == 10

    run(work())


@pytest.mark.parametrize("stopping", [False, True])
def test_a_runner_that_never_ends_ends_the_worker_with_an_error(stopping):
    async def work():
        here = shop("a", "b")
        keeper = here.keeper()
        deaf = with_a_deaf_one(here, keeper)
        task = asyncio.create_task(keeper.run())
        await until(lambda: set(keeper.held) == {"a", "b"})
        if stopping:
            keeper.stop()
        else:
            here.store.rows["a"] |= {"owner": "thief", "epoch": 9, "until": now() + 1000}
        with pytest.raises(Stuck, match="work on a does not end"):
            await asyncio.wait_for(task, (TIMES + 3) * DRAIN)
        assert here.going == {}
        deaf.enough = 0
        [left] = [each for each in asyncio.all_tasks() if "connections" in each.get_name()]
        left.cancel()
        await asyncio.wait([left])

    run(work())


def test_a_machine_that_slept_does_not_take_what_it_is_at_work_on():
    async def work():
        here = shop("a")
        async with here.worker():
            await until(lambda: here.going)
            await asyncio.sleep(2 * TICK)
            here.store.add("b", owner="thief", until=now() + 1000)
            here.store.rows["a"]["until"] = now() - 1
            await asyncio.sleep(TTL)
            assert (len(here.made), here.store.rows["a"]["epoch"]) == (1, 1)

    run(work())


@dataclass
class SlowToLetGo(Leases):
    """A store whose statements end long after they were cancelled, as with a server that vanished."""

    seconds: float = 0.0

    async def _now(self):
        try:
            return await super()._now()
        except asyncio.CancelledError:
            at = now()
            while now() < at + self.seconds:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(TICK)
            raise


def test_runners_end_in_time_however_long_a_cancelled_statement_takes():
    async def work():
        here = shop("a", "b", store=SlowToLetGo(ttl=TTL, seconds=60.0))
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            until_when = min(row["until"] for row in here.store.rows.values())
            here.store.hanging = True
            await until(lambda: not here.going, 2 * TTL)
            assert now() <= until_when + 0.1
            here.store.hanging = False
            await until(lambda: len(here.going) == 2, 60 + 2 * TTL)
            assert set(keeper.held) == {"a", "b"}

    run(work())


def test_a_statement_that_never_ends_ends_the_worker_with_an_error():
    async def work():
        here = shop("a", store=SlowToLetGo(ttl=TTL, seconds=10 * TIMES * DRAIN))
        task = asyncio.create_task(here.keeper().run())
        await until(lambda: here.going)
        here.store.hanging = True
        with pytest.raises(Stuck, match="leases of connections: the store"):
            await asyncio.wait_for(task, (TIMES + 3) * DRAIN)
        assert here.going == {}
        [left] = asyncio.all_tasks() - {asyncio.current_task()}
        here.store.seconds = 0
        left.cancel()
        await asyncio.wait([left])

    run(work())


def test_a_store_that_breaks_off_by_itself_is_one_that_is_away():
    async def work():
        here = shop("a")
        keeper = here.keeper()
        share = here.store.share

        async def broken_off(_owner):
            raise asyncio.CancelledError

        here.store.share = broken_off
        with capture_logs() as logs:
            async with running(keeper.run()):
                await until(lambda: logs)
                here.store.share = share
                await until(lambda: here.going, 2 * TICK)
                keeper.stop()
        assert logs[0]["event"] == "leases.unreachable"

    run(work())


def test_a_store_with_a_bug_ends_the_worker():
    async def work():
        here = shop("a")
        keeper = here.keeper()
        task = asyncio.create_task(keeper.run())
        await until(lambda: here.going)

        async def broken(_owner):
            raise Bug("in the store")

        here.store.share = broken
        with pytest.raises(Bug):
            await task
        assert here.going == {}

    run(work())


def test_a_ring_reaches_the_runners_that_it_names():
    async def work():
        here = shop("a", "b", "c")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 3)
            keeper.ring(["a", "c", "stranger"])
            assert {each.subject: each.rung for each in here.made} == {"a": 1, "b": 0, "c": 1}

    run(work())


def test_a_new_subject_is_found_at_once_when_it_is_said():
    async def work():
        here = shop("a")
        async with here.worker() as keeper:
            await until(lambda: here.going)
            here.store.add("b")
            keeper.look(["b"])
            await until(lambda: len(here.going) == 2, TICK / 4)
            assert here.made[0].rung == 0

    run(work())


def test_a_look_at_one_renews_that_one_only():
    async def work():
        here = shop("a", "b")
        async with here.worker() as keeper:
            await until(lambda: len(here.going) == 2)
            await asyncio.sleep(2 * TICK)
            here.store.renewed.clear()
            here.store.rows["a"]["version"] = here.store.rows["b"]["version"] = 2
            keeper.look(["a", "stranger"])
            await until(lambda: len(here.made) == 3, 0.5)
            assert here.store.renewed == ["a"]
            await until(lambda: len(here.made) == 4, TTL / 3 + 2 * TICK)

    run(work())


steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "kill", "away", "back", "change"]), st.integers(0, 4), st.floats(0, 20)
    ),
    max_size=20,
)


@given(steps, st.floats(0, 5))
def test_no_subject_ever_has_two_runners_and_each_has_one_in_the_end(story, slow):
    """`Work` watches that nobody else works on its subject."""

    async def work():
        here = shop("a", "b", "c", slow=slow)
        workers = {}
        for what, which, wait in story:
            owner = f"w{which}"
            if what == "start" and owner not in workers:
                keeper = here.keeper(owner)
                workers[owner] = keeper, asyncio.create_task(keeper.run())
            elif what == "stop" and owner in workers:
                workers[owner][0].stop()
                await workers.pop(owner)[1]
            elif what == "kill" and owner in workers:
                task = workers.pop(owner)[1]
                task.cancel()
                await asyncio.wait([task])
            elif what in {"away", "back"}:
                here.store.away = what == "away"
            elif what == "change":
                here.store.rows["abc"[which % 3]]["version"] += 1
            await asyncio.sleep(wait)
        here.store.away = False
        async with here.worker("last"):
            await until(lambda: len(here.going) == 3, 10 * TTL)
            for keeper, task in workers.values():
                keeper.stop()
                await task
            await until(lambda: len(here.going) == 3, 10 * TTL)

    run(work())
