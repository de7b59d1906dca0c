"""Sending again, on a real PostgreSQL: what is put in line, in which order, and what is left alone."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.deliveries import Answer, Outcome
from relay.domain.endpoints import EndpointOptions, Ordering
from relay.domain.errors import LeaseLost, NotFound, UserError
from relay.domain.replays import Criteria, Past, ReplayState
from relay.store import replay as store
from relay.store.replay import ReplayStore, values_of
from relay.store.replays import ReplayList
from relay.store.retention import RetentionStore
from tests.fixtures.store import NOW, attempt, entry

LATER = datetime.now(UTC) + timedelta(hours=1)
ALL = Criteria()
MANY = 1000


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
async def hook(world, erp):
    return await world.endpoint()


@dataclass
class Again:
    """Both sides of sending again: what people do, and what the endpoint's runner does."""

    people: ReplayList
    runner: ReplayStore

    async def begun(self, hook, criteria=ALL, name="rpl_1"):
        await self.people.start(name, hook.subject, criteria, 50)

    async def look(self, hook, most_waiting=300):
        return await self.runner.look(hook.subject, most_waiting)

    async def bite(self, hook, held=(), most=MANY):
        look = await self.look(hook)
        return None if look is None else await self.runner.bite(hook.lease, hook.subject, look, held, most)

    async def shown(self, name="rpl_1"):
        return await self.people.replay(name)


@pytest.fixture
def again(world):
    return Again(ReplayList(world.database), ReplayStore(world.database))


async def told(world, erp, *remote_ids):
    for remote_id in remote_ids:
        await world.admissions.admit(await world.tell(erp, remote_id))


async def sent(world, hook, outcome=Outcome.DELIVERED):
    """Send all that is due until nothing is; the bodies in order."""
    bodies = []
    while heads := await world.heads(hook):
        await world.record(hook.lease, [attempt(head, outcome) for head in heads])
        bodies += [head.body.decode() for head in heads]
    return bodies


async def test_everything_is_sent_again_in_order_with_the_same_ids(world, erp, hook, again):
    await told(world, erp, "p1", "p2", "p1")
    before = await world.sql("SELECT id, number FROM deliveries ORDER BY position")
    await sent(world, hook)
    await again.begun(hook)
    assert (await again.bite(hook)).put == 3
    assert await world.waiting(hook.lease.subject) == [("p1", True), ("p2", True), ("p1", False)]
    (head, *_) = await world.heads(hook)
    assert (head.replay, head.attempts) == ("rpl_1", 0)
    assert await sent(world, hook) == ["p1 1", "p2 1", "p1 2"]
    assert await world.sql("SELECT id, number FROM deliveries ORDER BY position") == before
    shown = await again.shown()
    assert (shown["state"], shown["found"], shown["done"], shown["delivered"], shown["waiting"]) == ("done", 3, 3, 3, 0)
    assert await again.bite(hook) is None


async def test_an_endpoint_that_was_added_later_gets_what_it_wants_of_what_was_before(world, erp, again):
    await told(world, erp, "p1", "p2", "p1")
    late = await world.endpoint("late")
    await told(world, erp, "p1")
    assert await sent(world, late) == ["p1 3"]
    await again.begun(late, Criteria(statuses=(Past.NEVER,)))
    assert (await again.bite(late)).put == 3
    assert await sent(world, late) == ["p1 1", "p2 1", "p1 2"]
    numbers = await world.sql("SELECT number FROM deliveries ORDER BY position")
    assert [row["number"] for row in numbers] == [2, 3, 4, 1]
    await told(world, erp, "p1")
    assert await world.one("SELECT max(number) FROM deliveries") == 5


@pytest.mark.parametrize(
    ("narrowed", "bodies"),
    [
        ({"event_types": ("purchase_order.approved",)}, []),
        ({"connections": ("con_other",)}, []),
        ({"options": EndpointOptions(where='data.order.status == "closed"')}, []),
        ({"options": EndpointOptions(ordering=Ordering.UNORDERED)}, ["p1 1", "p1 2"]),
        ({}, ["p1 1", "p1 2"]),
    ],
)
async def test_what_an_endpoint_never_had_goes_by_its_filters(world, erp, again, narrowed, bodies):
    await told(world, erp, "p1", "p1")
    await world.sql(
        """UPDATE outbox SET body = '{"data": {"order": {"status": "approved"}}}' WHERE $1""",
        bool(narrowed.get("options")) and not bodies,
    )
    late = await world.endpoint("late", **narrowed)
    await again.begun(late)
    assert (await again.bite(late)).put == len(bodies)
    assert await sent(world, late) == bodies
    assert not await world.stranded()


@pytest.mark.parametrize(
    "case",
    [
        ({"order": "p2"}, ["p2 1"]),
        ({"event_types": ("purchase_order.approved",)}, ["p3 1"]),
        ({"since": NOW + timedelta(days=1)}, ["p4 1"]),
        ({"until": NOW}, ["p5 1"]),
        ({"connection": "con_acme_other"}, ["p6 1"]),
        ({"statuses": (Past.DEAD,)}, ["p7 1"]),
    ],
)
async def test_criteria_narrow_what_is_sent_again(world, erp, hook, again, case):
    criteria, bodies = case
    other = await world.connection("other")
    entries = [
        entry(erp.lease.subject, "p1", 1),
        entry(erp.lease.subject, "p2", 1),
        entry(erp.lease.subject, "p3", 1, kind="approved"),
        replace(entry(erp.lease.subject, "p4", 1), occurred_at=NOW + timedelta(days=1)),
        replace(entry(erp.lease.subject, "p5", 1), occurred_at=NOW - timedelta(days=1)),
        entry(erp.lease.subject, "p7", 1),
    ]
    await world.orders.save_page(erp.lease, erp.subject, [], entries, None)
    await world.admissions.admit([each.event_id for each in entries])
    await told(world, other, "p6")
    outcomes = {"p7": Outcome.DEAD}
    heads = await world.heads(hook)
    await world.record(
        hook.lease, [attempt(head, outcomes.get(head.body[:2].decode(), Outcome.DELIVERED)) for head in heads]
    )
    found = await again.people.found(hook.subject, Criteria(**criteria))
    assert found.events == 1
    assert found.first == found.last
    assert (await again.people.found(hook.subject, ALL)).events == 7
    await again.begun(hook, Criteria(**criteria))
    await again.bite(hook)
    assert await sent(world, hook) == bodies


async def test_what_waits_or_is_another_customers_is_never_sent_again(world, erp, hook, again):
    stranger = await world.connection("erp", "umbrella")
    entries = [replace(entry(stranger.lease.subject, "p9", 1), event_id="evt_stranger")]
    await world.orders.save_page(stranger.lease, stranger.subject, [], entries, None)
    await world.admissions.admit(["evt_stranger"])
    await told(world, erp, "p1")
    await world.tell(erp, "p2")
    await again.begun(hook)
    found = await again.people.found(hook.subject, ALL)
    assert (found.events, found.first, found.last) == (0, None, None)
    assert (await again.bite(hook)).put == 0
    assert (await again.shown())["state"] == "done"


async def test_what_comes_after_the_start_is_not_sent_twice(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    await told(world, erp, "p2")
    await sent(world, hook)
    assert (await again.bite(hook)).put == 1


async def test_older_events_go_before_the_head_that_was_and_it_waits_behind_them(world, erp, hook, again):
    await told(world, erp, "p1", "p1", "p1")
    for outcome in (Outcome.DEAD, Outcome.DEAD):
        await world.record(hook.lease, [attempt(*await world.heads(hook), outcome)])
    await world.record(hook.lease, [attempt(*await world.heads(hook), Outcome.RETRY, due_at=LATER)])
    await again.begun(hook)
    assert (await again.bite(hook)).put == 2
    assert await world.waiting(hook.lease.subject) == [("p1", True), ("p1", False), ("p1", False)]
    assert await sent(world, hook) == ["p1 1", "p1 2", "p1 3"]


async def test_a_head_that_waits_for_its_time_keeps_it_when_later_events_come_behind_it(world, erp, hook, again):
    await told(world, erp, "p1", "p1")
    first = (await world.heads(hook))[0]
    await sent(world, hook)
    await world.registry.retry(first.id)
    await world.record(hook.lease, [attempt(*await world.heads(hook), Outcome.RETRY, due_at=LATER)])
    await again.begun(hook)
    assert (await again.bite(hook)).put == 1
    assert await world.heads(hook) == []
    assert not await world.stranded()


async def test_a_lane_of_which_the_runner_holds_something_is_left_for_the_next_time(world, erp, hook, again):
    await told(world, erp, "p1", "p2", "p3")
    await sent(world, hook)
    await again.begun(hook)
    await told(world, erp, "p1")
    (held,) = await world.heads(hook)
    first = await again.bite(hook, held=[held.id])
    assert (first.put, first.ended) == (2, False)
    assert (await again.bite(hook, held=[held.id])).put == 0
    await world.record(hook.lease, [attempt(held)])
    last = await again.bite(hook)
    assert (last.put, last.ended) == (1, True)
    assert await world.one("SELECT count(*) FROM deliveries WHERE replay_id IS NOT NULL") == 3


async def test_bites_take_whole_orders_and_go_on_where_the_last_one_ended(world, erp, hook, again):
    await told(world, erp, "p1", "p2", "p1", "p3", "p2", "p3", "p1")
    await sent(world, hook)
    await again.begun(hook)
    assert (await again.bite(hook, most=1)).put == 3
    # Another worker takes over, as after a crash: all that was put in line is there.
    hook = await world.taken_over("endpoints", hook.lease)
    assert (await again.bite(hook, most=1)).put == 2
    last = await again.bite(hook, most=1)
    assert (last.put, last.ended) == (2, True)
    by_order = defaultdict(list)
    for body in await sent(world, hook):
        by_order[body[:2]].append(body)
    assert all(bodies == sorted(bodies) for bodies in by_order.values())
    assert (await again.shown())["done"] == 7


async def test_one_replay_goes_after_the_other(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    await again.begun(hook, name="rpl_2")
    assert (await again.look(hook)).id == "rpl_1"
    await again.bite(hook)
    assert (await again.bite(hook)).put == 0, "the first still waits to be sent"
    assert [each["state"] for each in await again.people.replays(hook.lease.subject)] == ["done", "done"]


async def test_not_more_are_looked_up_while_many_wait(world, erp, hook, again):
    await told(world, erp, "p1", "p2", "p3")
    await sent(world, hook)
    await again.begun(hook)
    await again.bite(hook, most=1)
    look = await again.look(hook, 1)
    assert (look.waiting, look.matches) == (1, ())


async def test_whoever_lost_the_lease_puts_nothing_in_line(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    await world.taken_over("endpoints", hook.lease)
    before = await world.everything()
    with pytest.raises(LeaseLost):
        await again.bite(hook)
    with pytest.raises(LeaseLost):
        await again.runner.take_back(hook.lease, "rpl_1", [])
    assert await world.everything() == before


async def test_a_paused_replay_stands_still_and_goes_on(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    look = await again.look(hook)
    await again.people.change("rpl_1", ReplayState.PAUSED, [ReplayState.RUNNING])
    assert await again.look(hook) is None
    assert (await again.runner.bite(hook.lease, hook.subject, look, [], MANY)).put == 0, "seen before it was paused"
    with pytest.raises(UserError, match="replay rpl_1 is paused already"):
        await again.people.change("rpl_1", ReplayState.PAUSED, [ReplayState.RUNNING])
    await again.people.change("rpl_1", ReplayState.RUNNING, [ReplayState.PAUSED])
    assert (await again.bite(hook)).put == 1


async def test_a_cancelled_replay_gives_back_what_was_not_sent(world, erp, hook, again):
    await told(world, erp, "p1", "p1", "p2")
    await sent(world, hook)
    await world.sql("UPDATE deliveries SET state = 'dead' WHERE lane LIKE '%p2'")
    late = await world.endpoint("late")
    await again.begun(late, name="rpl_late")
    await again.bite(late)
    await again.begun(hook)
    await again.bite(hook)
    await told(world, erp, "p1")
    (held, *_) = await world.heads(hook)
    await again.people.change(
        "rpl_1", ReplayState.CANCELLED, [ReplayState.RUNNING, ReplayState.PAUSED, ReplayState.DONE]
    )

    look = await again.look(hook)
    assert look.cancelled
    assert await again.runner.take_back(hook.lease, look.id, [held.id]) == 1, "one lane is being sent"
    assert await again.runner.take_back(hook.lease, look.id, []) == 2
    assert await again.look(hook) is None
    assert await world.waiting(hook.lease.subject) == [("p1", True)], "what is new goes on"
    states = await world.sql(
        "SELECT state FROM deliveries WHERE endpoint_id = $1 ORDER BY position", hook.lease.subject
    )
    assert [row["state"] for row in states] == ["delivered", "delivered", "dead", "waiting"]

    await again.people.change("rpl_late", ReplayState.CANCELLED, [ReplayState.DONE])
    await again.runner.take_back(late.lease, "rpl_late", [])
    rows = await world.sql("SELECT state, last_error FROM deliveries WHERE replay_id = 'rpl_late'")
    assert {(row["state"], row["last_error"]) for row in rows} == {("dead", "cancelled")}


async def test_what_a_person_sends_again_after_cancelling_is_not_taken_back(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    look = await again.look(hook)
    await again.runner.bite(hook.lease, hook.subject, replace(look, last=False), (), MANY)
    await sent(world, hook, Outcome.DEAD)
    await again.people.change("rpl_1", ReplayState.CANCELLED, [ReplayState.RUNNING])
    (row,) = await world.sql("SELECT id FROM deliveries")
    await world.registry.retry(row["id"])
    assert await again.look(hook) is None
    assert await sent(world, hook) == ["p1 1"]


async def test_a_replay_that_is_not_there_is_named(hook, again):
    for look in (again.people.replay("rpl_x"), again.people.change("rpl_x", ReplayState.CANCELLED, [])):
        with pytest.raises(NotFound, match="there is no replay 'rpl_x'"):
            await look


async def test_a_condition_that_has_still_to_be_asked_makes_the_count_a_limit(world, erp, again):
    await told(world, erp, "p1")
    late = await world.endpoint("late", options=EndpointOptions(where='data.order.status == "closed"'))
    assert (await again.people.found(late.subject, ALL)).at_most
    assert not (await again.people.found(late.subject, Criteria(statuses=(Past.DEAD,)))).at_most


@pytest.mark.parametrize("seed", range(4))
async def test_replay_admission_recording_and_forgetting_at_once_strand_and_reorder_nothing(  # noqa: C901 - four at once
    world, erp, hook, again, seed
):
    dice = random.Random(seed)
    orders = [f"p{number}" for number in range(4)]
    for _ in range(8):
        await told(world, erp, *orders)
    await sent(world, hook)
    await world.sql("UPDATE outbox SET created_at = now() - interval '40 days' WHERE position <= 8")
    began = await world.one("SELECT max(position) FROM outbox")
    await again.begun(hook)
    got, over, turn = [], asyncio.Event(), asyncio.Lock()

    async def admit():
        for _ in range(20):
            await told(world, erp, *dice.sample(orders, 2))

    async def put():
        while await again.look(hook):
            async with turn:
                await again.bite(hook, most=dice.randint(1, 3))
            await asyncio.sleep(0)

    async def deliver():
        while not over.is_set() or await world.waiting(hook.lease.subject):
            # One turn is what the runner does between reading heads and recording them.
            async with turn:
                heads = await world.heads(hook)
                attempts = [attempt(head, dice.choice([Outcome.DELIVERED, Outcome.RETRY])) for head in heads]
                await world.record(hook.lease, attempts)
            got.extend(each.delivery for each in attempts if each.outcome is Outcome.DELIVERED)
            await asyncio.sleep(0)

    async def forget():
        for _ in range(5):
            await RetentionStore(world.database, timedelta(days=30)).forget()

    async def work():
        async with asyncio.TaskGroup() as tasks:
            for each in (admit(), put(), forget()):
                tasks.create_task(each)
        over.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        tasks.create_task(deliver())
    assert not await world.stranded()
    assert (await again.shown())["state"] == "done"
    for lane in {each.lane for each in got}:
        replayed = [each.position for each in got if each.lane == lane and each.position <= began]
        new = [each.position for each in got if each.lane == lane and each.position > began]
        assert replayed == sorted(replayed)
        assert new == sorted(new)
        # An order is told again in one piece: nothing new comes into the middle of it.
        places = [place for place, each in enumerate(x for x in got if x.lane == lane) if each.position <= began]
        assert places == list(range(places[0], places[0] + len(places))) if places else True
    assert await world.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_a_delivery_sent_again_records_its_attempts_beside_the_earlier_ones(world, erp, hook, again):
    await told(world, erp, "p1")
    await sent(world, hook)
    await again.begun(hook)
    await again.bite(hook)
    (head,) = await world.heads(hook)
    await world.record(hook.lease, [attempt(head, Outcome.DEAD, answer=Answer(status=400))])
    found = await world.registry.delivery(head.id)
    assert [each["status"] for each in found["attempts_made"]] == [200, 400]
    assert (found["state"], found["attempts"]) == ("dead", 1)


async def test_what_a_runner_asks_for_uses_indexes_however_much_is_stored(world, erp, hook, again):
    async with world.database.session() as connection:
        await connection.execute("""
            INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type,
                                occurred_at, body)
                SELECT 'evt_' || n, 'changes', 'relayed', 'acme', 'con_acme_erp', 'p' || n % 500, n, 'x', now(), ''
                FROM generate_series(1, 20000) AS n;
            INSERT INTO deliveries (id, endpoint_id, position, lane, state, number, replay_id)
                SELECT 'dlv_' || position, 'end_acme_hook', position, 'con|' || remote_id,
                       CASE WHEN position % 3 = 0 THEN 'waiting' ELSE 'delivered' END, position,
                       CASE WHEN position % 5 = 0 THEN 'rpl_' || position % 20 END FROM outbox;
            ANALYZE;
        """)
        values = values_of(hook.subject, ALL, 500, 1500)
        for statement, arguments, index in (
            (store.NEXT, ("end_acme_hook", 300), "deliveries_replay"),
            (store.END, (500, 20000, 1000), "outbox_pkey"),
            (store.LOOK, (*values, "rpl_1", 500), "outbox_pkey"),
            (store.ROWS, (*values, "rpl_1", ["con_acme_erp"], ["p7"]), "outbox_order"),
            (store.AGAIN, (["dlv_1", "dlv_2"], "rpl_1"), "deliveries_pkey"),
            (store.HEADS, ("end_acme_hook", ["con|p1", "con|p2"]), "deliveries_lane"),
            (store.BACK, ("rpl_1", []), "deliveries_replay"),
        ):
            explained = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arguments))
            assert index in explained, explained
            assert "Seq Scan on outbox" not in explained, explained
            assert "Seq Scan on deliveries" not in explained, explained


async def test_a_long_outbox_is_looked_through_a_stretch_at_a_time(world, erp, hook, again):
    again.runner = ReplayStore(world.database, look_ahead=2, stretch=2)
    await told(world, erp, "p1", "p2", "p3", "p4", "p5")
    await sent(world, hook)
    await again.begun(hook, Criteria(order="p5"))
    bites = [await again.bite(hook) for _ in range(3)]
    assert [(each.put, each.moved, each.ended) for each in bites] == [
        (0, True, False),
        (0, True, False),
        (1, True, True),
    ]
    await again.begun(hook, name="rpl_2")
    assert [(await again.bite(hook)).put for _ in range(3)] == [2, 2, 0], "one of them waits in line already"
