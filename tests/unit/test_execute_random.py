"""Commands at random, with faults at any step, workers that are killed or go on without their lease, and polls beside.

Every command ends once, none is done twice, the order of each purchase order is kept, and what was told is what is
there: compared with a model, which is what the ERP was asked for, in the order in which it was done.
"""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.domain.commands import Create
from relay.domain.connections import Lease
from relay.domain.errors import LeaseLost, Throttled, Unavailable, UnexpectedReply, causes
from relay.domain.results import Outcome, Refusal, RefusalReason, WriteRefused
from relay.runners.erp_work import ErpWork
from tests.fake_commands import SYNCED, Books, Desk, Work, command
from tests.fakes import World, order, page, run

ORDERS = ("1", "2", "3")
OF = replace(SYNCED, poll_every=timedelta(seconds=5))


def unsent():
    error = Unavailable("connection refused")
    error.unsent = True
    return error


TROUBLES = {
    "read": (Unavailable("503"), Throttled("429", retry_after=3), UnexpectedReply("HTML")),
    "find": (Unavailable("503"), Throttled("429")),
    "prepare": (Unavailable("503"),),
    "write": (
        Unavailable("reset"),
        UnexpectedReply("HTML"),
        Throttled("429"),
        unsent(),
        WriteRefused([Refusal(reason=RefusalReason.VALIDATION, message="no")]),
        20.0,
        70.0,
    ),
    "answer": (Unavailable("timeout"), UnexpectedReply("half a body")),
}


class Epochs(World):
    """A store that knows which lease is the newest."""

    epoch = 1

    def _enter(self, call, lease=None):
        super()._enter(call, lease)
        if lease is not None and lease.epoch != self.epoch:
            raise LeaseLost(f"{lease.subject}: another worker has taken over")


class Rough(Books):
    """Books whose faults are thrown by dice, and that polls read whole, slowly."""

    dice: random.Random
    share = 0.0
    moved: set

    async def _step(self, step):
        if self.dice.random() < self.share:
            self.faults[step].append(self.dice.choice(TROUBLES[step]))
        return await super()._step(step)

    async def write(self, prepared):
        remote_id = await super().write(prepared)
        if remote_id is None:
            raise Unavailable("timeout")  # it goes on working on it
        return remote_id

    async def changed_since(self, _cursor):
        seen = list(self.orders.values())
        await asyncio.sleep(self.dice.random() * 2)
        if self.dice.random() < self.share:
            raise Unavailable("503")
        yield page(*seen)

    async def remote_ids(self):
        yield tuple(self.orders)

    def do(self, given):
        before = None if isinstance(given, Create) else self.orders[given.remote_id].tree()
        remote_id = super().do(given)
        if before != self.orders[remote_id].tree():
            self.moved.add(given.command_id)
        return remote_id


def commands(dice, most=14):
    """Commands for a few orders, each with content of its own."""
    for number in range(dice.randint(1, most)):
        text, remote_id = f"note {number}", dice.choice(ORDERS)
        match dice.choice(("create", "update", "update", "add_lines", "update_lines", "cancel_lines", "close")):
            case "create":
                yield command("create", number, order={"notes": text})
            case "update":
                yield command("update", number, remote_id=remote_id, order={"notes": text})
            case "add_lines":
                yield command("add_lines", number, remote_id=remote_id, lines=[{"quantity": str(100 + number)}])
            case "update_lines":
                lines = [{"remote_id": "1", "quantity": str(200 + number)}]
                yield command("update_lines", number, remote_id=remote_id, lines=lines)
            case "cancel_lines":
                yield command("cancel_lines", number, remote_id=remote_id, lines=["1"])
            case _:
                yield command("close", number, remote_id=remote_id)


class Day:
    """One day of one connection, until all commands are over."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.books, self.desk = Rough(), Desk(Epochs())
        self.books.dice, self.books.moved = self.dice, set()
        self.given = list(commands(self.dice))
        self.others = self.dice.random() < 0.3
        """Whether people change orders, too."""
        self.workers = []

    async def lives(self):
        for each in ORDERS:
            self.books.put(order(each))
        await self.work().poll.run_once()
        self.books.share = self.dice.choice((0.0, 0.2, 0.4))
        waiting = list(self.given)
        self.begin()
        while waiting or self.desk.open:
            await asyncio.sleep(self.dice.random() * 20)
            match self.dice.random():
                case chance if chance < 0.4 and waiting:
                    self.comes(waiting.pop(0))
                case chance if chance < 0.6:
                    self.workers[-1].cancel()
                    self.begin()
                case chance if chance < 0.7:
                    # The old one goes on until it notices.
                    self.desk.world.epoch += 1
                    self.begin()
                case chance if chance < 0.8 and self.others:
                    there = self.books.orders[self.dice.choice(ORDERS)]
                    self.books.put(there.model_copy(update={"buyer": f"buyer {asyncio.get_running_loop().time()}"}))
        await self.end()
        return self

    def work(self):
        lease = Lease("con_1", "worker", self.desk.world.epoch)
        return Work(self.books, self.desk, OF, at_once=2, lease=lease)

    def begin(self):
        work = self.work()
        self.execute = work.execute
        self.workers.append(asyncio.create_task(ErpWork(work.attend, work.execute).run()))

    def comes(self, given):
        expires_in = timedelta(seconds=30) if self.dice.random() < 0.1 else timedelta(days=1)
        self.desk.give(given, expires_in)
        self.execute.ring()

    async def end(self):
        """Everything comes to rest: what the ERP still works on, too; then all of it is read once more."""
        self.books.share = 0.0
        self.desk.world.epoch += 1
        for each in self.workers:
            each.cancel()
        await asyncio.wait(self.workers)
        for each in self.workers:
            if not each.cancelled() and each.exception():
                assert {type(cause) for cause in causes(each.exception())} == {LeaseLost}
        await asyncio.sleep(100)
        await self.work().poll.run_once()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_command_ends_once_and_what_is_told_is_what_is_there(seed):
    with capture_logs():
        day = run(Day(seed).lives())
    results = {each.command_id: each for each in day.desk.results}
    assert len(day.desk.results) == len(results) == len(day.given)
    for each in day.given:
        outcome, done = results[each.command_id].outcome, day.books.done[each.command_id]
        if outcome is Outcome.UNKNOWN:
            assert day.others
            assert done <= 1
        else:
            # What asks for a status may find it there.
            assert done == (outcome is Outcome.APPLIED) or (not done and each.type in {"close", "cancel_lines"})
    for remote_id in ORDERS:
        lane = [each.command_id for each in day.given if getattr(each, "remote_id", None) == remote_id]
        done = [command_id for order_id, command_id in day.books.journal if order_id == remote_id]
        assert done == [each for each in lane if each in done]
    told = defaultdict(list)
    for row in day.desk.world.outbox:
        if row.stream == "changes":
            told[row.remote_id].append(orjson.loads(row.body)["data"])
    for remote_id, there in day.books.orders.items():
        events = told[remote_id]
        assert day.desk.world.known[remote_id].tree == there.tree()
        assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
        versions = [int(each["order"]["remote_version"]) for each in events]
        assert versions == sorted(versions)
    caused = Counter(each for events in told.values() for event in events for each in event["caused_by"])
    unknown = {each.command_id for each in day.desk.results if each.outcome is Outcome.UNKNOWN}
    assert caused - Counter(unknown) == Counter(day.books.moved - unknown)
