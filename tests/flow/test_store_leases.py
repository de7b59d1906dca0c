"""Leases on a real PostgreSQL: one holder at a time, by the database's clock, and none may write without."""

import asyncio
from datetime import timedelta

import pytest

from relay.domain.connections import ConnectionState, Cursor, Lease, Polled
from relay.domain.deliveries import Outcome
from relay.domain.endpoints import EndpointState
from relay.domain.errors import LeaseLost
from relay.domain.orders import PurchaseOrder
from relay.ports import Claimed
from relay.store.database import guard
from tests.fixtures.store import NOW, attempt, connection_named, entry, observed
from tests.fixtures.store import endpoint_named as endpoint

TABLES = ["connections", "endpoints"]
ORDER = PurchaseOrder(remote_id="p1", status="approved")


@pytest.fixture
async def many(world):
    """Six free connections and six free endpoints."""
    await world.customer()
    for number in range(6):
        await world.registry.add_connection(connection_named(f"n{number}"))
        await world.registry.add_endpoint(endpoint(f"n{number}"))
    return world


def store(world, table):
    return getattr(world, table)


def ids(claimed):
    return {each.lease.subject for each in claimed}


@pytest.mark.parametrize("table", TABLES)
async def test_two_workers_never_hold_the_same_subject(many, table):
    leases = store(many, table)
    first, second = await asyncio.gather(leases.claim("a", 4), leases.claim("b", 4))
    assert len(first) + len(second) == 6
    assert not ids(first) & ids(second)
    assert await leases.claim("c", 10) == []


@pytest.mark.parametrize("table", TABLES)
async def test_a_free_subject_is_claimed_as_the_value_that_was_stored(many, table):
    claimed = {each.lease.subject: each for each in await store(many, table).claim("a", 6)}
    made = connection_named("n3") if table == "connections" else endpoint("n3")
    found = claimed[made.id].subject
    assert (found.id, found.customer_id, found.name, found.sealed) == (made.id, "acme", "n3", b"s")
    assert claimed[made.id].version == 1


@pytest.mark.parametrize("table", TABLES)
async def test_what_is_left_out_is_claimed_by_others(many, table):
    leases = store(many, table)
    out = {each.lease.subject for each in await leases.claim("a", 2)}
    for each in out:
        await many.expire(table, each)
    assert ids(await leases.claim("b", 6, out)) & out == set()
    assert ids(await leases.claim("c", 6)) == out


@pytest.mark.parametrize("most", [0, -3])
async def test_a_worker_with_more_than_its_share_claims_nothing(many, most):
    assert await many.connections.claim("a", most) == []


async def test_what_has_been_free_for_longest_is_claimed_first(many):
    everything = await many.connections.claim("a", 6)
    for number, each in enumerate(everything):
        await many.sql(
            "UPDATE connections SET lease_until = now() - $2::interval WHERE id = $1",
            each.lease.subject,
            timedelta(seconds=number + 1),
        )
    assert ids(await many.connections.claim("b", 1)) == {everything[5].lease.subject}


@pytest.mark.parametrize("table", TABLES)
async def test_an_expired_lease_is_taken_over_with_the_next_epoch(many, table):
    leases = store(many, table)
    (old,) = await leases.claim("a", 1)
    await many.expire(table, old.lease.subject)
    new = next(each for each in await leases.claim("b", 6) if each.lease.subject == old.lease.subject)
    assert new.lease.epoch == old.lease.epoch + 1
    assert await leases.renew([old]) == (await leases.renew([]))
    assert (await leases.renew([new])).held == {new.lease.subject}


async def test_an_expired_lease_that_nobody_took_is_renewed(many):
    (held,) = await many.connections.claim("a", 1)
    await many.expire("connections", held.lease.subject)
    assert (await many.connections.renew([held])).held == {held.lease.subject}
    assert held.lease.subject not in ids(await many.connections.claim("b", 6))


async def test_a_worker_that_lost_a_lease_to_itself_no_longer_holds_the_old_one(many):
    (old,) = await many.connections.claim("a", 1)
    await many.expire("connections", old.lease.subject)
    new = next(each for each in await many.connections.claim("a", 6) if each.lease.subject == old.lease.subject)
    renewed = await many.connections.renew([old])
    assert not renewed.held
    assert not renewed.changed
    assert (await many.connections.renew([new])).held == {old.lease.subject}


async def test_a_lease_on_something_that_people_changed_is_held_and_named_as_changed(many):
    first, second = await many.connections.claim("a", 2)
    await many.registry.set_connection(first.lease.subject, ConnectionState.PAUSED)
    renewed = await many.connections.renew([first, second])
    assert renewed.changed == {first.lease.subject}
    assert renewed.held == {second.lease.subject}


async def test_a_lease_on_something_that_was_removed_is_lost(many):
    (held,) = await many.endpoints.claim("a", 1)
    await many.registry.remove("endpoints", held.lease.subject)
    renewed = await many.endpoints.renew([held])
    assert not renewed.held
    assert not renewed.changed


async def test_paused_connections_are_claimed_for_what_is_to_be_published_and_disabled_endpoints_are_not(many):
    await many.registry.set_connection("con_acme_n0", ConnectionState.PAUSED)
    await many.registry.set_endpoint("end_acme_n0", EndpointState.DISABLED)
    assert "con_acme_n0" in ids(await many.connections.claim("a", 6))
    assert "end_acme_n0" not in ids(await many.endpoints.claim("a", 6))


@pytest.mark.parametrize("table", TABLES)
async def test_a_released_lease_is_free_at_once(many, table):
    leases = store(many, table)
    (held,) = await leases.claim("a", 1)
    await leases.release([held.lease])
    assert held.lease.subject in ids(await leases.claim("b", 6))


async def test_releasing_a_lease_that_was_lost_leaves_the_new_holder_alone(many):
    (old,) = await many.connections.claim("a", 1)
    new = await many.taken_over("connections", old.lease)
    await many.connections.release([old.lease])
    assert (await many.connections.renew([new])).held == {old.lease.subject}


async def test_workers_share_evenly_and_round_up(many):
    assert await many.connections.share("a") == 6
    assert await many.connections.share("b") == 3
    assert [await many.connections.share(each) for each in "abcd"][-1] == 2


async def test_a_silent_worker_has_no_share(many):
    await many.connections.share("a")
    await many.sql("UPDATE workers SET seen_at = now() - interval '16 seconds'")
    assert await many.connections.share("b") == 6


async def test_a_worker_that_leaves_is_forgotten_with_the_long_silent_ones(many):
    for each in "abc":
        await many.connections.share(each)
    await many.sql("UPDATE workers SET seen_at = now() - interval '3 minutes' WHERE id = 'b'")
    await many.connections.leave("a")
    assert [row["id"] for row in await many.sql("SELECT id FROM workers")] == ["c"]


async def test_what_was_disabled_has_no_part_in_the_share(many):
    await many.registry.set_endpoint("end_acme_n0", EndpointState.DISABLED)
    assert await many.endpoints.share("a") == 5


# Writes under a lost lease


async def test_no_write_under_a_lost_connection_lease_changes_anything(world):
    erp = await world.connection()
    snapshot, event = observed(erp.subject, ORDER)
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], Cursor("1"))
    (row,) = await world.outbox.to_publish(erp.lease, 1)
    later, second = observed(erp.subject, ORDER.deleted(), snapshot)
    letter = entry(erp.lease.subject, "p1", 1, stream="dead-letters")

    async def refused(lease):
        writes = [
            world.orders.save_page(lease, erp.subject, [later], [second], Cursor("2")),
            world.orders.save_polled(lease, Polled(ConnectionState.NEEDS_RECONNECT, NOW, 3, "down")),
            world.orders.save_missing(lease, ["p1"]),
            world.orders.save_reconciled(lease, problem="odd", due_at=NOW),
            world.outbox.save_published(lease, [row.position]),
            world.outbox.save_refused(lease, row, letter),
        ]
        for write in writes:
            with pytest.raises(LeaseLost, match=erp.lease.subject):
                await write

    await _changes_nothing(world, "connections", erp, refused)


async def test_no_write_under_a_lost_endpoint_lease_changes_anything(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    (head,) = await world.heads(hook)

    async def refused(lease):
        for write in [
            *(world.record(lease, [attempt(head, outcome)]) for outcome in Outcome),
            world.deliveries.disable(lease, "https://x.example/hook", "gone"),
        ]:
            with pytest.raises(LeaseLost, match=hook.lease.subject):
                await write

    await _changes_nothing(world, "endpoints", hook, refused)


async def test_the_last_write_of_a_lost_lease_ends_before_the_next_holder_begins(world):
    erp = await world.connection()
    await world.expire("connections", erp.lease.subject)
    holding, go_on = asyncio.Event(), asyncio.Event()

    async def slow_write(connection):
        await guard(connection, "connections", erp.lease)
        holding.set()
        await go_on.wait()
        await connection.execute("UPDATE connections SET cursor = 'old holder' WHERE id = $1", erp.lease.subject)

    writing = asyncio.create_task(world.database.transact(slow_write))
    await holding.wait()
    # It has run out, but while it is written under nobody can claim it, nor waits to.
    assert await world.connections.claim("b", 5) == []
    go_on.set()
    await writing
    await world.taken_over("connections", erp.lease)
    assert await world.one("SELECT cursor FROM connections") == "old holder"


async def _changes_nothing(world, table, held: Claimed, refused):
    new = await world.taken_over(table, held.lease)
    before = await world.everything()
    await refused(held.lease)
    await refused(Lease(held.lease.subject, "usurper", held.lease.epoch))
    await refused(Lease(held.lease.subject, "worker-1", new.lease.epoch))
    await world.sql(f"UPDATE {table} SET lease_owner = NULL, lease_until = NULL")
    unowned = await world.everything()
    await refused(new.lease)
    assert await world.everything() == unowned
    await world.sql(f"UPDATE {table} SET lease_owner = $1, lease_until = NULL", "usurper")
    after = await world.everything()
    assert {name: rows for name, rows in after.items() if name != table} == {
        name: rows for name, rows in before.items() if name != table
    }
