"""Data of the first schema, with rows in every table, brought up to date: nothing is lost, and work goes on with it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from relay.domain.deliveries import Outcome
from relay.domain.endpoints import EndpointOptions, EndpointState, Health
from relay.domain.replays import Criteria
from relay.store import database as store
from relay.store.database import migrate, opened
from relay.store.explain import ExplainStore
from relay.store.replay import ReplayStore
from relay.store.replays import ReplayList
from relay.store.retention import RetentionStore
from tests.fixtures.postgres import said
from tests.fixtures.store import World, attempt

ROWS = """
INSERT INTO workers (id) VALUES ('w');
INSERT INTO customers (id, wrapped_key) VALUES ('acme', 'k');
INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every, cursor,
                         synced_at)
    VALUES ('con_1', 'acme', 'erp', 'protheus', '{"url": "x", "currencies": {"2": "USD"}}', 's', '1 min', '1 h', 'c',
            now());
INSERT INTO snapshots SELECT 'con_1', 'p' || n,
    convert_to(CASE n WHEN 1 THEN '{"number": "47\\u0000 \\u00e9", "note": "\\\\u0000"}' WHEN 2 THEN '{"number": null}'
               ELSE '{}' END, 'UTF8'), 'h', 3, false, 0, now(), now() FROM generate_series(1, 3) AS n;
INSERT INTO admitted SELECT 'con_1', 'p' || n, 3 FROM generate_series(1, 3) AS n;
INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type, occurred_at, body)
    SELECT 'evt_' || p || '_' || n, 'changes', 'relayed', 'acme', 'con_1', 'p' || p, n, 'purchase_order.updated', now(),
           convert_to('p' || p || ' ' || n, 'UTF8')
    FROM generate_series(1, 3) AS n, generate_series(1, 3) AS p ORDER BY n, p;
INSERT INTO endpoints (id, customer_id, name, url, sealed, at_once, deadline, state)
    SELECT 'end_' || n, 'acme', 'hook' || n, 'https://x.example/', 's', 8, '15 s',
           CASE n WHEN 3 THEN 'disabled' ELSE 'active' END FROM generate_series(1, 3) AS n;
INSERT INTO deliveries (id, endpoint_id, position, lane, state, due_at, attempts, last_status, last_error, done_at)
    SELECT 'dlv_' || e.id || '_' || o.position, e.id, o.position, 'con_1|' || o.remote_id,
           CASE WHEN o.sequence = 1 THEN CASE o.remote_id WHEN 'p1' THEN 'dead' ELSE 'delivered' END ELSE 'waiting' END,
           CASE o.sequence WHEN 2 THEN now() - interval '1 s' END, CASE WHEN o.sequence = 3 THEN 0 ELSE 1 END, 500, '',
           CASE o.sequence WHEN 1 THEN now() END
    FROM outbox AS o, endpoints AS e WHERE e.id <> 'end_2';
INSERT INTO attempts (delivery_id, number, started_at, seconds, outcome, status, error, detail, excerpt)
    SELECT d.id, 1, now() - days * interval '1 day', 0.1, 'retry', 500, '', '', 'no'
    FROM deliveries AS d, generate_series(0, 40, 20) AS days WHERE d.attempts = 1;
"""


def first_schema(url):
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    config.attributes["connect"] = lambda: asyncpg.connect(url)
    command.upgrade(config, "0001")


@pytest.fixture
async def upgraded(empty_database_url):
    """A world in a database where the first schema's work was done."""
    await asyncio.to_thread(first_schema, empty_database_url)
    await said(empty_database_url, ROWS)
    await asyncio.to_thread(migrate, empty_database_url)
    async with opened(empty_database_url) as database:
        yield World(database)


async def test_nothing_is_lost_and_each_endpoints_deliveries_are_numbered_as_they_came(upgraded):
    assert await upgraded.one("SELECT count(*) FROM attempts") == 2 * 6 * 3
    numbers = "SELECT endpoint_id, array_agg(number ORDER BY position) AS numbers FROM deliveries GROUP BY 1 ORDER BY 1"
    rows = await upgraded.sql(numbers)
    assert [(row["endpoint_id"], row["numbers"]) for row in rows] == [
        ("end_1", list(range(1, 10))),
        ("end_3", list(range(1, 10))),
    ]
    last = await upgraded.sql("SELECT last FROM endpoint_numbers ORDER BY endpoint_id")
    assert [row["last"] for row in last] == [9, 0, 9]
    assert not await upgraded.stranded()


async def test_orders_are_found_by_the_numbers_that_their_snapshots_hold(upgraded):
    rows = await upgraded.sql("SELECT number FROM snapshots ORDER BY remote_id")
    assert [row["number"] for row in rows] == ["47\ufffd \u00e9", None, None]
    assert await ExplainStore(upgraded.database).find("47\ufffd \u00e9", None) == [("con_1", "p1")]


async def test_settings_that_were_a_mapping_are_its_first_version(upgraded):
    (seen,) = await upgraded.registry.connections()
    assert seen.subject.settings == {"url": "x"}
    assert (seen.subject.mapping.number, seen.subject.mapping.overrides.currencies) == (1, {"2": "USD"})
    (row,) = await upgraded.sql("SELECT number, overrides, made_by FROM mapping_versions")
    assert dict(row) == {"number": 1, "overrides": {"currencies": {"2": "USD"}}, "made_by": "upgrade"}


async def test_endpoints_are_as_they_were_with_the_default_options(upgraded):
    endpoints = [each.subject for each in await upgraded.registry.endpoints()]
    assert [each.state for each in endpoints] == [EndpointState.ACTIVE, EndpointState.ACTIVE, EndpointState.DISABLED]
    assert all(
        (each.options, each.health, each.verified, each.access) == (EndpointOptions(), Health(), True, b"")
        for each in endpoints
    )


async def test_delivering_admitting_sending_again_and_forgetting_go_on(upgraded):
    hook, erp = await upgraded.claimed("endpoints", "end_1"), await upgraded.claimed("connections", "con_1")
    upgraded.told.update({("con_1", f"p{n}"): 3 for n in (1, 2, 3)})
    await upgraded.admissions.admit(await upgraded.tell(erp, "p1"))
    retention = RetentionStore(upgraded.database, timedelta(days=30))
    assert await retention.forget_attempts() == 2 * 6
    bodies = []
    while heads := await upgraded.heads(hook):
        assert all(each.attempts == (each.body[-1:] == b"2") for each in heads)
        await upgraded.record(hook.lease, [attempt(each) for each in heads])
        bodies += [each.body.decode() for each in heads]
    assert [each for each in bodies if each.startswith("p1")] == ["p1 2", "p1 3", "p1 4"]
    assert await upgraded.one("SELECT last FROM endpoint_numbers WHERE endpoint_id = 'end_1'") == 10

    replays = ReplayStore(upgraded.database)
    await ReplayList(upgraded.database).start("rpl_1", hook.subject, Criteria(), 50)
    look = await replays.look(hook.subject, 300)
    assert (await replays.bite(hook.lease, hook.subject, look, (), 100)).put == 10
    while heads := await upgraded.heads(hook):
        await upgraded.record(hook.lease, [attempt(each, Outcome.DELIVERED) for each in heads])

    await retention.turn_days()
    await upgraded.sql("UPDATE outbox SET created_at = now() - interval '31 days'")
    await upgraded.registry.remove("endpoints", "end_3")
    assert await retention.forget() == 9
    # What is new is kept for the endpoint that it still waits for.
    assert [row["endpoint_id"] for row in await upgraded.sql("SELECT * FROM deliveries WHERE state = 'waiting'")] == [
        "end_2"
    ]
