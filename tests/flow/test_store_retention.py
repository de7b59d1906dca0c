"""Old events are forgotten with all that belongs to them; what still waits is kept, however old."""

import asyncio
from datetime import timedelta

from relay.store.retention import RetentionStore
from tests.fixtures.store import attempt


async def test_old_events_are_forgotten_with_deliveries_and_attempts_and_waiting_ones_are_kept(world):
    erp, hook = await world.connection(), await world.endpoint()
    ids = await world.tell(erp, "p1", "p2", "p3")
    await world.admissions.admit(ids[:2])
    done, _ = await world.heads(hook)
    await world.deliveries.record(hook.lease, [attempt(done)])
    await world.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    await world.tell(erp, "p4")

    forgotten = await RetentionStore(world.database, timedelta(days=30)).forget()

    assert forgotten == 1
    left = [row["event_id"] for row in await world.sql("SELECT event_id FROM outbox ORDER BY position")]
    assert done.event_id not in left
    assert len(left) == 3, "one waits to be delivered, one to be admitted, one is young"
    assert await world.one("SELECT count(*) FROM deliveries") == 1
    assert await world.one("SELECT count(*) FROM attempts") == 0


async def test_nothing_old_is_nothing_forgotten(world):
    await world.tell(await world.connection(), "p1")
    assert await RetentionStore(world.database, timedelta(days=30)).forget() == 0


async def test_forgetting_that_met_a_removal_in_a_ring_is_done_again(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    await world.deliveries.record(hook.lease, [attempt(*await world.heads(hook))])
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
