"""Versions of mappings in the store: added in turn, never changed, read again for, and remembered with each order."""

from dataclasses import replace

import asyncpg
import pytest

from relay.domain.changes import ChangeKind
from relay.domain.errors import AlreadyThere, LeaseLost
from relay.domain.events import Origin, change_event
from relay.domain.mapping import Edition, MappingOverrides, MappingVersion, Retold
from relay.domain.orders import PurchaseOrder
from relay.domain.syncs import Announce, SyncKind
from relay.store.mappings import MappingStore
from relay.store.syncs import SyncStore
from tests.fixtures.store import NOW

DOLLARS = MappingOverrides(currencies={"2": "USD"})


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
def store(world):
    return MappingStore(world.database)


async def added(store, erp, number, overrides=DOLLARS, retold=Retold.MAPPING_CHANGED):
    version = MappingVersion(number, overrides, retold)
    values = {"base": number - 1, "sync_id": f"syn_{number}", "by": "somebody", "reverts_to": None}
    await store.add_version(erp.lease.subject, version, **values)


async def through(world, erp):
    """Every open sync has ended."""
    for each in await SyncStore(world.database).open_syncs(erp.lease.subject):
        await SyncStore(world.database).end_sync(erp.lease, each.id)


async def test_a_version_stands_is_kept_and_reads_all_orders_again(world, erp, store):
    await through(world, erp)
    await added(store, erp, 1)
    await added(store, erp, 2, MappingOverrides(), Retold.SILENT)
    subject = (await world.registry.connection(erp.lease.subject)).subject
    assert subject.mapping == MappingVersion(2, MappingOverrides(), Retold.SILENT)
    versions = await store.versions(erp.lease.subject)
    assert [(each["number"], each["made_by"], each["overrides"]) for each in versions] == [
        (2, "somebody", {}),
        (1, "somebody", DOLLARS.told()),
    ]
    (reading,) = await SyncStore(world.database).open_syncs(erp.lease.subject)
    assert (reading.id, reading.kind) == ("syn_2", SyncKind.MAPPING)


async def test_two_people_who_change_the_same_version_do_not_both_win(erp, store):
    await added(store, erp, 1)
    with pytest.raises(AlreadyThere, match="somebody else changed the mapping"):
        await added(store, erp, 1, MappingOverrides())


async def test_a_version_is_never_changed(world, erp, store):
    await added(store, erp, 1)
    with pytest.raises(asyncpg.RaiseError, match="never changed"):
        await world.sql("UPDATE mapping_versions SET made_by = 'nobody'")
    await world.registry.remove("connections", erp.lease.subject)
    assert await world.one("SELECT count(*) FROM mapping_versions") == 0


async def test_a_first_sync_that_has_not_ended_begins_anew_with_its_window(world, erp, store):
    syncs = SyncStore(world.database)
    (first,) = await syncs.open_syncs(erp.lease.subject)
    assert first.kind is SyncKind.FIRST
    await added(store, erp, 1)
    (anew,) = await syncs.open_syncs(erp.lease.subject)
    assert anew == replace(first, id="syn_1")


async def test_orders_remember_what_they_were_read_with_and_a_runner_gets_what_it_needs_of_it(world, erp, store):
    await through(world, erp)
    assert await store.former_mappings(erp.lease.subject) == {}
    origin = Origin("acme", erp.lease.subject, "fake")
    order = PurchaseOrder(remote_id="1", status="approved")
    _, snapshot = change_event(origin, None, order, now=NOW, first=ChangeKind.CREATED)
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [], None)
    for number in (1, 2, 3):
        await added(store, erp, number)
    assert list(await store.former_mappings(erp.lease.subject)) == [0, 1, 2, 3]
    await world.orders.save_page(erp.lease, erp.subject, [replace(snapshot, edition=Edition(4, 2))], [], None)
    found = await world.orders.snapshots(erp.lease.subject, ["1"])
    assert found["1"].edition == Edition(4, 2)
    assert list(await store.former_mappings(erp.lease.subject)) == [2, 3]


async def test_newer_rules_read_all_again_under_the_lease(world, erp, store):
    await through(world, erp)
    await store.begin_rules(erp.lease, 2, "syn_rules")
    subject = (await world.registry.connection(erp.lease.subject)).subject
    (reading,) = await SyncStore(world.database).open_syncs(erp.lease.subject)
    assert (subject.rules, reading.kind, reading.announce) == (2, SyncKind.MAPPING, Announce.CHANGES)
    with pytest.raises(LeaseLost):
        await store.begin_rules(replace(erp.lease, epoch=99), 3, "syn_more")
