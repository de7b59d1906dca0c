"""Hand-written fakes of the ports, with the real store's semantics, and a loop whose time passes only when all wait.

run(work)          work on such a loop; fails on tasks left behind, errors nobody saw, and loops that never rest
World              the store: snapshots, outbox, cursors, deliveries, one lease; `lost` and `away` break it
Leases             the store's leases, for any number of workers
Erp, Broker, Hook  the other side: a connector, a producer, a sender
"""

import asyncio
import gc
import selectors
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count

from relay.domain.admission import Admitted, Subscription, Told, contiguous, wanted
from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.connections import Connection, ConnectionId, CustomerId, Lease
from relay.domain.deliveries import Answer, Delivery, DeliveryId, Outcome
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.errors import LeaseLost, Unavailable
from relay.domain.messages import Published
from relay.domain.orders import Line, PurchaseOrder, Status
from relay.domain.syncs import Announce, OpenSync, SyncKind
from relay.ports import Claimed, Found, Heads, OutboxRow, Page, Renewed

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LEASE = Lease("con_1", "worker-1", 1)
MOST_STEPS = 50_000
"""Steps of a loop without a moment passing: more is a loop that never rests."""


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop on which waiting takes no time: when nothing is ready, it is the time of the next timer."""

    def __init__(self):
        self.now, self.steps, self.troubles = 0.0, 0, []
        super().__init__(_Jumping(self))
        self.set_exception_handler(lambda _, context: self.troubles.append(context))

    def time(self):
        return self.now


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        assert timeout is not None, "everything waits, and nothing will ever come"
        if ready := super().select(0):
            return ready
        self.loop.steps = 0 if timeout else self.loop.steps + 1
        assert self.loop.steps < MOST_STEPS, "a loop never rests"
        self.loop.now += timeout
        return []


def run(work):
    """Run a coroutine on virtual time; its answer."""

    async def alone():
        answer = await work
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left behind: {left}"
        return answer

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        answer = runner.run(alone())
        gc.collect(1)
        assert runner.get_loop().troubles == []
        return answer


def clock():
    """The time of the running loop, or START outside of one."""
    try:
        return START + timedelta(seconds=asyncio.get_running_loop().time())
    except RuntimeError:
        return START


async def until(true, seconds=600):
    """Wait until `true()`, at most so many virtual seconds."""
    step = 0.001
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(step)
            step = min(step * 1.05, max(0.001, seconds / 1000))


@asynccontextmanager
async def running(work):
    """`work` as a task for the block; it must end by itself after it."""
    task = asyncio.create_task(work)
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


def connection(**values):
    """A connection with the least that it needs."""
    return Connection(ConnectionId("con_1"), CustomerId("acme"), "erp", "fake", {}, **values)


def endpoint(**values):
    """An endpoint with the least that it needs."""
    return Endpoint(EndpointId("end_1"), "acme", "hook", "https://hook.example/", **values)


def order(remote_id="4500", quantity=1, status=Status.APPROVED, **values):
    """A purchase order of one line."""
    return PurchaseOrder(
        remote_id=remote_id, number=remote_id, status=status, lines=(Line(remote_id="1", quantity=quantity),), **values
    )


@dataclass
class World:
    """Orders, Outbox, Admissions and Deliveries in memory, under one lease."""

    lost: bool = False
    away: bool = False
    calls: Counter = field(default_factory=Counter)
    known: dict = field(default_factory=dict)
    missing: Counter = field(default_factory=Counter)
    cursor: str | None = None
    polled: list = field(default_factory=list)
    reconciled: list = field(default_factory=list)
    versions: dict = field(default_factory=dict)
    begun: list = field(default_factory=list)
    """Versions of a connector's rules with which all is read again."""
    syncs: list = field(default_factory=list)
    """Open syncs; ended ones are in `ended`."""
    ended: list = field(default_factory=list)
    compared: list = field(default_factory=list)
    answered: list = field(default_factory=list)
    moves: list = field(default_factory=list)
    sync_problems: list = field(default_factory=list)
    totals: list = field(default_factory=list)
    outbox: list = field(default_factory=list)
    states: dict = field(default_factory=dict)
    admitted: defaultdict = field(default_factory=lambda: defaultdict(int))
    endpoints: list = field(default_factory=list)
    deliveries: dict = field(default_factory=dict)
    attempts: list = field(default_factory=list)
    disabled: list = field(default_factory=list)
    spaces: list = field(default_factory=list)
    verdicts: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    _positions: count = field(default_factory=lambda: count(1))

    def _enter(self, call, lease=None):
        self.calls[call] += 1
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        if lease is not None and self.lost:
            raise LeaseLost(f"{lease.subject}: another worker has taken over")

    # Mappings

    async def former_mappings(self, _connection_id):
        self._enter("former_mappings")
        return self.versions

    async def begin_rules(self, lease, rules, sync_id):
        self._enter("begin_rules", lease)
        self.begun.append((rules, sync_id))

    # Orders

    async def snapshots(self, _connection_id, remote_ids):
        self._enter("snapshots")
        return {each: self.known[each] for each in remote_ids if each in self.known}

    async def save_page(self, lease, origin, snapshots, entries, cursor):
        self._enter("save_page", lease)
        for each in snapshots:
            self.known[each.remote_id] = each
            self.missing.pop(each.remote_id, None)
        for each in entries:
            self._add(origin.customer_id, origin.id, each)
        self.cursor = cursor or self.cursor

    def _add(self, customer_id, connection_id, entry):
        if entry.event_id in self.states:
            return
        values = {name: getattr(entry, name) for name in type(entry).__slots__}
        self.outbox.append(
            OutboxRow(next(self._positions), customer_id=customer_id, connection_id=connection_id, **values)
        )
        self.states[entry.event_id] = "pending"

    async def save_polled(self, lease, polled):
        self._enter("save_polled", lease)
        self.polled.append(polled)

    async def alive(self, _connection_id):
        self._enter("alive")
        return {each.remote_id for each in self.known.values() if not each.tree["remote_was_deleted"]}

    async def save_missing(self, lease, remote_ids):
        self._enter("save_missing", lease)
        self.missing = Counter({each: self.missing[each] + 1 for each in remote_ids})
        return dict(self.missing)

    async def save_reconciled(self, lease, *, problem, due_at):
        self._enter("save_reconciled", lease)
        self.reconciled.append((problem, due_at))

    # Syncs

    async def open_syncs(self, _connection_id):
        self._enter("open_syncs")
        polls = [each for each in self.syncs if each.kind is SyncKind.POLL]
        return [*polls[:1], *[each for each in self.syncs if each not in polls][:1]]

    async def start_compare(self, lease, due_at):
        self._enter("start_compare", lease)
        self.compared.append(due_at)
        if not self.syncs:
            self.syncs.append(OpenSync(f"syn_{len(self.compared)}", SyncKind.COMPARE, Announce.CHANGES))

    async def save_poll_asked(self, lease, sync_id, polled):
        self._enter("save_poll_asked", lease)
        self.answered.append(polled)
        self.syncs = [each for each in self.syncs if each.id != sync_id]

    async def begin_sync(self, lease, sync_id, total):
        self._enter("begin_sync", lease)
        self.totals.append(total)
        self._sync(sync_id, started=True)

    async def save_sync_page(self, lease, origin, snapshots, entries, moved):
        self._enter("save_sync_page", lease)
        if not self._sync(moved.sync_id, cursor=moved.cursor, failures=0):
            return False
        self.moves.append(moved)
        cursor = self.cursor
        await self.save_page(lease, origin, snapshots, entries, None)
        self.cursor = cursor
        return True

    async def save_sync_failure(self, lease, sync_id, failures, problem):
        self._enter("save_sync_failure", lease)
        self.sync_problems.append(problem)
        self._sync(sync_id, failures=failures)

    async def end_sync(self, lease, sync_id):
        self._enter("end_sync", lease)
        self.ended += [each for each in self.syncs if each.id == sync_id]
        self.syncs = [each for each in self.syncs if each.id != sync_id]

    def _sync(self, sync_id, **values):
        found = [each.id == sync_id for each in self.syncs]
        self.syncs = [replace(each, **values) if each.id == sync_id else each for each in self.syncs]
        return any(found)

    # Outbox

    async def to_publish(self, lease, most):
        self._enter("to_publish")
        rows = [row for row in self.outbox if row.connection_id == lease.subject]
        last = {row.remote_id: row.sequence for row in rows if row.stream == "changes"}
        return [
            replace(row, latest=row.sequence >= last.get(row.remote_id, 0))
            for row in rows
            if self.states[row.event_id] in {"pending", "stale"}
        ][:most]

    async def save_published(self, lease, positions):
        self._enter("save_published", lease)
        for row in self.outbox:
            if row.position in positions and self.states[row.event_id] != "relayed":
                self.states[row.event_id] = "relayed" if row.stream == "dead-letters" else "published"

    async def save_refused(self, lease, row, letter):
        self._enter("save_refused", lease)
        self.states[row.event_id] = "published"
        self._add(row.customer_id, row.connection_id, letter)

    def told(self, stream="changes"):
        """Types of the events in the outbox, in order."""
        return [row.type.removeprefix("purchase_order.") for row in self.outbox if row.stream == stream]

    def grow_stale(self):
        """What was published a while ago and did not come back."""
        self.states |= {each: "stale" for each, state in self.states.items() if state == "published"}

    # Admissions

    async def admit(self, event_ids):
        self._enter("admit")
        rows = [row for row in self.outbox if row.event_id in event_ids and row.stream != "dead-letters"]
        told = [
            Told(row.position, row.event_id, row.customer_id, row.connection_id, row.remote_id, row.sequence, row.type)
            for row in rows
        ]
        ready, early, reached = contiguous(told, self.admitted)
        subscriptions = [Subscription(each.id, each.customer_id) for each in self.endpoints]
        new = wanted(ready, subscriptions)
        bodies = {row.position: row for row in rows}
        for each in new:
            row = bodies[each.position]
            self.put(each.endpoint_id, each.lane, each.position, event_id=row.event_id, body=row.body, name=each.id)
        self.admitted.update(reached)
        self.states |= {event.event_id: "relayed" for event in ready}
        unknown = set(event_ids) - {event.event_id for event in told}
        return Admitted(len(ready), len(new), len(early), tuple(sorted(unknown)))

    # Deliveries

    def put(self, endpoint_id, lane, position=None, *, event_id=None, body=b"{}", name=None):
        """A delivery at the end of its lane, due at once when it is the head."""
        position = position or next(self._positions)
        name = name or f"dlv_{position}"
        head = all(each["lane"] != lane or each["state"] != "waiting" for each in self._of(endpoint_id))
        self.deliveries[name] = {
            "endpoint_id": endpoint_id,
            "lane": lane,
            "position": position,
            "event_id": event_id or f"evt_{position}",
            "due_at": clock() if head else None,
            "attempts": 0,
            "body": body,
            "state": "waiting",
            "id": DeliveryId(name),
        }
        return name

    def _of(self, endpoint_id):
        return [each for each in self.deliveries.values() if each["endpoint_id"] == endpoint_id]

    def waiting(self):
        return [each["id"] for each in self.deliveries.values() if each["state"] == "waiting"]

    async def heads(self, endpoint_id, space):
        self._enter("heads")
        self.spaces.append(space)
        heads = [each for each in self._of(endpoint_id) if each["state"] == "waiting" and each["due_at"]]
        later = [each["due_at"] for each in heads if each["due_at"] > clock()]
        due = sorted(
            (each for each in heads if each["due_at"] <= clock() and each["id"] not in space.held),
            key=lambda each: (each["due_at"], each["position"]),
        )
        fresh = [each for each in due if not each["attempts"]][: space.heads]
        again = [each for each in due if each["attempts"]][: space.repeated]
        found = sorted((*fresh, *again), key=lambda each: (each["due_at"], each["position"]))
        given = _within(found, space.bytes)
        full = len(fresh) == space.heads or len(again) == space.repeated
        return Heads(
            tuple(map(_delivery, given)), min(later, default=None), more=bool(due) and (full or len(given) < len(found))
        )

    async def record(self, lease, attempts, rules):
        # A commit takes a moment, in which the loop goes on.
        await asyncio.sleep(0.001)
        self._enter("record", lease)
        promoted = []
        if rules.verdict:
            self.verdicts.append(rules.verdict)
        for attempt in attempts:
            self.attempts.append(attempt)
            row = self.deliveries[attempt.delivery.id]
            row["attempts"] = attempt.number
            if attempt.outcome in {Outcome.RETRY, Outcome.GONE}:
                row["due_at"] = attempt.due_at or row["due_at"]
                continue
            row["state"], row["due_at"] = attempt.outcome.value, None
            lane = [each for each in self._of(row["endpoint_id"]) if each["lane"] == row["lane"]]
            following = [each for each in lane if each["state"] == "waiting"]
            if following and following[0]["due_at"] is None:
                following[0]["due_at"] = clock()
                promoted.append(following[0])
        given = _within(promoted, rules.bytes)
        return Heads(tuple(map(_delivery, given)), more=len(given) < len(promoted))

    async def supersede(self, lease, held):
        """Only that it is asked: what it does is shown on the real store."""
        self._enter("supersede", lease)

    async def save_problem(self, lease, problem):
        self._enter("save_problem", lease)
        self.problems.append(problem)

    async def disable(self, lease, _url, problem):
        self._enter("disable", lease)
        self.disabled.append(problem)


def _within(rows, most):
    """The first of them, as long as those before are smaller than `most` bytes."""
    before = accumulate((len(each["body"]) for each in rows), initial=0)
    return [each for each, smaller in zip(rows, before, strict=False) if smaller < most]


def _delivery(row):
    names = ("id", "event_id", "lane", "position", "due_at", "attempts", "body")
    return Delivery(**{name: row[name] for name in names})


@dataclass
class Erp:
    """A connector that plays its script: each poll's pages and errors, the pass of ids, and the orders that it has.

    `pages` are those of all orders, or errors in the place of one; a cursor is the number of the next.
    """

    polls: list = field(default_factory=list)
    pages: list = field(default_factory=list)
    total: object = None
    begins: list = field(default_factory=list)
    ids: list = field(default_factory=list)
    orders: dict = field(default_factory=dict)
    cursors: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    async def changed_since(self, cursor):
        self.cursors.append(cursor)
        for step in self.polls.pop(0) if self.polls else []:
            yield await _played(step)

    async def walk(self, cursor, begin):
        self.begins.append((cursor, begin))
        for number, step in enumerate(self.pages):
            if number >= int(cursor or 0):
                if isinstance(step, Exception):
                    self.pages[number] = page()
                yield replace(await _played(step), cursor=str(number + 1))

    async def count(self, _begin):
        return await _played(self.total)

    async def remote_ids(self):
        for step in self.ids:
            yield await _played(step)

    async def read(self, remote_id):
        self.asked.append(remote_id)
        return await _played(self.orders.get(remote_id))

    async def found(self):
        return Found(version="1.0")

    def capabilities(self):
        return Capabilities(connector="fake", fields=(FieldCapability(path="incoterm", readable=False),))

    def writer(self):
        return None


async def _played(step):
    """A value is given, an error raised, an event waited for."""
    if isinstance(step, Exception):
        raise step
    if isinstance(step, asyncio.Event):
        await step.wait()
    return step


def page(*orders, cursor="c1", **values):
    return Page(tuple(orders), cursor, **values)


@dataclass
class Broker:
    """A producer that takes everything, or breaks off: `breaks` are (how many more messages it takes, why not more)."""

    taken: list = field(default_factory=list)
    breaks: list = field(default_factory=list)
    refuses: dict = field(default_factory=dict)
    """What no topic ever takes: (topic, key) -> MessageRefused."""
    calls: int = 0

    async def publish(self, messages):
        self.calls += 1
        await asyncio.sleep(0)
        most, error = self.breaks.pop(0) if self.breaks else (len(messages), None)
        for index, message in enumerate(messages[:most]):
            if refused := self.refuses.get((message.topic, message.key)):
                return Published(index, refused)
            self.taken.append(message)
        return Published(min(most, len(messages)), error)

    def ids(self, topic):
        return [dict(message.headers)["ce_id"].decode() for message in self.taken if message.topic == topic]


@dataclass
class Hook:
    """A sender: `answer(headers, body)` says what comes back; every attempt takes `takes` seconds."""

    answer: object = lambda *_: Answer(status=204)
    takes: float = 0.05
    world: World | None = None
    sent: list = field(default_factory=list)
    flying: list = field(default_factory=list)
    most_at_once: int = 0
    closed: bool = False

    async def send(self, headers, body):
        name = headers["relay-delivery"]
        self.sent.append(name)
        self.flying.append(name)
        self.most_at_once = max(self.most_at_once, len(self.flying))
        self._watch(name)
        try:
            await asyncio.sleep(self.takes)
            answer = await _played(self.answer(headers, body))
            return answer if isinstance(answer, Answer) else Answer(status=204)
        finally:
            self.flying.remove(name)

    def _watch(self, name):
        """The promise: one of a lane in flight, the eldest first, each recorded before the next."""
        if self.world is None:
            return
        row = self.world.deliveries[name]
        lane = [each for each in self.world.deliveries.values() if each["lane"] == row["lane"]]
        assert sum(each["id"] in self.flying for each in lane) == 1, "two of one lane in flight"
        older = [each["id"] for each in lane if each["position"] < row["position"] and each["state"] == "waiting"]
        assert not older, "sent before what stands before it was recorded"


@dataclass
class Leases:
    """Leases over subjects, as the store keeps them: for a while, by epoch, shared among the workers that were seen."""

    ttl: float = 15.0
    rows: dict = field(default_factory=dict)
    workers: dict = field(default_factory=dict)
    away: bool = False
    hanging: bool = False
    released: list = field(default_factory=list)
    renewals: int = 0
    renewed: list = field(default_factory=list)

    def add(self, *names, **values):
        for name in names:
            row = {"owner": None, "epoch": 0, "until": 0.0, "version": 1, "active": True}
            self.rows[name] = row | values

    def held_by(self, owner):
        now = asyncio.get_running_loop().time()
        return {name for name, row in self.rows.items() if row["owner"] == owner and row["until"] > now}

    async def _now(self):
        if self.hanging:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        return asyncio.get_running_loop().time()

    async def share(self, owner):
        now = self.workers[owner] = await self._now()
        seen = sum(at > now - self.ttl for at in self.workers.values())
        return -(-sum(row["active"] for row in self.rows.values()) // seen)

    async def claim(self, owner, most, without=()):
        now = await self._now()
        there = [(name, row) for name, row in self.rows.items() if row["active"] and name not in without]
        free = [name for name, row in there if not row["owner"] or row["until"] < now]
        for name in free[:most]:
            row = self.rows[name]
            row |= {"owner": owner, "epoch": row["epoch"] + 1, "until": now + self.ttl}
        return [self._claimed(name, owner) for name in free[:most]]

    def _claimed(self, name, owner):
        row = self.rows[name]
        return Claimed(Lease(name, owner, row["epoch"]), row["version"], replace(connection(), id=ConnectionId(name)))

    async def renew(self, held):
        now = await self._now()
        self.renewals += 1
        same, changed = set(), set()
        self.renewed += [each.lease.subject for each in held]
        for each in held:
            row = self.rows.get(each.lease.subject, {})
            if (row.get("owner"), row.get("epoch")) != (each.lease.owner, each.lease.epoch):
                continue
            row["until"] = now + self.ttl
            stays = row["version"] == each.version and row["active"]
            (same if stays else changed).add(each.lease.subject)
        return Renewed(frozenset(same), frozenset(changed))

    async def release(self, leases):
        await self._now()
        for lease in leases:
            row = self.rows[lease.subject]
            if (row["owner"], row["epoch"]) == (lease.owner, lease.epoch):
                row |= {"owner": None, "until": 0.0}
                self.released.append(lease.subject)

    async def leave(self, owner):
        await self._now()
        self.workers.pop(owner, None)
