"""The notify stage: each notice is told in order, once as far as a broker lets it, and none holds another up."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from relay.domain.errors import Unavailable
from relay.domain.messages import MessageRefused, Reason
from relay.domain.notices import Notice, NoticeType
from relay.stages.notify import LOOK_AGAIN, MOST, TRY_AGAIN, Notify
from tests.fakes import START, Broker, run, until

AWAY = Unavailable("no broker answers")
REFUSED = MessageRefused(Reason.REFUSED_BY_BROKER, 0, "the broker refuses it: PolicyViolationError")


@dataclass
class Notices:
    """The store's notices, without the minute after which a claim lapses."""

    waiting: list = field(default_factory=list)
    taken: set = field(default_factory=set)
    away: bool = False
    looks: int = 0
    forgotten: int = 0

    async def take(self, most):
        self.looks += 1
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        free = [each for each in self.waiting if each.id not in self.taken][:most]
        self.taken.update(each.id for each in free)
        return free

    async def told(self, ids):
        self.waiting = [each for each in self.waiting if each.id not in ids]

    async def give_back(self, ids):
        self.taken -= set(ids)

    async def forget(self):
        self.forgotten += 1
        return 0


def notices(count, subject="end_1"):
    return [
        Notice(NoticeType.ENDPOINT_FAILING, "acme", subject, "hook", START + timedelta(hours=n)) for n in range(count)
    ]


def stage(store, broker):
    return Notify(store, broker, "operations")


async def tasked(notify, work):
    task = asyncio.create_task(notify.run())
    try:
        await work()
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_what_waits_is_told_in_order_and_only_once():
    store, broker = Notices(notices(3)), Broker()
    expected = [each.id for each in store.waiting]
    notify = stage(store, broker)
    with capture_logs() as logs:
        assert [run(notify.run_once()), run(notify.run_once())] == [3, 0]
    assert broker.ids("operations") == expected
    assert [(line["event"], line["notice"]) for line in logs] == [("notice.published", each) for each in expected]


def test_more_than_a_round_takes_are_told_in_several():
    store, broker = Notices(notices(MOST + 1)), Broker()
    notify = stage(store, broker)
    assert [run(notify.run_once()) for _ in range(3)] == [MOST, 1, 0]


@pytest.mark.parametrize("taken", range(4))
def test_what_the_broker_did_not_take_is_given_back_and_the_rest_is_not_told_again(taken):
    store, broker = Notices(notices(3)), Broker(breaks=[(taken, AWAY)])
    expected = [each.id for each in store.waiting]
    notify = stage(store, broker)
    with pytest.raises(Unavailable, match="no broker"):
        run(notify.run_once())
    assert [each.id for each in store.waiting] == expected[taken:]
    run(notify.run_once())
    assert broker.ids("operations") == expected
    assert store.waiting == []


def test_a_notice_that_the_broker_will_never_take_is_logged_and_holds_nobody_up():
    store = Notices([*notices(1), *notices(1, "end_2"), *notices(1, "end_3")])
    first, refused, last = (each.id for each in store.waiting)
    broker = Broker(refuses={("operations", b"end_2"): REFUSED})
    notify = stage(store, broker)
    with capture_logs() as logs:
        assert [run(notify.run_once()) for _ in range(3)] == [2, 1, 0]
    assert broker.ids("operations") == [first, last]
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["notice"], line["subject"]) == ("notice.refused", refused, "end_2")


def test_a_worker_tells_what_is_there_at_its_start_and_then_what_it_is_woken_for():
    async def work():
        store, broker = Notices(notices(1)), Broker()
        notify = stage(store, broker)

        async def told():
            await until(lambda: len(broker.taken) == 1)
            store.waiting = notices(2, "end_2")
            notify.ring()
            await until(lambda: len(broker.taken) == 3, seconds=1)

        await tasked(notify, told)

    run(work())


def test_a_worker_that_nobody_wakes_looks_by_itself_and_forgets_old_ones():
    async def work():
        store, broker = Notices(), Broker()

        async def told():
            await until(lambda: store.forgotten == 1, seconds=1)
            store.waiting = notices(1)
            await until(lambda: broker.taken, seconds=LOOK_AGAIN + 1)
            await until(lambda: store.forgotten == 2)

        await tasked(stage(store, broker), told)

    run(work())


def test_a_broker_or_store_that_is_away_is_tried_again_until_it_is_back():
    async def work():
        store, broker = Notices(notices(2)), Broker(breaks=[(0, AWAY), (1, AWAY)])
        expected = [each.id for each in store.waiting]
        store.away = True

        async def told():
            await until(lambda: store.looks == 3, seconds=3 * TRY_AGAIN + 1)
            store.away = False
            await until(lambda: not store.waiting, seconds=3 * TRY_AGAIN + 1)

        with capture_logs() as logs:
            await tasked(stage(store, broker), told)
        assert broker.ids("operations") == expected
        waited = [line["problem"] for line in logs if line["event"] == "notices.waiting"]
        assert waited == ["PostgreSQL does not answer"] * 3 + [str(AWAY)] * 2

    run(work())
