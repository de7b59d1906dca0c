"""Syncs in the store: one at a time per connection, moved with their pages, cancelled by people, given way."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from relay.domain.changes import ChangeKind
from relay.domain.connections import ConnectionState, Polled
from relay.domain.errors import AlreadyThere, LeaseLost, NotFound, UserError
from relay.domain.events import Origin, change_event
from relay.domain.hours import Hours
from relay.domain.orders import PurchaseOrder
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce, Moved, OpenSync, SyncKind
from relay.ports import OutboxEntry
from relay.store.syncs import SyncList, SyncStore, add_sync
from tests.fixtures.store import NOW

BEGIN = date(2026, 1, 1)


@pytest.fixture
async def new(world):
    """A connection whose first sync has not begun."""
    return await world.connection()


@pytest.fixture
async def erp(new, store):
    """A connection whose first sync is through."""
    await store.end_sync(new.lease, (await open_of(store, new)).id)
    return new


@pytest.fixture
def store(world):
    return SyncStore(world.database)


@pytest.fixture
def listed(world):
    return SyncList(world.database)


def one(erp, remote_id="1"):
    """An order's snapshot and event."""
    origin = Origin("acme", erp.lease.subject, "fake")
    order = PurchaseOrder(remote_id=remote_id, status="approved")
    event, snapshot = change_event(origin, None, order, now=NOW, first=ChangeKind.SNAPSHOT)
    values = (event.data.event_id, "changes", remote_id, 1, event.type, NOW, event.model_dump_json().encode())
    return snapshot, OutboxEntry(*values)


async def open_of(store, erp):
    """What is open, if it is one."""
    (found,) = await store.open_syncs(erp.lease.subject) or [None]
    return found


async def start(listed, erp, sync_id="syn_1"):
    await listed.start(sync_id, erp.lease.subject, SyncKind.RESYNC, Announce.CHANGES, BEGIN)


async def test_a_sync_is_found_moved_and_ended(world, erp, store, listed):
    assert await open_of(store, erp) is None
    await start(listed, erp)
    assert await open_of(store, erp) == OpenSync("syn_1", SyncKind.RESYNC, Announce.CHANGES, BEGIN)
    await store.begin_sync(erp.lease, "syn_1", 7)
    snapshot, entry = one(erp)
    moved = Moved("syn_1", "c1", read=5, told=1, rejected=2, notices=("odd \x00",))
    assert await store.save_sync_page(erp.lease, erp.subject, [snapshot], [entry], moved)
    assert await store.save_sync_page(erp.lease, erp.subject, [], [], Moved("syn_1", "c2", 1, 0, 0))
    await store.save_sync_failure(erp.lease, "syn_1", 3, "away \x00")
    found = await open_of(store, erp)
    assert (found.cursor, found.started, found.failures) == ("c2", True, 3)
    row = await listed.sync("syn_1")
    counts = (row["read"], row["told"], row["rejected"], row["total"], row["state"])
    assert counts == (6, 1, 2, 7, "running")
    assert row["problem"].startswith("away")
    assert [each.startswith("odd") for each in (await world.registry.connection("erp")).notices] == [True]
    assert (await world.registry.connection("erp")).subject.cursor is None
    assert set(await world.orders.snapshots(erp.lease.subject, ["1"])) == {"1"}
    await store.end_sync(erp.lease, "syn_1")
    assert await open_of(store, erp) is None
    assert [(each["state"], each["problem"]) for each in await listed.syncs(erp.lease.subject)] == [("done", None)] * 2


async def test_one_at_a_time_and_another_after_it(erp, store, listed):
    await start(listed, erp)
    with pytest.raises(AlreadyThere, match="being read already"):
        await start(listed, erp, "syn_2")
    await store.end_sync(erp.lease, "syn_1")
    await start(listed, erp, "syn_2")
    assert (await open_of(store, erp)).id == "syn_2"
    assert {each["id"] for each in await listed.syncs()} >= {"syn_1", "syn_2"}


async def test_what_was_cancelled_takes_no_page(world, erp, store, listed):
    await start(listed, erp)
    await listed.cancel("syn_1")
    snapshot, entry = one(erp)
    assert not await store.save_sync_page(erp.lease, erp.subject, [snapshot], [entry], Moved("syn_1", "c1", 1, 1, 0))
    assert await world.orders.snapshots(erp.lease.subject, ["1"]) == {}
    assert await world.states("outbox") == []
    with pytest.raises(UserError, match="cancelled already"):
        await listed.cancel("syn_1")
    with pytest.raises(NotFound):
        await listed.cancel("syn_9")


async def test_a_changed_mapping_takes_the_place_of_a_resync(world, erp, store, listed):
    await start(listed, erp)
    async with world.database.session() as connection, connection.transaction():
        await add_sync(connection, "syn_2", erp.lease.subject, SyncKind.MAPPING, Announce.SILENT)
    assert (await open_of(store, erp)).id == "syn_2"
    assert (await listed.sync("syn_1"))["state"] == "cancelled"


async def test_a_lost_lease_moves_nothing(world, erp, store, listed):
    await start(listed, erp)
    await world.taken_over("connections", erp.lease)
    for work in (
        store.begin_sync(erp.lease, "syn_1", None),
        store.save_sync_page(erp.lease, erp.subject, [], [], Moved("syn_1", "c1", 1, 0, 0)),
        store.save_sync_failure(erp.lease, "syn_1", 1, "away"),
        store.end_sync(erp.lease, "syn_1"),
    ):
        with pytest.raises(LeaseLost):
            await work
    assert (await listed.sync("syn_1"))["read"] == 0


async def test_a_removed_connection_takes_its_syncs_along(world, erp, listed):
    await start(listed, erp)
    await world.registry.remove("connections", erp.lease.subject)
    assert await listed.syncs() == []


async def test_polls_begin_where_the_first_sync_ends(world, new, store, listed):
    first = await open_of(store, new)
    assert (first.kind, first.announce, first.begin) == (SyncKind.FIRST, Announce.SNAPSHOT, None)
    assert not (await world.registry.connection("erp")).subject.synced
    assert (await world.registry.connection("erp")).reading["id"] == first.id
    with pytest.raises(UserError, match="cannot be cancelled"):
        await listed.cancel(first.id)
    with pytest.raises(AlreadyThere):
        await start(listed, new)
    await store.begin_sync(new.lease, first.id, None)
    await store.save_sync_page(new.lease, new.subject, [], [], Moved(first.id, "c9", 0, 0, 0))
    await store.end_sync(new.lease, first.id)
    seen = await world.registry.connection("erp")
    assert (seen.subject.cursor, seen.subject.synced, seen.reading) == ("c9", True, None)


async def test_a_poll_is_asked_for_once_and_beside_what_is_read(world, new, store, listed):
    asked = await listed.ask("syn_p1", new.lease.subject)
    assert asked == await listed.ask("syn_p2", new.lease.subject) == "syn_p1"
    assert {each.kind for each in await store.open_syncs(new.lease.subject)} == {SyncKind.FIRST, SyncKind.POLL}
    await store.save_poll_asked(new.lease, asked, Polled(ConnectionState.ACTIVE, NOW, read=3, told=2))
    row = await listed.sync(asked)
    assert (row["state"], row["read"], row["told"], row["problem"]) == ("done", 3, 2, None)
    again = await listed.ask("syn_p3", new.lease.subject)
    await store.save_poll_asked(new.lease, again, Polled(ConnectionState.ACTIVE, NOW, failures=1, problem="away \x00"))
    row = await listed.sync("syn_p3")
    assert (row["state"], row["problem"].startswith("away")) == ("failed", True)


async def test_comparing_begins_once_and_not_beside_another(world, erp, store, listed):
    due = NOW + timedelta(days=7)
    await store.start_compare(erp.lease, due)
    found = await open_of(store, erp)
    assert (found.kind, found.announce) == (SyncKind.COMPARE, Announce.CHANGES)
    await store.start_compare(erp.lease, due)
    assert (await open_of(store, erp)).id == found.id
    assert (await world.registry.connection("erp")).subject.compare_due_at == due


async def test_a_changed_schedule_is_kept_and_moves_what_is_due(world, erp):
    before = (await world.registry.connection("erp")).subject
    hours = Hours(open=("Mon-Fri 07:00-20:00",), zone="America/Sao_Paulo")
    after = replace(
        before,
        poll_every=timedelta(seconds=5),
        reconcile_every=timedelta(minutes=1),
        schedule=Schedule(slowest=timedelta(seconds=30), compare_every=timedelta(days=1), hours=hours),
    )
    await world.registry.change_connection(before, after)
    found = (await world.registry.connection("erp")).subject
    assert (found.poll_every, found.reconcile_every, found.schedule) == (
        after.poll_every,
        after.reconcile_every,
        after.schedule,
    )
    assert found.compare_due_at < before.compare_due_at
    assert (await world.connections.renew([erp])).changed == {erp.lease.subject}
