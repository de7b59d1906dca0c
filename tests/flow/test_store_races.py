"""Everything at once on a real PostgreSQL: no delivery is stranded, lost or doubled, and nobody waits in a ring."""

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.connections import ConnectionState, Cursor, Polled
from relay.domain.deliveries import Outcome
from relay.domain.errors import LeaseLost, Unavailable
from relay.store.database import guard
from tests.fixtures.store import NOW, attempt

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ORDERS = [f"p{number}" for number in range(4)]


async def gathered(*work):
    """All of it at once; the first failure ends the rest."""
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)


async def deadlocks(world):
    # A session that ends, or goes idle, reports its counts.
    await world.sql("SELECT pg_stat_force_next_flush()")
    return await world.one(DEADLOCKS)


async def admit_at_random(world, told, dice):
    for start in range(0, len(told), 5):
        batch = told[start : start + 5]
        await world.admissions.admit([*batch, *dice.choices(told, k=2)])
        await asyncio.sleep(0)


async def deliver_at_random(world, hook, dice, sent, admitting):
    """What an endpoint's runner does: some heads, any outcome, until all is sent."""
    while True:
        heads = await world.heads(hook, 6)
        if not heads and admitting.is_set() and not await world.waiting(hook.lease.subject):
            return
        some = dice.sample(heads, dice.randint(0, len(heads)))
        attempts = [attempt(head, dice.choice([*Outcome, Outcome.DELIVERED]), due_at=None) for head in some]
        promoted = await world.record(hook.lease, attempts)
        sent.extend(each.delivery for each in attempts if each.outcome in {Outcome.DELIVERED, Outcome.DEAD})
        # What was given up to be promoted must be due.
        assert all(each.due_at for each in promoted)


@pytest.mark.parametrize("seed", range(4))
async def test_admission_during_recording_strands_no_delivery_and_keeps_every_order(world, seed):
    dice = random.Random(seed)
    erp = await world.connection()
    hooks = [await world.endpoint(f"h{number}") for number in range(2)]
    told = [event for _ in range(15) for event in await world.tell(erp, *dice.sample(ORDERS, 3))]
    sent = {hook.lease.subject: [] for hook in hooks}
    admitting = asyncio.Event()

    async def admit():
        await gathered(admit_at_random(world, told, random.Random(seed)), admit_at_random(world, told, dice))
        # What was early comes again, after its predecessor.
        while (await world.admissions.admit(told)).events:
            pass
        admitting.set()

    async with asyncio.timeout(60):
        await gathered(
            admit(),
            *(
                deliver_at_random(world, hook, random.Random(seed), sent[hook.lease.subject], admitting)
                for hook in hooks
            ),
        )
    assert not await world.stranded()
    assert set(await world.states("outbox")) == {"relayed"}
    for deliveries in sent.values():
        assert sorted(each.event_id for each in deliveries) == sorted(told)
        by_lane = defaultdict(list)
        for each in deliveries:
            by_lane[each.lane].append(each.position)
        assert all(positions == sorted(positions) for positions in by_lane.values())
    assert await deadlocks(world) == 0


async def test_numbers_of_an_endpoint_have_no_gap_and_none_is_seen_before_those_below_it(world):
    erp = await world.connection()
    hooks = [await world.endpoint(f"h{number}") for number in range(2)]
    batches = [await world.tell(erp, *(f"p{batch}-{number}" for number in range(10))) for batch in range(24)]
    admitted = asyncio.Event()

    async def admit(share):
        for batch in share:
            await world.admissions.admit(batch)

    async def admit_all():
        await gathered(*(admit(batches[first::6]) for first in range(6)))
        admitted.set()

    async def read(hook):
        reads = 0
        while not admitted.is_set() or not reads:
            rows = await world.sql("SELECT number FROM deliveries WHERE endpoint_id = $1", hook.lease.subject)
            assert sorted(row["number"] for row in rows) == list(range(1, len(rows) + 1))
            reads += 1

    async with asyncio.timeout(60):
        await gathered(admit_all(), *(read(hook) for hook in hooks))
    assert await world.one("SELECT count(*) FROM deliveries WHERE number > 240") == 0
    assert await world.one("SELECT count(*) FROM deliveries") == 2 * 240
    assert await deadlocks(world) == 0


async def test_an_admission_that_waits_for_an_endpoint_that_is_removed_holds_nothing_that_this_needs(world):
    erp, gone, kept = await world.connection(), await world.endpoint("gone"), await world.endpoint("kept")
    told = await world.tell(erp, *ORDERS)
    async with asyncio.timeout(30):
        async with world.database.session() as person, person.transaction():
            await person.execute("SELECT 1 FROM endpoints WHERE id = $1 FOR UPDATE", gone.lease.subject)
            admission = asyncio.create_task(world.admissions.admit(told))
            while not await world.one(WAITING):
                continue
            await person.execute("DELETE FROM endpoints WHERE id = $1", gone.lease.subject)
        await admission
    assert len(await world.waiting(kept.lease.subject)) == len(ORDERS)
    assert await deadlocks(world) == 0


async def test_a_head_that_ends_while_its_successor_is_admitted_hands_over(world):
    erp, hook = await world.connection(), await world.endpoint()
    for _ in range(40):
        await world.admissions.admit(await world.tell(erp, "p1"))
        (head,) = await world.heads(hook)
        told = await world.tell(erp, "p1")
        await gathered(world.admissions.admit(told), world.record(hook.lease, [attempt(head)]))
        (successor,) = await world.heads(hook)
        await world.record(hook.lease, [attempt(successor)])
    assert set(await world.states()) == {"delivered"}


async def test_batches_over_the_same_lanes_in_opposite_orders_never_meet_in_a_ring(world):
    erp = await world.connection()
    hook = await world.endpoint()
    many = [f"p{number}" for number in range(40)]
    # Two in each lane: its head is not its last.
    for _ in range(2):
        await world.admissions.admit(await world.tell(erp, *many))
    async with asyncio.timeout(60):
        for _ in range(20):
            heads = await world.heads(hook)
            behind = await world.tell(erp, *many)
            await gathered(
                world.record(hook.lease, [attempt(head) for head in heads[::-1]]),
                world.admissions.admit(behind[::-1]),
                world.admissions.admit(behind),
            )
    assert await deadlocks(world) == 0
    assert not await world.stranded()


async def test_one_runners_writes_and_its_renewals_never_meet_in_a_ring(world):  # noqa: C901 - six at once
    erp, hook = await world.connection(), await world.endpoint()
    other = await world.connection("other")
    many = [f"p{number}" for number in range(30)]

    async def poll():
        for number in range(25):
            await world.tell(erp, *many)
            await world.orders.save_page(erp.lease, erp.subject, [], [], Cursor(str(number)))
            await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW))

    async def publish():
        for _ in range(40):
            rows = await world.outbox.to_publish(erp.lease, 200)
            positions = [row.position for row in rows]
            random.Random(1).shuffle(positions)
            await gathered(
                world.outbox.save_published(erp.lease, positions), world.admissions.admit([r.event_id for r in rows])
            )

    async def renew(*held):
        for _ in range(60):
            assert len((await world.connections.renew(held)).held) == len(held)
            await world.endpoints.renew([hook])

    async def reconcile():
        for _ in range(25):
            await world.orders.save_missing(erp.lease, many)
            await world.orders.save_reconciled(erp.lease, problem=None, due_at=NOW)

    async def deliver():
        for _ in range(25):
            heads = await world.heads(hook)
            await world.record(hook.lease, [attempt(head) for head in heads])

    async with asyncio.timeout(60):
        await gathered(poll(), publish(), renew(erp, other), renew(erp), reconcile(), deliver(), deliver())
    assert await deadlocks(world) == 0


async def test_endpoints_and_connections_removed_in_the_middle_of_all_do_no_harm(world):
    later = datetime.now(UTC) + timedelta(hours=1)
    for number in range(6):
        erp, doomed = await world.connection(f"erp{number}"), await world.connection(f"doomed{number}")
        hook, gone = await world.endpoint(f"hook{number}"), await world.endpoint(f"gone{number}")
        told = [*await world.tell(erp, *ORDERS), *await world.tell(doomed, *ORDERS), *await world.tell(erp, *ORDERS)]
        await world.admissions.admit(told[:4])
        heads, lost = await world.heads(hook), await world.heads(gone)

        async def record_what_may_be_gone(gone=gone, lost=lost):
            try:
                await world.record(gone.lease, [attempt(head) for head in lost])
            except LeaseLost:
                return

        async with asyncio.timeout(30):
            await gathered(
                world.admissions.admit(told),
                world.registry.remove("connections", doomed.lease.subject),
                world.registry.remove("endpoints", gone.lease.subject),
                world.record(hook.lease, [attempt(each, Outcome.RETRY, due_at=later) for each in heads]),
                record_what_may_be_gone(),
            )
    assert not await world.stranded()


async def test_a_row_removed_between_look_and_write_is_looked_for_again(world):
    """Every try meets a foreign key that is gone: it is tried again, and in the end said clearly."""
    tries = []

    async def hopeless(connection):
        tries.append(1)
        await connection.execute("INSERT INTO admitted VALUES ('nobody', 'p1', 0)")

    with pytest.raises(Unavailable, match="too busy: ForeignKeyViolationError"):
        await world.database.transact(hopeless)
    assert len(tries) == 4


async def test_a_transaction_that_met_another_in_a_ring_is_run_again(world):
    """Two transactions that take two rows crosswise: PostgreSQL ends one, and both come through."""
    await world.sql("ALTER DATABASE " + await world.one("SELECT current_database()") + " SET deadlock_timeout = '10ms'")
    one, two = await world.connection("one"), await world.connection("two")
    met = asyncio.Barrier(2)
    runs = []

    def crosswise(first, second):
        async def work(connection):
            runs.append(1)
            await connection.execute("SET LOCAL deadlock_timeout = '10ms'")
            await guard(connection, "connections", first.lease)
            if len(runs) <= 2:
                await met.wait()
            await guard(connection, "connections", second.lease)

        return world.database.transact(work)

    async with asyncio.timeout(20):
        await gathered(crosswise(one, two), crosswise(two, one))
    assert len(runs) == 3
