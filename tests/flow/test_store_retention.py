"""Old events are forgotten with all that belongs to them; what still waits is kept, however old."""

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
