"""Fakes for commands: the store's Desk, and Books, an ERP in memory that is written to and fails by script.

Desk    commands of one connection as the store keeps them, over a World
Books   a connector with a writer; `faults` are played at its steps; `done` counts what each command did to it
Work    what reads and writes one connection, wired as its runner wires it
"""

import asyncio
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

import orjson

from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.commands import (
    AddLines,
    Cancel,
    CancelLines,
    Close,
    CommandType,
    Create,
    Update,
    UpdateLines,
    command_key,
    lane,
    mark,
    read_command,
)
from relay.domain.errors import LeaseLost
from relay.domain.orders import Item, Line, LineStatus, PurchaseOrder, Status
from relay.domain.remapping import Remapping
from relay.domain.results import CommandResult, Preview
from relay.ports import OpenCommand, Prepared
from relay.runners.erp_work import ErpWork
from relay.stages.attend import Attend
from relay.stages.carry import Carry, Times
from relay.stages.conclude import Conclude
from relay.stages.doubts import Doubts
from relay.stages.execute import Execute
from relay.stages.gate import Gate
from relay.stages.poll import Patience, Poll
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.sync import Sync
from relay.stages.take import Take
from tests.fakes import LEASE, Erp, World, clock, connection, page

PATIENCE = Patience(timedelta(seconds=5), timedelta(minutes=15))
SETTLE = timedelta(minutes=2)
SYNCED = connection(synced=True, cursor="c0")


SYSTEM = Capabilities(
    connector="fake",
    commands=tuple(CommandCapability(type=each) for each in CommandType if each not in {"approve", "reject"}),
    fields=(
        FieldCapability(path="notes", creatable=True, updatable=True, max_length=50),
        FieldCapability(path="incoterm", readable=False),
        FieldCapability(path="lines[].item.code", creatable=True),
        FieldCapability(path="lines[].quantity", type="amount", creatable=True, updatable=True, required=True),
    ),
)


def command(type, number=1, **values):  # noqa: A002 - the command's own word
    """A command of one kind, with what it cannot be without."""
    wanted = {"command_id": f"c{number}", "connection_id": "con_1", "type": type}
    if type == "create":
        wanted |= {"order": {"notes": "new"}, "lines": [{"item": {"code": "BOLT"}, "quantity": "2"}]}
    else:
        wanted |= {"remote_id": "4500"}
    if type == "update" and "lines" not in values:
        wanted |= {"order": {"notes": "changed"}}
    return read_command(wanted | values)


@dataclass
class Desk:
    """Commands of one connection, as the store keeps them."""

    world: World = field(default_factory=World)
    open: dict = field(default_factory=dict)
    """In the order in which they came."""
    results: list = field(default_factory=list)
    """What was told at their ends."""
    problems: list = field(default_factory=list)

    def give(self, given, expires_in=timedelta(days=1), **values):
        """A command that comes in; its id."""
        id_ = command_key(given.connection_id, given.command_id)
        self.open[id_] = OpenCommand(id_, given, clock() + expires_in, clock(), clock(), **values)
        return id_

    async def heads(self, _connection_id, most):
        self.world._enter("heads of commands")
        lanes = {}
        for each in self.open.values():
            lanes.setdefault(lane(each.command), each)
        doubtful = [each for each in lanes.values() if each.sent_at and each.due_at <= clock()]
        others = [each for each in lanes.values() if each not in doubtful]
        return [*doubtful, *sorted(others, key=lambda each: each.due_at)][:most]

    async def in_doubt(self, _connection_id):
        self.world._enter("in_doubt")
        return [each for each in self.open.values() if each.sent_at or each.written]

    async def save_sending(self, lease, id_, now, before):
        await self._commit("save_sending", lease)
        if id_ not in self.open:
            raise LeaseLost(f"{id_}: this command is over")
        self._set(id_, sent_at=now, before=before, attempts=self.open[id_].attempts + 1, problem="")

    async def save_waiting(self, lease, id_, due_at, problem, *, doubt):
        await self._commit("save_waiting", lease)
        self.problems.append(problem)
        self._set(id_, due_at=due_at, problem=problem, **({} if doubt else {"sent_at": None, "before": None}))

    async def save_written(self, lease, id_, remote_id, due_at):
        await self._commit("save_written", lease)
        self._set(id_, written=remote_id, due_at=due_at)

    async def save_ended(self, lease, origin, ended):
        await self._commit("save_ended", lease)
        assert ended.id in self.open, "a command ends once"
        del self.open[ended.id]
        await self.world.save_page(lease, origin, ended.snapshots, ended.entries, None)
        told = [each for each in ended.entries if each.stream == "command-results"]
        self.results += [CommandResult.model_validate_json(each.body).data for each in told]

    async def _commit(self, call, lease):
        # A transaction takes a moment, in which others go on.
        await asyncio.sleep(0.001)
        self.world._enter(call, lease)

    def _set(self, id_, **values):
        self.open[id_] = replace(self.open[id_], **values)

    def outcomes(self):
        return [each.outcome for each in self.results]


@dataclass
class Books(Erp):
    """An ERP that is written to. `faults` are, by step, what happens at its next times: an error, or None for nothing.

    Steps are read, find, prepare, write (before it is done) and answer (after it was done). A number at `write` is
    seconds after which it is done although nobody waits any more: then `answer` should fail.
    """

    finds: bool = True
    faults: defaultdict = field(default_factory=lambda: defaultdict(list))
    marks: dict = field(default_factory=dict)
    done: Counter = field(default_factory=Counter)
    journal: list = field(default_factory=list)
    """Command ids in the order in which they were done, by order."""
    steps: Counter = field(default_factory=Counter)
    system: Capabilities = SYSTEM
    takes: float = 0.05
    at_once: int = 0
    most_at_once: int = 0
    writable: bool = True

    def capabilities(self):
        return self.system

    def writer(self):
        return self if self.writable else None

    async def _step(self, step):
        self.steps[step] += 1
        await asyncio.sleep(self.takes)
        fault = self.faults[step].pop(0) if self.faults[step] else None
        if isinstance(fault, Exception):
            raise fault
        return fault

    async def read(self, remote_id):
        await self._step("read")
        self.asked.append(remote_id)
        return self.orders.get(remote_id)

    async def find(self, given):
        await self._step("find")
        return self.marks.get(mark(given))

    async def prepare(self, given, order):
        await self._step("prepare")
        return Prepared(Preview(method="POST", path=f"/{given.type}"), (given, order and order.remote_version))

    async def write(self, prepared):
        given, _ = prepared.inner
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            late = await self._step("write")
            if late is not None:
                asyncio.get_running_loop().call_later(late, self.do, given)
            remote_id = None if late is not None else self.do(given)
            await self._step("answer")
            return remote_id
        finally:
            self.at_once -= 1

    def put(self, order):
        """Somebody else's work, or a fresh version of it."""
        version = str(int(order.remote_version or 0) + 1)
        self.orders[order.remote_id] = order.model_copy(update={"remote_version": version})

    def do(self, given):
        """What the command asks for, in one transaction."""
        self.done[given.command_id] += 1
        if isinstance(given, Create):
            remote_id = str(9000 + len(self.marks))
            self.marks[mark(given)] = remote_id
            self.put(
                PurchaseOrder(remote_id=remote_id, number=remote_id, status=Status.APPROVED, notes=given.order.notes)
            )
            self._lines(remote_id, given.lines)
        else:
            remote_id = given.remote_id
            self._change(given)
        self.journal.append((remote_id, given.command_id))
        return remote_id

    def _change(self, given):
        order = self.orders[given.remote_id]
        match given:
            case Update():
                self.put(order.model_copy(update={"notes": given.order.notes}))
            case AddLines():
                self._lines(given.remote_id, given.lines)
            case UpdateLines():
                wanted = {each.remote_id: each.quantity for each in given.lines}
                lines = tuple(
                    each.model_copy(update={"quantity": wanted.get(each.remote_id, each.quantity)})
                    for each in order.lines
                )
                self.put(order.model_copy(update={"lines": lines}))
            case CancelLines():
                gone = {"status": LineStatus.CANCELLED}
                lines = tuple(
                    each.model_copy(update=gone) if each.remote_id in given.lines else each for each in order.lines
                )
                self.put(order.model_copy(update={"lines": lines}))
            case Cancel():
                self.put(order.model_copy(update={"status": Status.CANCELLED}))
            case Close():
                self.put(order.model_copy(update={"status": Status.CLOSED}))

    def _lines(self, remote_id, drafts):
        order = self.orders[remote_id]
        first = len(order.lines) + 1
        new = tuple(
            Line(remote_id=str(first + place), item=Item(code=each.item.code), quantity=Decimal(each.quantity))
            for place, each in enumerate(drafts)
        )
        self.put(order.model_copy(update={"lines": (*order.lines, *new)}))


@dataclass
class Work:
    """One connection's work, wired as its runner wires it."""

    books: Books = field(default_factory=Books)
    desk: Desk = field(default_factory=Desk)
    of: object = SYNCED
    at_once: int = 2
    clock: object = clock
    synced: bool = True
    lease: object = LEASE

    def __post_init__(self):
        world, self.saved = self.desk.world, 0

        def saved():
            self.saved += 1

        gate, self.doubts = Gate(), Doubts(self.books)
        take = Take(self.of, world, clock, saved, Remapping(), gate, self.doubts)
        timing = (clock, lambda: 0.0, PATIENCE)
        self.poll = Poll(self.of, self.lease, self.books, world, take, *timing)
        reconcile = Reconcile(
            self.of, self.lease, self.books, world, clock, Doubt(2, 0.2), Remapping(), gate, self.doubts
        )
        sync = Sync(self.of, self.lease, self.books, world, take, *timing)
        self.gate, self.take, self.reconcile = gate, take, reconcile
        carry = Carry(self.lease, self.books, self.desk, self.doubts, self.clock, Times(SETTLE, timedelta(seconds=15)))
        conclude = Conclude(
            self.of, self.lease, self.books, self.desk, world, self.doubts, clock, saved, lambda: not self.synced
        )
        self.execute = Execute(
            self.of, self.lease, self.desk, carry, conclude, gate, self.doubts, *timing, self.at_once
        )
        self.attend = Attend(self.poll, reconcile, sync, clock, saved)

    @asynccontextmanager
    async def going(self, *, reading=False):
        """The commands are executed, and with `reading` the ERP is polled, too."""
        work = ErpWork(self.attend, self.execute)
        if reading:
            task = asyncio.create_task(work.run())
        else:
            await self.execute.look()
            task = asyncio.create_task(self.execute.run())
        try:
            yield task
            work.stop()
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def told(self, *orders):
        """Orders that are there, and of which events have told."""
        for each in orders:
            self.books.put(each)
        self.books.polls.append([page(*(self.books.orders[each.remote_id] for each in orders))])
        await self.poll.run_once()

    async def poll_sees(self, *remote_ids):
        self.books.polls.append([page(*(self.books.orders[each] for each in remote_ids))])
        await self.poll.run_once()

    def events(self):
        rows = [orjson.loads(each.body)["data"] for each in self.desk.world.outbox if each.stream == "changes"]
        return [(each["remote_id"], each["sequence"], each["caused_by"]) for each in rows]
