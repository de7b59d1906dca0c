"""What people keep, on a real PostgreSQL: names, counts, retries and removals."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from relay.domain.connections import ConnectionState
from relay.domain.deliveries import Outcome
from relay.domain.endpoints import EndpointState
from relay.domain.errors import AlreadyThere, NotFound, UserError
from tests.fixtures.store import attempt, connection_named, endpoint_named


@pytest.fixture
async def registry(world):
    await world.customer("acme")
    await world.customer("umbrella")
    return world.registry


async def test_what_was_added_is_found_by_id_by_name_and_by_customer(registry):
    new = connection_named("erp")
    await registry.add_connection(new)
    for name in (new.id, "erp", "acme/erp"):
        found = (await registry.connection(name)).subject
        assert (found.id, found.settings, found.sealed, found.state) == (new.id, {"url": "x"}, b"s", "active")
    hook = endpoint_named("hook", event_types=("a",), connections=("b",), at_once=3)
    await registry.add_endpoint(hook)
    assert (await registry.endpoint("acme/hook")).subject == replace(hook, verified=True)


async def test_a_name_is_taken_once_per_customer(registry):
    await registry.add_connection(connection_named("erp"))
    await registry.add_connection(connection_named("erp", "umbrella"))
    with pytest.raises(AlreadyThere, match="acme already has a connection 'erp'"):
        await registry.add_connection(connection_named("erp"))
    await registry.add_endpoint(endpoint_named("hook"))
    with pytest.raises(AlreadyThere, match="acme already has an endpoint 'hook'"):
        await registry.add_endpoint(endpoint_named("hook"))


async def test_a_name_that_several_customers_use_is_asked_back(registry):
    await registry.add_connection(connection_named("erp"))
    await registry.add_connection(connection_named("erp", "umbrella"))
    with pytest.raises(UserError, match="say which: acme/erp, umbrella/erp"):
        await registry.connection("erp")
    assert (await registry.connection("umbrella/erp")).subject.customer_id == "umbrella"


async def test_an_id_wins_over_a_name_that_looks_like_it(registry):
    first = connection_named("erp")
    await registry.add_connection(first)
    await registry.add_connection(connection_named(first.id, "umbrella"))
    assert (await registry.connection(first.id)).subject.name == "erp"


@pytest.mark.parametrize("noun", ["connection", "endpoint"])
async def test_what_is_not_there_is_named_with_the_way_to_find_it(registry, noun):
    with pytest.raises(NotFound, match=f"there is no {noun} 'x': see `relay {noun}s list`"):
        await getattr(registry, noun)("x")


async def test_lists_are_by_customer_and_name(registry):
    for customer, name in (("umbrella", "a"), ("acme", "z"), ("acme", "b")):
        await registry.add_connection(connection_named(name, customer))
        await registry.add_endpoint(endpoint_named(name, customer))
    wanted = [("acme", "b"), ("acme", "z"), ("umbrella", "a")]
    for listed in (await registry.connections(), await registry.endpoints()):
        assert [(each.subject.customer_id, each.subject.name) for each in listed] == wanted


async def test_counts_tell_what_happened(world):
    erp, hook = await world.connection(), await world.endpoint()
    told = await world.tell(erp, "p1", "p2", "p3")
    assert (await world.registry.connection("erp")).counts == {
        "orders": 0,
        "events": 3,
        "unpublished": 3,
        "rejected": 0,
    }
    await world.admissions.admit(told)
    first, second, _ = await world.heads(hook)
    await world.record(hook.lease, [attempt(first), attempt(second, Outcome.DEAD)])
    assert (await world.registry.endpoint("hook")).counts == {"waiting": 1, "delivered": 1, "dead": 1, "superseded": 0}


async def test_pausing_and_resuming_tells_the_workers_and_clears_the_problem(world, database_url):
    erp, hook = await world.connection(), await world.endpoint()
    await world.deliveries.disable(hook.lease, hook.subject.url, "gone")
    heard = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("relay_leases", lambda *said: heard.put_nowait(said[-1]))
    await world.registry.set_connection(erp.lease.subject, ConnectionState.PAUSED)
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.ACTIVE)
    assert [await asyncio.wait_for(heard.get(), 10) for _ in range(2)] == [
        erp.lease.subject,
        hook.lease.subject,
    ]
    await listener.close()
    assert (await world.registry.connection("erp")).subject.state is ConnectionState.PAUSED
    seen = await world.registry.endpoint("hook")
    assert (seen.problem, seen.subject.state) == (None, EndpointState.ACTIVE)


async def test_deliveries_are_listed_newest_first_and_narrowed(world):
    erp, hook, _ = await world.connection(), await world.endpoint(), await world.endpoint("other")
    await world.admissions.admit(await world.tell(erp, "p1", "p2"))
    head = (await world.heads(hook))[0]
    await world.record(hook.lease, [attempt(head)])
    listed = world.registry.deliveries

    assert [row["remote_id"] for row in await listed(endpoint=hook.lease.subject)] == ["p2", "p1"]
    assert [row["id"] for row in await listed(state="delivered")] == [head.id]
    assert {row["endpoint"] for row in await listed(order="p1")} == {"hook", "other"}
    assert len(await listed(most=3)) == 3
    assert len(await listed(most=10**9)) == 4
    assert (await world.registry.delivery(head.id))["attempts_made"][0]["status"] == 200


async def test_a_delivery_that_is_not_there_is_named(registry):
    for look in (registry.delivery, registry.retry):
        with pytest.raises(NotFound, match="there is no delivery 'dlv_x'"):
            await look("dlv_x")


async def test_a_delivered_delivery_can_be_sent_again(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    (head,) = await world.heads(hook)
    await world.record(hook.lease, [attempt(head)])
    await world.registry.retry(head.id)
    assert [each.id for each in await world.heads(hook)] == [head.id]


async def test_a_delivery_that_waits_for_its_time_goes_now(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))
    await world.sql("UPDATE deliveries SET due_at = now() + interval '1 hour'")
    (row,) = await world.registry.deliveries()
    await world.registry.retry(row["id"])
    assert len(await world.heads(hook)) == 1


async def test_a_delivery_behind_another_keeps_its_turn(world):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit([*await world.tell(erp, "p1"), *await world.tell(erp, "p1")])
    later, _ = await world.registry.deliveries()
    with pytest.raises(UserError, match="waits behind an earlier event of order 'p1': retry that one first"):
        await world.registry.retry(later["id"])
    assert await world.waiting(hook.lease.subject) == [("p1", True), ("p1", False)]


async def test_removing_a_connection_takes_all_that_came_from_it_and_nothing_else(world):
    erp, kept, hook = await world.connection(), await world.connection("kept"), await world.endpoint()
    await world.admissions.admit([*await world.tell(erp, "p1"), *await world.tell(kept, "p1")])
    await world.record(hook.lease, [attempt(head) for head in await world.heads(hook)])
    await world.registry.remove("connections", erp.lease.subject)
    for table, left in {"connections": 1, "outbox": 1, "admitted": 1, "deliveries": 1, "attempts": 1}.items():
        assert await world.one(f"SELECT count(*) FROM {table}") == left


async def test_removing_an_endpoint_takes_its_deliveries_and_leaves_the_events(world):
    erp, hook, _ = await world.connection(), await world.endpoint(), await world.endpoint("kept")
    await world.admissions.admit(await world.tell(erp, "p1"))
    await world.record(hook.lease, [attempt(head) for head in await world.heads(hook)])
    await world.registry.remove("endpoints", hook.lease.subject)
    assert [row["endpoint"] for row in await world.registry.deliveries()] == ["kept"]
    assert await world.one("SELECT count(*) FROM attempts") == 0
    assert await world.states("outbox") == ["relayed"]
