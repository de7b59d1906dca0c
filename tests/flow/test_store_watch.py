"""Which subjects of a worker have something to do, on a real database."""

from datetime import timedelta

from relay.domain.deliveries import Outcome
from relay.store.watch import DueEndpoints, FullOutboxes
from tests.fixtures.store import NOW, STALE, attempt


async def test_an_endpoint_with_a_head_that_is_due_is_found_by_its_owner_only(world):
    erp, hook, _idle = await world.connection(), await world.endpoint(), await world.endpoint(customer="other")
    watch = DueEndpoints(world.database)
    assert await watch.with_work("worker-1") == []
    await world.admissions.admit(await world.tell(erp, "1"))
    assert await watch.with_work("worker-1") == [hook.lease.subject]
    assert await watch.with_work("worker-2") == []


async def test_what_is_to_be_tried_again_is_found_when_its_time_has_come(world):
    erp, hook = await world.connection(), await world.endpoint()
    watch = DueEndpoints(world.database)
    await world.admissions.admit(await world.tell(erp, "1"))
    (head,) = await world.heads(hook)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=NOW + timedelta(days=36500))])
    assert await watch.with_work("worker-1") == []
    await world.sql("UPDATE deliveries SET due_at = now()")
    assert await watch.with_work("worker-1") == [hook.lease.subject]


async def test_a_connection_is_found_while_its_events_wait_or_do_not_come_back(world):
    erp, idle = await world.connection(), await world.connection("idle")
    watch = FullOutboxes(world.database, STALE)
    assert sorted(await watch.with_work("worker-1")) == [erp.lease.subject, idle.lease.subject], "both begin to sync"
    await world.sql("UPDATE syncs SET state = 'done', ended_at = now()")
    assert await watch.with_work("worker-1") == []
    await world.tell(erp, "1")
    assert await watch.with_work("worker-1") == [erp.lease.subject]
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    await world.outbox.save_published(erp.lease, [row.position])
    assert await watch.with_work("worker-1") == []
    await world.sql("UPDATE outbox SET published_at = now() - interval '1 minute'")
    assert await watch.with_work("worker-1") == [erp.lease.subject]
    await world.admissions.admit([row.event_id])
    assert await watch.with_work("worker-1") == []
