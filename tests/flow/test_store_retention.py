"""Old events are forgotten with all that belongs to them; what still waits is kept, however old. Attempts go by day."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.errors import NotFound
from relay.store.retention import DAYS_AHEAD, RetentionStore, Turned
from tests.fixtures.store import attempt

KEEP = timedelta(days=30)
A_DAY = timedelta(days=1)


@pytest.fixture
def retention(world):
    return RetentionStore(world.database, KEEP)


async def days(world):
    """The days that have a partition."""
    rows = await world.sql(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^attempts_[0-9]{8}$' ORDER BY relname"
    )
    return [datetime.strptime(row["relname"], "attempts_%Y%m%d").replace(tzinfo=UTC).date() for row in rows]


async def recorded(world, *times):
    """Attempts at one delivery at these times."""
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    (head,) = await world.heads(hook)
    made = [replace(attempt(head), number=number, started_at=at) for number, at in enumerate(times, 1)]
    await world.record(hook.lease, made)
    return hook, head


async def kept(world, table="attempts"):
    return await world.one(f"SELECT count(*) FROM {table}")


async def old_day(world, day):
    """A partition for a day in the past, as it was made when that day was to come."""
    await world.sql(
        f"CREATE TABLE attempts_{day:%Y%m%d} PARTITION OF attempts FOR VALUES"
        f" FROM ('{day} 00:00+00') TO ('{day + A_DAY} 00:00+00')"
    )


async def test_what_a_person_sends_again_while_it_is_forgotten_is_gone_and_strands_nothing(world):
    hook, head = await recorded(world, datetime.now(UTC))
    await world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    async with world.database.session() as somebody:
        async with somebody.transaction():
            await somebody.execute("SELECT 1 FROM deliveries FOR UPDATE")
            forgetting = asyncio.create_task(RetentionStore(world.database, KEEP).forget())
            await in_line(world, 1)
            retrying = asyncio.create_task(world.registry.retry(head.id))
            await in_line(world, 2)
        assert await forgetting == 1
    with pytest.raises(NotFound):
        await retrying
    await world.admissions.admit(await world.tell(await by(world), "p1"))
    assert await world.waiting(hook.lease.subject) == [("p1", True)]


async def in_line(world, most):
    """Wait until so many wait for locks."""
    async with asyncio.timeout(30):
        while (  # noqa: ASYNC110 - a lock rings no bell
            await world.one(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            < most
        ):
            await asyncio.sleep(0.01)


async def by(world):
    """The connection again, as another worker takes it over."""
    (row,) = await world.sql("SELECT id FROM connections")
    await world.expire("connections", row["id"])
    return await world.claimed("connections", row["id"])


async def test_old_events_are_forgotten_with_their_deliveries_and_waiting_ones_are_kept(world):
    erp, hook = await world.connection(), await world.endpoint()
    ids = await world.tell(erp, "p1", "p2", "p3")
    await world.admissions.admit(ids[:2])
    done, _ = await world.heads(hook)
    await world.record(hook.lease, [attempt(done)])
    await world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    await world.tell(erp, "p4")

    forgotten = await RetentionStore(world.database, timedelta(days=30)).forget()

    assert forgotten == 1
    left = [row["event_id"] for row in await world.sql("SELECT event_id FROM outbox ORDER BY position")]
    assert done.event_id not in left
    assert len(left) == 3, "one waits to be delivered, one to be admitted, one is young"
    assert await world.one("SELECT count(*) FROM deliveries") == 1


async def test_nothing_old_is_nothing_forgotten(world):
    await world.tell(await world.connection(), "p1")
    assert await RetentionStore(world.database, timedelta(days=30)).forget() == 0


async def test_forgetting_that_met_a_removal_in_a_ring_is_done_again(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    await world.record(hook.lease, [attempt(*await world.heads(hook))])
    await world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    retention = RetentionStore(world.database, timedelta(days=30))
    async with asyncio.timeout(20):
        async with world.database.session() as removal, removal.transaction():
            # So that PostgreSQL ends the other of the two.
            await removal.execute("SET LOCAL deadlock_timeout = '30s'")
            await removal.execute("SELECT 1 FROM deliveries FOR UPDATE")
            forgetting = asyncio.create_task(retention.forget())
            while not await world.one("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - PostgreSQL sets no event of ours
                await asyncio.sleep(0)
            await removal.execute("SELECT 1 FROM outbox FOR UPDATE")
        assert await forgetting + await retention.forget() == 1
    assert await world.one("SELECT count(*) FROM outbox") == 0


async def test_the_days_to_come_have_a_partition_before_they_begin(world, retention):
    turned = await retention.turn_days()
    today = datetime.now(UTC).date()
    assert await days(world) == list(turned.made)
    assert turned == Turned(tuple(today + n * A_DAY for n in range(DAYS_AHEAD + 1)), (), ())
    assert await retention.turn_days() == Turned((), (), ())

    now = datetime.now(UTC)
    await recorded(world, now, now + A_DAY, now + 30 * A_DAY)
    assert await kept(world, f"attempts_{now:%Y%m%d}") == 1
    assert await kept(world, f"attempts_{now + A_DAY:%Y%m%d}") == 1
    assert await kept(world, "attempts_other") == 1, "a day that has none yet"


async def test_each_partition_finds_the_attempts_of_a_delivery_by_its_index(world, retention):
    (day, *_) = (await retention.turn_days()).made
    (indexed,) = await world.sql("SELECT indexdef FROM pg_indexes WHERE tablename = $1", f"attempts_{day:%Y%m%d}")
    assert "(delivery_id, started_at)" in indexed["indexdef"]


async def test_a_day_that_is_already_under_way_in_the_default_partition_stays_there(world, retention):
    now = datetime.now(UTC)
    await recorded(world, now)
    turned = await retention.turn_days()
    assert turned.left == (now.date(),)
    assert len(turned.made) == DAYS_AHEAD
    assert await kept(world) == 1


async def test_several_workers_turn_the_days_at_once(world):
    turned = await asyncio.gather(*(RetentionStore(world.database, KEEP).turn_days() for _ in range(6)))
    today = datetime.now(UTC).date()
    made = [day for each in turned for day in each.made]
    assert len(made) == len(set(made))
    await RetentionStore(world.database, KEEP).turn_days()
    assert await days(world) == [today + n * A_DAY for n in range(DAYS_AHEAD + 1)]


async def test_days_that_ended_long_enough_ago_are_dropped_whole(world, retention):
    now = datetime.now(UTC)
    old, last = (now - KEEP - A_DAY).date(), (now - KEEP).date()
    await old_day(world, old)
    await old_day(world, last)
    await recorded(world, now - KEEP - A_DAY, now - KEEP)
    turned = await retention.turn_days()
    assert turned.dropped == (old,)
    assert last in await days(world), "it is not yet over for so long"
    assert await kept(world) == 1


async def test_old_attempts_of_days_without_a_partition_are_deleted(world, retention):
    now = datetime.now(UTC)
    await recorded(world, now - KEEP - A_DAY, now - KEEP - timedelta(minutes=1), now)
    assert await retention.forget_attempts() == 2
    assert await retention.forget_attempts() == 0
    assert await kept(world) == 1


async def test_a_day_that_somebody_reads_is_dropped_another_time_and_recording_goes_on_meanwhile(world, retention):
    now = datetime.now(UTC)
    old = (now - KEEP - A_DAY).date()
    await old_day(world, old)
    hook, head = await recorded(world, now)
    async with asyncio.timeout(20):
        async with world.database.session() as reader, reader.transaction():
            await reader.fetch("SELECT count(*) FROM attempts")
            turning = asyncio.create_task(retention.turn_days())
            while not turning.done():
                await world.record(hook.lease, [attempt(head)])
            assert old in (await turning).left
        assert (await retention.turn_days()).dropped == (old,)


async def test_recording_while_todays_partition_is_made_loses_nothing(world, retention):
    now = datetime.now(UTC)
    hook, head = await recorded(world, now - 2 * A_DAY)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(world.record(hook.lease, [replace(attempt(head), started_at=now)]))
        tasks.create_task(retention.turn_days())
    assert await kept(world) == 21


async def test_an_attempt_whose_day_gets_a_partition_under_way_goes_there(world, retention):
    """It was on its way to the default partition, and waits for whoever attaches the new one."""
    now = datetime.now(UTC)
    hook, head = await recorded(world, now - 2 * A_DAY)
    day = f"attempts_{now:%Y%m%d}"
    begin = datetime.combine(now.date(), datetime.min.time(), UTC)
    async with asyncio.timeout(20):
        async with world.database.session() as making, making.transaction():
            await making.execute(f"CREATE TABLE {day} (LIKE attempts INCLUDING ALL)")
            await making.execute(
                f"ALTER TABLE attempts ATTACH PARTITION {day} FOR VALUES FROM ('{begin}') TO ('{begin + A_DAY}')"
            )
            recording = asyncio.create_task(world.record(hook.lease, [replace(attempt(head), started_at=now)]))
            while not await world.one("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - PostgreSQL sets no event of ours
                await asyncio.sleep(0)
        await recording
    assert await kept(world, day) == 1


async def test_replays_that_ended_long_ago_are_forgotten_unless_something_of_them_waits(world, retention):
    await world.endpoint()
    for name, ended in (("old", "31 days"), ("young", "1 day"), ("waits", "31 days")):
        await world.sql(
            "INSERT INTO replays (id, endpoint_id, criteria, per_second, until, found, state, ended_at)"
            " VALUES ($1, 'end_acme_hook', '{}', 1, 0, 0, 'cancelled', now() - $2::text::interval)",
            name,
            ended,
        )
    await world.admissions.admit(await world.tell(await world.connection(), "p1"))
    await world.sql("UPDATE deliveries SET replay_id = 'waits'")
    await retention.forget_replays()
    assert [row["id"] for row in await world.sql("SELECT id FROM replays ORDER BY id")] == ["waits", "young"]


async def test_ended_syncs_are_forgotten_but_for_each_connections_first(world, retention):
    await world.connection()
    await world.sql("UPDATE syncs SET ended_at = now() - interval '1 year'")
    for name, ended in (("old", "now() - interval '1 year'"), ("young", "now()"), ("open", "NULL")):
        await world.sql(
            f"INSERT INTO syncs (id, connection_id, kind, announce, ended_at)"
            f" SELECT '{name}', id, 'poll', 'changes', {ended} FROM connections"
        )
    assert await retention.forget_syncs() == 1
    assert [row["kind"] for row in await world.sql("SELECT kind FROM syncs ORDER BY kind")] == ["first", "poll", "poll"]
