"""Notices from a change of state to the topic: written with it, told in order, by one worker at a time, and kept."""

import asyncio
from datetime import timedelta

import orjson
import pytest

from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.connections import ConnectionState, Polled
from relay.domain.notices import Notice, NoticeType, notice_event
from relay.embedded import broker
from relay.store.explain import ExplainStore
from relay.store.notices import FORGET, GIVE_BACK, TAKE, TOLD, NoticeStore, add_notices
from tests.fixtures.line import PATIENCE, eventually, installed
from tests.fixtures.store import NOW, attempt

pytestmark = pytest.mark.timeout(180)

KEEP = timedelta(days=30)


@pytest.fixture
def store(database):
    return NoticeStore(database, KEEP)


def notice(subject="end_1", kind=NoticeType.ENDPOINT_FAILING, hours=1, **values):
    span = timedelta(hours=hours)
    return Notice(kind, "acme", subject, subject, NOW + span, failing_since=NOW, after=span, **values)


async def add(database, *notices):
    async def work(connection):
        await add_notices(connection, notices)

    await database.transact(work)


# The store


async def test_notices_are_taken_in_order_with_all_that_they_say(database, store):
    said = [notice(f"end_{n}", reason=f"reason {n}") for n in range(5)]
    await add(database, *said[:3])
    await add(database, *said[3:])
    assert await store.take(10) == said


async def test_what_is_written_twice_is_told_once(database, store):
    await add(database, notice(), notice())
    await add(database, notice(reason="other words"))
    assert await store.take(10) == [notice()]


async def test_writing_nothing_does_nothing(database, store):
    await add(database)
    assert await store.take(10) == []


async def test_a_notice_is_gone_with_the_transaction_that_wrote_it(database, store):
    async def work(connection):
        await add_notices(connection, [notice()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transact(work)
    assert await store.take(10) == []


async def test_what_one_worker_has_taken_no_other_takes_until_it_is_given_back(database, store):
    await add(database, notice("end_1"), notice("end_2"))
    first = await store.take(1)
    assert first == [notice("end_1")]
    assert await store.take(10) == [notice("end_2")]
    assert await store.take(10) == []
    await store.give_back([first[0].id])
    assert await store.take(10) == first


async def test_a_later_notice_of_a_subject_waits_while_an_earlier_one_is_being_told(database, store):
    await add(database, notice(hours=1), notice(hours=24))
    first = await store.take(1)
    assert await store.take(10) == []
    await store.told([first[0].id])
    assert await store.take(10) == [notice(hours=24)]


async def test_a_worker_that_died_leaves_its_notices_to_others_after_a_while(database, store, world):
    await add(database, notice())
    await store.take(10)
    await world.sql("UPDATE notices SET taken_until = now() - interval '1 second'")
    assert await store.take(10) == [notice()]


async def test_giving_back_what_another_has_told_meanwhile_does_not_tell_it_again(database, store):
    await add(database, notice())
    await store.take(10)
    await store.told([notice().id])
    await store.give_back([notice().id])
    assert await store.take(10) == []


async def test_told_notices_are_forgotten_after_a_while_and_untold_ones_never(database, store, world):
    await add(database, notice("end_1"), notice("end_2"), notice("end_3"))
    await store.told([notice("end_1").id, notice("end_2").id])
    await world.sql("UPDATE notices SET created_at = now() - interval '1 year'")
    assert await store.forget() == 0
    await world.sql("UPDATE notices SET told_at = now() - interval '31 days' WHERE subject_id = 'end_1'")
    assert await store.forget() == 1
    assert [row["subject_id"] for row in await world.sql("SELECT subject_id FROM notices ORDER BY position")] == [
        "end_2",
        "end_3",
    ]


async def test_a_reason_that_postgresql_cannot_hold_is_written_all_the_same(database, store):
    await add(database, notice(reason="half a \ud83d pair, and \x00"))
    [taken] = await store.take(10)
    assert taken.reason == "half a ? pair, and \ufffd"


TOLD_LONG_AGO = """
    INSERT INTO notices (id, type, customer_id, subject_id, subject_name, occurred_at, told_at)
    SELECT 'ntc_' || n, 'endpoint.failing', 'acme', 'end_' || n, n, now(),
           CASE WHEN n <= 19990 THEN now() - n * interval '1 minute' END
    FROM generate_series(1, 20000) AS n;
    ANALYZE notices;
"""


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_told_notices_cost_a_look_for_new_ones_nothing(database, plan):
    async with database.session() as connection:
        await connection.execute(TOLD_LONG_AGO)
        await connection.execute(f"SET plan_cache_mode = {plan}")
        for statement, values in [
            (TAKE, (100, timedelta(minutes=1))),
            (TOLD, (["ntc_1", "ntc_2"],)),
            (GIVE_BACK, (["ntc_1", "ntc_2"],)),
            (FORGET, (KEEP, 100)),
        ]:
            explained = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *values))
            assert "Seq Scan on notices" not in explained, explained


# Connections


async def refused(world, by, problem="the ERP refuses the login"):
    await world.orders.save_polled(by.lease, Polled(ConnectionState.NEEDS_RECONNECT, NOW, 1, problem))


async def test_a_refused_login_is_noticed_once_however_often_it_is_refused(world, store):
    by = await world.connection()
    await world.orders.save_polled(by.lease, Polled(ConnectionState.ACTIVE, NOW, 1, "no answer"))
    assert await store.take(10) == []
    await refused(world, by)
    await refused(world, by, "again")
    [told] = await store.take(10)
    assert (told.type, told.reason) == (NoticeType.CONNECTION_NEEDS_RECONNECT, "the ERP refuses the login")
    assert (told.customer_id, told.subject_id, told.subject_name) == ("acme", by.lease.subject, by.subject.name)


async def test_a_login_that_is_refused_to_a_paused_connection_is_not_noticed(world, store):
    by = await world.connection()
    await world.registry.set_connection(by.lease.subject, ConnectionState.PAUSED)
    await refused(world, by)
    assert await store.take(10) == []


@pytest.mark.parametrize("how", ["credentials", "resume"])
async def test_a_connection_that_a_person_mended_is_noticed_once_and_refused_again_is_another_notice(world, store, how):
    by = await world.connection()

    async def mend():
        if how == "resume":
            await world.registry.set_connection(by.lease.subject, ConnectionState.ACTIVE)
        else:
            await world.registry.set_credentials(by.lease.subject, b"sealed", b"digest")

    await mend()
    assert await store.take(10) == [], "it was not waiting for anybody"
    await refused(world, by)
    await mend()
    await mend()
    await refused(world, by)
    told = await store.take(10)
    assert [each.type.partition(".")[2] for each in told] == ["needs_reconnect", "reconnected", "needs_reconnect"]
    assert len({each.id for each in told}) == 3


async def test_pausing_a_connection_that_waits_for_a_person_tells_nothing(world, store):
    by = await world.connection()
    await refused(world, by)
    await world.registry.set_connection(by.lease.subject, ConnectionState.PAUSED)
    assert [each.type for each in await store.take(10)] == [NoticeType.CONNECTION_NEEDS_RECONNECT]


async def test_endpoints_hear_of_a_connection_in_order_with_the_ids_and_bodies_of_the_topic(world, store):
    by, hook = await world.connection(), await world.endpoint()
    narrow = await world.endpoint("narrow", event_types=("connection.reconnected",))
    other = await world.endpoint("other", "umbrella")
    orders_only = await world.endpoint("orders", event_types=("purchase_order.updated",))
    await refused(world, by, "no \x00 login")
    await world.registry.set_connection(by.lease.subject, ConnectionState.ACTIVE)
    rows = await world.outbox.to_publish(by.lease, 10)
    admitted = await world.admissions.admit([row.event_id for row in reversed(rows)])
    assert (admitted.events, admitted.deliveries) == (2, 3)
    told = [(each.id, notice_event(each).model_dump_json().encode()) for each in await store.take(10)]
    heads = []
    while head := await world.heads(hook):
        heads += [(each.event_id, each.body) for each in head]
        await world.record(hook.lease, [attempt(each) for each in head])
    assert heads == told
    assert [each.event_id for each in await world.heads(narrow)] == [told[1][0]]
    assert [await world.heads(other), await world.heads(orders_only)] == [[], []]


async def test_what_endpoints_hear_of_a_connection_goes_on_after_retention_has_taken_what_was_before(world):
    by = await world.connection()
    for way in ("resume", "after retention"):
        await refused(world, by)
        await world.registry.set_connection(by.lease.subject, ConnectionState.ACTIVE)
        rows = await world.outbox.to_publish(by.lease, 10)
        assert (await world.admissions.admit([row.event_id for row in rows])).events == 2, way
        await world.sql("DELETE FROM outbox")


async def test_no_order_is_called_like_a_notice(world, store):
    by = await world.connection()
    await refused(world, by)
    (told,) = await store.take(10)
    orders = ExplainStore(world.database)
    assert [await orders.find(told.id, None), await orders.find("", None)] == [[], []]


async def test_a_connection_that_is_removed_leaves_its_notices(world, store):
    by = await world.connection()
    await refused(world, by)
    await world.registry.remove("connections", by.lease.subject)
    assert [each.subject_id for each in await store.take(10)] == [by.lease.subject]


# The whole line


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(0)
        yield running


async def in_state(line, name, state):
    async with asyncio.timeout(PATIENCE):
        while (await line.registry.connection(name)).subject.state is not state:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def operations(line, count):
    """Type and body of what is on the operations topic, once so many are there; and the records."""
    records = await asyncio.to_thread(line.consume, "operations", until=lambda records: len(records) >= count)
    return [(dict(each.headers())["ce_type"].decode(), orjson.loads(each.value())) for each in records], records


@pytest.mark.slow
async def test_a_refused_login_and_its_mending_are_told_on_the_operations_topic_once_each(line, erp):
    connection = await line.protheus(erp, password="wrong-canary")
    worker = await line.worker()
    await in_state(line, connection, ConnectionState.NEEDS_RECONNECT)
    await eventually(lambda: worker.said("notice.published"), "told")
    good = {"username": erp.username, "password": erp.password}
    await line.control.reconnect(connection, good)
    await eventually(lambda: len(worker.said("notice.published")) == 2, "told that it is mended")
    # A second worker finds nothing left to tell.
    other = await line.worker()
    await eventually(lambda: other.said("worker.started"), "another worker")
    assert [await worker.stop(), await other.stop()] == [0, 0]
    told, records = await operations(line, 2)
    assert [kind for kind, _ in told] == ["connection.needs_reconnect", "connection.reconnected"]
    assert other.said("notice.published") == []
    assert {record.key() for record in records} == {connection.encode()}
    needs = told[0][1]["data"]
    assert (needs["subject"], needs["subject_id"], needs["subject_name"]) == ("connection", connection, "erp")
    assert "refuses the login" in needs["reason"]
    assert b"canary" not in b"".join([worker.path.read_bytes(), *(record.value() for record in records)])


async def test_a_login_that_is_refused_later_and_mended_are_webhooks(line, erp):
    erp.seed(1)
    types = ["connection.needs_reconnect", "connection.reconnected"]
    orders_only = line.receiver(name="orders", event_types=["created"])
    async with line.receiver(event_types=types) as hook, orders_only as orders:
        connection = await line.protheus(erp)
        worker = await line.worker()
        await line.synced(connection)
        erp.login.change_password("other-canary")
        await eventually(lambda: hook.tally.unique == 1, "told that it is refused")
        assert (await line.registry.connection(connection)).subject.state is ConnectionState.NEEDS_RECONNECT
        await line.control.reconnect(connection, {"username": erp.username, "password": "other-canary"})
        await eventually(lambda: hook.tally.unique == 2, "told that it is mended")
        assert (hook.tally.unverified, orders.tally.received) == (0, 0)
        came = [hook.received.get_nowait() for _ in types]
        assert [each.type for each in came] == types
        assert {orjson.loads(each.body)["data"]["subject_id"] for each in came} == {connection}
        assert [await worker.stop()] == [0]
    _, records = await operations(line, 2)
    assert [(each.event_id, each.body) for each in came] == [
        (dict(record.headers())["ce_id"].decode(), record.value()) for record in records
    ]
    assert b"canary" not in b"".join([worker.path.read_bytes(), *(each.body for each in came)])


@pytest.mark.slow
async def test_a_notice_of_the_time_without_a_broker_arrives_when_it_is_back(tmp_path, database_url, erp):
    folder = tmp_path / "broker"
    async with broker(folder) as first:
        bootstrap = first.bootstrap
    async with installed(tmp_path, database_url, bootstrap) as line:
        async with broker(folder) as second:
            assert second.bootstrap == bootstrap
            await line.protheus(erp, name="good")
            worker = await line.worker()
            await line.synced("con_good")
        await line.protheus(erp, name="bad", password="wrong")
        await in_state(line, "bad", ConnectionState.NEEDS_RECONNECT)
        await eventually(lambda: worker.said("notices.waiting"), "it waits")
        assert worker.said("notice.published") == []
        async with broker(folder) as third:
            assert third.bootstrap == bootstrap
            await eventually(lambda: worker.said("notice.published"), "it is told")
            told, _ = await operations(line, 1)
            assert [(kind, body["data"]["subject_id"]) for kind, body in told] == [
                ("connection.needs_reconnect", "con_bad")
            ]
            assert await worker.stop() == 0
