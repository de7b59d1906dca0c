"""The watch on virtual time: who has something due is woken, now and then and when it is asked for."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from structlog.testing import capture_logs

from relay.domain.errors import Unavailable
from relay.stages.watch import Watch
from tests.fakes import run, until

EVERY = 30.0


@dataclass
class Store:
    due: list = field(default_factory=list)
    away: bool = False
    asked: int = 0

    async def with_work(self, owner):
        assert owner == "w1"
        self.asked += 1
        if self.away:
            raise Unavailable("PostgreSQL went away")
        return self.due


@dataclass
class Watched:
    store: Store = field(default_factory=Store)
    woken: list = field(default_factory=list)

    def __post_init__(self):
        self.watch = Watch("endpoints", "w1", self.store, self.woken.extend, timedelta(seconds=EVERY))

    async def __aenter__(self):
        self.task = asyncio.create_task(self.watch.run())
        await until(lambda: self.store.asked == 1)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])


def test_what_is_due_is_woken_at_the_next_look():
    async def work():
        async with Watched() as here:
            here.store.due = ["end_1", "end_2"]
            await asyncio.sleep(EVERY - 1)
            assert (here.store.asked, here.woken) == (1, [])
            await asyncio.sleep(2)
            assert (here.store.asked, here.woken) == (2, ["end_1", "end_2"])

    run(work())


def test_a_ring_makes_it_look_at_once():
    async def work():
        async with Watched() as here:
            here.store.due = ["end_1"]
            here.watch.ring()
            await until(lambda: here.woken == ["end_1"], 1)

    run(work())


def test_a_store_that_is_away_is_told_and_asked_again():
    async def work():
        async with Watched() as here:
            here.store.away = True
            with capture_logs() as logs:
                await asyncio.sleep(EVERY + 1)
            assert [(line["event"], line["kind"]) for line in logs] == [("watch.blind", "endpoints")]
            here.store.away, here.store.due = False, ["end_1"]
            await asyncio.sleep(EVERY)
            assert here.woken == ["end_1"]

    run(work())
