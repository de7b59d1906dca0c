"""Every hot statement uses its index, on tables with enough rows for PostgreSQL to care."""

import re

import pytest

from relay.control.orders import EVER
from relay.store import (
    admission,
    attempts,
    audit,
    callers,
    command_admission,
    command_list,
    commands,
    deliveries,
    explain,
    idempotency,
    leases,
    log,
    named,
    order_book,
    orders,
    outbox,
    retention,
    syncs,
    watch,
)
from tests.fixtures.store import NOW, TTL

ROWS = """
    INSERT INTO customers (id) VALUES ('acme');
    INSERT INTO connections (id, customer_id, name, connector, settings, sealed, poll_every, reconcile_every,
                             lease_owner, lease_until)
        SELECT 'con_' || n, 'acme', n, 'x', '{}', '', '1 min', '1 h', 'w' || n % 40, now() + n * interval '1 s'
        FROM generate_series(1, 4000) AS n;
    INSERT INTO endpoints (id, customer_id, name, url, sealed, at_once, deadline, lease_owner, lease_until)
        SELECT 'end_' || n, 'acme', n, 'x', '', 1, '1 s', 'w' || n % 40, now() + n * interval '1 s'
        FROM generate_series(1, 4000) AS n;
    INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type, occurred_at,
                        body, published_at)
        SELECT 'evt_' || n, 'changes', CASE WHEN n > 19000 THEN 'pending' WHEN n > 18000 THEN 'published'
               ELSE 'relayed' END, 'acme', 'con_' || n % 20 + 1, 'p' || n % 500, n, 'x', now(), 'body', now()
        FROM generate_series(1, 20000) AS n;
    INSERT INTO snapshots (connection_id, remote_id, tree, hash, sequence, deleted, first_seen_at, changed_at, number)
        SELECT 'con_' || n % 20 + 1, 'p' || n, '{}', 'h', 1, false, now(), now(), n
        FROM generate_series(1, 20000) AS n;
    INSERT INTO admitted SELECT 'con_' || n % 20 + 1, 'p' || n, 1 FROM generate_series(1, 20000) AS n;
    INSERT INTO deliveries (id, endpoint_id, position, lane, state, due_at, number)
        SELECT 'dlv_' || position, 'end_' || position % 20 + 1, position, 'con|p' || position % 500,
               CASE WHEN position % 3 = 0 THEN 'waiting' ELSE 'delivered' END,
               CASE WHEN position % 15 = 0 THEN now() END, position
        FROM outbox;
    INSERT INTO syncs (id, connection_id, kind, announce, state, ended_at)
        SELECT 'syn_' || n, 'con_' || n % 2000 + 1, 'resync', 'changes',
               CASE WHEN n > 2000 THEN 'done' ELSE 'waiting' END,
               CASE WHEN n > 2000 THEN now() END
        FROM generate_series(1, 20000) AS n;
    UPDATE connections SET token_digest = sha256(convert_to(id, 'UTF8'));
    INSERT INTO operator_keys (id, name, scope, digest)
        SELECT 'key_' || n, n, 'read', sha256(convert_to(n::text, 'UTF8')) FROM generate_series(1, 4000) AS n;
    INSERT INTO audit (request_id, caller_kind, caller_id, caller_name, address, action, subject)
        SELECT 'req_' || n, 'operator', 'key_' || n % 400, 'n', '::1', 'a',
               CASE WHEN n % 2 = 0 THEN 'con_' || n % 500 END
        FROM generate_series(1, 20000) AS n;
    INSERT INTO audit_outcomes (position, status, subject)
        SELECT position, 200, CASE WHEN position % 2 = 1 THEN 'con_' || position % 500 END FROM audit;
    INSERT INTO idempotency SELECT sha256(convert_to(n::text, 'UTF8')), 'f', now() - n * interval '1 min', 'a'
        FROM generate_series(1, 20000) AS n;
    INSERT INTO commands (id, connection_id, customer_id, command_id, type, remote_id, lane, state, body, digest,
                          source, due_at, expires_at, done_at)
        SELECT 'cmd_' || n, 'con_' || n % 20 + 1, 'acme', n, 'cancel', 'p' || n % 2000, 'p' || n % 2000,
               CASE WHEN n % 4000 = 0 THEN 'sending' WHEN n % 4 = 0 THEN 'waiting' ELSE 'done' END, '{}', '', 'api',
               CASE WHEN n % 4 = 0 AND n <= 4000 THEN now() + n % 100 * interval '1 s' END,
               now() + n * interval '1 s',
               CASE WHEN n % 4 <> 0 THEN now() - n * interval '1 s' END
        FROM generate_series(1, 20000) AS n;
    ANALYZE;
"""


ADDED = ("c", "con_1", "c", "cancel", "p1", "p1", False, b"", b"", None, NOW, "api", "", None, None, None)
HOT = [
    (deliveries.HEADS, ("end_1", ["dlv_1"], 50, 25, 1_000_000), "deliveries_heads"),
    (deliveries.NEXT_DUE, ("end_1",), "deliveries_heads"),
    (attempts.LOCK, ("dlv_1\ndlv_2",), "deliveries_pkey"),
    (attempts.RECORD, ("dlv_1\ndlv_2", "dead\ndead", "\n", "1\n1", "204\n", "\n"), "deliveries_pkey"),
    (attempts.PROMOTE, ("end_1\nend_2", "con|p1\ncon|p2", "end_1\nend_2", "9\n9"), "deliveries_lane"),
    (attempts.SUPERSEDE, (["end_1", "end_1"], ["con|p1", "con|p2"]), "deliveries_lane"),
    (deliveries.BLOCKED, ("end_1", ["dlv_1"]), "deliveries_heads"),
    (watch.ENDPOINTS, ("w1",), "deliveries_heads"),
    (watch.CONNECTIONS, ("w1", TTL), "outbox_pending"),
    (watch.CONNECTIONS, ("w1", TTL), "outbox_published"),
    (order_book.ORDERS, ("con_1", NOW, "x", EVER, False, 50), "snapshots_changed"),
    (order_book.BY_REMOTE_ID, ("con_1", NOW, "x", EVER, False, 50, "p1", None), "snapshots_pkey"),
    (order_book.BY_NUMBER, ("con_1", NOW, "x", EVER, False, 50, "1"), "snapshots_number"),
    (order_book.ORDER, ("con_1", "po_1"), "snapshots_order_id"),
    (order_book.LOG, ("con_1", 5000, 100, 1_000_000), "outbox_log"),
    (order_book.LAST, (["con_1", "con_2"],), "outbox_log"),
    (order_book.HISTORY, ("con_1", "p1", 9, 50), "outbox_order"),
    (explain.FIND, (["con_1", "con_2"], "p1"), "snapshots_pkey"),
    (explain.FIND, (["con_1", "con_2"], "p1"), "outbox_order"),
    (explain.FIND, (["con_1", "con_2"], "p1"), "outbox_event_id_key"),
    (explain.FIND_CALLED, (["con_1", "con_2"], "1", "po_1"), "snapshots_number"),
    (explain.FIND_CALLED, (["con_1", "con_2"], "1", "po_1"), "snapshots_order_id"),
    (explain.SNAPSHOT, ("con_1", "p1"), "snapshots_pkey"),
    (explain.EVENTS, ("con_1", "p1", 10), "outbox_"),
    (explain.DELIVERIES, ([1, 2],), "deliveries_"),
    (explain.HEADS, (["end_1", "end_2"], "con|p1"), "deliveries_"),
    (named.FIND.format(table="connections"), ("1",), "connections_name"),
    (named.PAGE.format(table="endpoints"), ("acme", "1", None, 50), "endpoints_customer_id_name_key"),
    (named.NAMED.format(table="endpoints"), ("acme", "1", None, 50, "1"), "endpoints_full_name"),
    (callers.OPERATOR, (b"d",), "operator_keys_digest_key"),
    (callers.CONNECTION, (b"d",), "connections_token"),
    (audit.LIST, (9000, 51, None), "audit_pkey"),
    (audit.OF_CALLER, (9000, 51, "key_1"), "audit_caller"),
    (audit.OF_SUBJECT, (9000, 51, None, "con_1"), "audit_subject"),
    (audit.OF_SUBJECT, (9000, 51, None, "con_1"), "audit_outcomes_subject"),
    (idempotency.KNOWN, (b"d",), "idempotency_pkey"),
    (idempotency.FORGET, (TTL, 100), "idempotency_begun"),
    (watch.CONNECTIONS, ("w1", TTL), "syncs_open"),
    (syncs.OPEN, ("con_1",), "syncs_open"),
    (commands.HEADS, ("con_1", 50), "commands_heads"),
    (commands.HEADS, ("con_1", 50), "commands_doubt"),
    (commands.IN_DOUBT, ("con_1",), "commands_doubt"),
    (commands.WRITTEN, ("con_1", "cmd_20", "p1", NOW), "commands_pkey"),
    (commands.SENDING, ("con_1", "cmd_20", NOW, b""), "commands_pkey"),
    (commands.WAITING, ("con_1", "cmd_20", NOW, "", True), "commands_pkey"),
    (commands.ENDED, ("con_1", "cmd_20", "applied", None, b""), "commands_pkey"),
    (commands.PROMOTE, (["con_1"], ["p1"]), "commands_lane"),
    (command_admission.DIGESTS, (["cmd_1", "cmd_2"],), "commands_pkey"),
    (command_admission.ADD, tuple([each] for each in ADDED), "commands_lane"),
    (command_admission.ADD, tuple([each] for each in ADDED), "commands_pkey"),
    (command_admission.OVERDUE, (100,), "commands_overdue"),
    (command_admission.EXPIRE, (["cmd_20", "cmd_40"], [b"", b""]), "commands_pkey"),
    (command_list.PAGE, ("con_1", 9000, 50, None, None), "commands_connection"),
    (command_list.OF_ORDER, ("con_1", 9000, 50, None, None, "p1"), "commands_order"),
    (command_list.NAMED, ("con_1", "1"), "commands_connection_id_command_id_key"),
    (command_list.OVER, (["cmd_1", "cmd_2"],), "commands_pkey"),
    (retention.FORGET_COMMANDS, (TTL, 10), "commands_done"),
    (watch.CONNECTIONS, ("w1", TTL), "commands_heads"),
    (retention.FORGET_SYNCS, (TTL * 10_000, 10), "syncs_ended"),
    (log.PAGE, ("end_1", 5000, 100, 1_000_000), "deliveries_number"),
    (outbox.TO_PUBLISH, ("con_1", TTL, 500, 1_000_000), "outbox_pending"),
    (outbox.TO_PUBLISH, ("con_1", TTL, 500, 1_000_000), "outbox_published"),
    (admission.TOLD, (["evt_1", "evt_2"],), "outbox_event_id_key"),
    (outbox.LOCK_OUTBOX, ([1, 2, 3],), "outbox_pkey"),
    (outbox.PUBLISHED, ([1, 2, 3],), "outbox_pkey"),
    (admission.RELAYED, ([1, 2, 3],), "outbox_pkey"),
    (admission.LOCK_ADMITTED, (["con_1"], ["p1"]), "admitted_pkey"),
    (admission.SAVE_ADMITTED, (["con_1"], ["p1"], [2]), "admitted_pkey"),
    (admission.ADD_DELIVERIES, (["d"], ["end_1"], [1], ["con|p1"]), "deliveries_lane"),
    (orders.SNAPSHOTS, ("con_1", ["p1", "p2"]), "snapshots_pkey"),
    (
        leases.CLAIM.format(table="connections", worked_on=leases.WORKED_ON["connections"]),
        ("w", TTL, 5, ["con_1"]),
        "connections_lease",
    ),
    (
        leases.CLAIM.format(table="endpoints", worked_on=leases.WORKED_ON["endpoints"]),
        ("w", TTL, 5, ["end_1"]),
        "endpoints_lease",
    ),
    (leases.RENEW.format(table="connections"), ("w1", ["con_1", "con_2"], TTL), "connections_"),
    (leases.RENEW.format(table="endpoints"), ("w1", ["end_1", "end_2"], TTL), "endpoints_"),
]
TABLES = ("commands", "deliveries", "outbox", "admitted", "snapshots", "connections", "endpoints")


@pytest.fixture
async def full(world):
    async with world.database.session() as connection:
        await connection.execute(ROWS)
    return world


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_hot_statements_use_their_indexes(full, plan):
    async with full.database.session() as connection:
        await connection.execute(f"SET plan_cache_mode = {plan}")
        for statement, values, index in HOT:
            explained = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values))
            assert any(f"{how} {index}" in explained for how in ("using", "Index Scan on")), explained
            assert not [table for table in TABLES if f"Seq Scan on {table}" in explained], explained


async def test_a_long_outbox_is_read_from_its_beginning_and_never_whole(full):
    async with full.database.session() as connection:
        await connection.execute("UPDATE outbox SET connection_id = 'con_1', state = 'pending'; ANALYZE outbox")
        rows = await connection.fetch(f"EXPLAIN {outbox.TO_PUBLISH}", "con_1", TTL, 100, 1_000_000)
    explained = "\n".join(row[0] for row in rows)
    assert "Index Scan using outbox_p" in explained, explained
    assert "Seq Scan" not in explained, explained


@pytest.mark.parametrize("lanes", [1, 100_000])
async def test_heads_are_found_at_once_among_a_hundred_thousand_waiting_commands(full, lanes):
    async with full.database.session() as connection:
        await connection.execute(
            """
            INSERT INTO commands (id, connection_id, customer_id, command_id, lane, state, body, digest, source, due_at,
                                  expires_at)
            SELECT 'new_' || n, 'con_1', 'acme', 'new_' || n, n % $1::int, 'waiting', '{}', '', 'api',
                   CASE WHEN n <= $1 THEN now() END, now() FROM generate_series(1, 100000) AS n
            """,
            lanes,
        )
        await connection.execute("ANALYZE commands")
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {commands.HEADS}", "con_1", 50)
    explained = "\n".join(row[0] for row in rows)
    read = [int(found) for found in re.findall(r"on commands.*actual rows=(\d+)", explained)]
    assert read, explained
    assert max(read) <= 100, explained
    assert "Seq Scan" not in explained, explained
