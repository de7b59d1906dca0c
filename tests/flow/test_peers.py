"""What other webhook servers got wrong, through real sockets and a real store: each test names whose fault it would be.

Their faults that a test elsewhere shows are not repeated here; those of consumers of Kafka are in test_peers_kafka.
"""

import asyncio
import os
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import asyncpg
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.endpoints import EndpointOptions
from relay.domain.errors import LeaseLost
from relay.domain.signing import new_secret
from relay.embedded import postgres
from relay.ports import OutboxEntry
from relay.store.database import migrate
from relay.wire.webhook import check_url
from tests.fixtures.engine import AT_ONCE, PATIENCE, raw, statuses, text, until
from tests.fixtures.line import eventually, installed
from tests.fixtures.postgres import cut_off
from tests.fixtures.store import NOW

HOUR = timedelta(hours=1)
ONCE_THEN_NEVER = (timedelta(0), timedelta(0), HOUR, HOUR)
"""A second attempt after a second, and a third that no test would live to see."""

pytestmark = pytest.mark.timeout(120)


def holding(hold, asked):
    """Answers the first event when `hold` is set and all others at once; `asked` has the texts of all."""

    async def answer(each):
        asked.append(text(each))
        if len(asked) == 1:
            await hold.wait()
        return 204

    return answer


async def numbers(engine):
    """The numbers of the attempts made at each event."""
    rows = await engine.world.sql(
        "SELECT o.body, a.number FROM attempts AS a JOIN deliveries AS d ON d.id = a.delivery_id"
        " JOIN outbox AS o USING (position) ORDER BY a.started_at"
    )
    made = {}
    for row in rows:
        made.setdefault(row["body"].decode(), []).append(row["number"])
    return made


async def died(task):
    """How a runner ended that was not stopped."""
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "the runner goes on"
    return task.exception()


# Svix


@pytest.mark.parametrize("when", ["admitted", "on its way"])
async def test_an_endpoint_that_is_removed_poisons_nothing(engine, when):
    """Svix (1511): an endpoint deleted between enqueue and send is a task that fails for ever, for all endpoints."""
    hold, asked = asyncio.Event(), []
    async with (
        engine.receiving(holding(hold, asked), "gone") as (_, gone),
        engine.receiving(lambda _: 204) as (hook, kept),
    ):
        told = await engine.tell("p1", "p2")
        if when == "admitted":
            await engine.world.registry.remove("endpoints", gone.lease.subject)
        stale = engine.runner(gone)
        task = asyncio.create_task(stale.run())
        if when == "on its way":
            await until(lambda: asked)
            await engine.world.registry.remove("endpoints", gone.lease.subject)
            hold.set()
            ended = await died(task)
            found = ended.exceptions if isinstance(ended, ExceptionGroup) else [ended]
            assert [type(each) for each in found] == [LeaseLost]
        async with engine.running(kept) as (runner,):
            assert await engine.settled() == {"p1 1": "delivered", "p2 1": "delivered"}
            assert (await engine.world.admissions.admit(told)).deliveries == 0
            await engine.tell("p1")
            runner.ring()
            assert (await engine.settled())["p1 2"] == "delivered"
        assert (hook.tally.received, hook.tally.duplicates) == (3, 0)
        if when == "admitted":
            stale.stop()  # as its worker does once it misses the lease: there was nothing of it to be sent
            await task
            assert asked == []
        assert len(asked) <= 2


async def test_what_is_admitted_again_after_it_was_delivered_is_not_sent_again(engine):
    """Svix: what a batch of 45 seconds did not acknowledge comes again, and all endpoints get it again."""
    async with engine.receiving(lambda _: 204) as (hook, claimed):
        told = await engine.tell("p1", "p2")
        async with engine.running(claimed) as (runner,):
            await engine.settled()
            assert (await engine.world.admissions.admit(told)).deliveries == 0
            await engine.tell("p1")
            runner.ring()
            await engine.settled()
    assert (hook.tally.received, hook.tally.duplicates) == (3, 0)


# Convoy


async def test_a_retry_that_fell_due_days_ago_is_made_at_once(engine):
    """Convoy (1667): retries stop when the time of the next one has passed."""
    options = EndpointOptions(schedule=(timedelta(0), HOUR, HOUR))
    async with engine.receiving(statuses(500), options=options) as (hook, claimed):
        await engine.tell("p1")
        async with engine.running(claimed):
            await until(lambda: hook.tally.refused)
        await engine.world.sql(
            "UPDATE deliveries SET due_at = now() - interval '3 days', created_at = now() - interval '4 days'"
        )
        async with engine.running(claimed):
            assert await engine.settled() == {"p1 1": "delivered"}
    assert await numbers(engine) == {"p1 1": [1, 2]}


async def test_what_was_on_its_way_when_a_worker_died_is_sent_once_more_and_under_the_same_id(engine):
    """Convoy (1977): what is stuck is enqueued twice. Debezium: its next try has another id."""
    hold, asked = asyncio.Event(), []
    async with engine.receiving(holding(hold, asked)) as (hook, claimed):
        await engine.tell("p1")
        await engine.tell("p1")
        runner = asyncio.create_task(engine.runner(claimed).run())
        await until(lambda: asked)
        runner.cancel()
        with suppress(asyncio.CancelledError):
            await runner
        async with engine.running(claimed):
            await engine.settled()
        assert asked == ["p1 1", "p1 1", "p1 2"]
        hold.set()
        await until(lambda: hook.tally.received == 3)
    assert (hook.tally.unique, hook.tally.duplicates) == (2, 1)


async def test_a_worker_that_was_taken_over_goes_no_further_in_an_order(engine):
    """Knative (3079, 3746): after a rebalance each replica sends its own retries."""
    hold, asked = asyncio.Event(), []
    async with engine.receiving(holding(hold, asked)) as (_, claimed):
        for _ in range(3):
            await engine.tell("p1")
        old = asyncio.create_task(engine.runner(claimed).run())
        await until(lambda: asked)
        taken_over = await engine.world.taken_over("endpoints", claimed.lease)
        hold.set()
        assert [type(each) for each in (await died(old)).exceptions] == [LeaseLost]
        assert asked == ["p1 1"]
        async with engine.running(taken_over):
            await engine.settled()
    assert asked == ["p1 1", "p1 1", "p1 2", "p1 3"]


JSONS = [
    rb'{"data":{"b":1.0,"a":1e2,"n":12345678901234567890.1234567890123456789,"z":-0.0,"b":2}}',
    rb'{ "data" : { "text" : "\u00e9 \ud83d\ude00 \/ \u0000 \u2028 \ud800" , "<&>" : [ ] } }' + b"\r\n\t",
    '{"data":{"é":"é e\u0301 😀 \u2028 \x7f"}}'.encode(),
    b'\xef\xbb\xbf{"data":{}}',
]


async def test_json_reaches_the_receiver_byte_for_byte(engine):
    """Convoy writes JSON anew: keys sorted, numbers rounded, escapes changed, and the signature is of other bytes."""
    engine.erp = await engine.world.connection()
    entries = [
        OutboxEntry(f"evt_{n}", "changes", f"p{n}", 1, "purchase_order.updated", NOW, body)
        for n, body in enumerate(JSONS)
    ]
    await engine.world.orders.save_page(engine.erp.lease, engine.erp.subject, [], entries, None)
    async with engine.receiving(statuses(500), options=EndpointOptions(schedule=AT_ONCE)) as (hook, claimed):
        await engine.world.admissions.admit([each.event_id for each in entries])
        async with engine.running(claimed):
            await until(lambda: hook.received.qsize() == 2 * len(JSONS))
        came = [hook.received.get_nowait() for _ in range(2 * len(JSONS))]
    assert all(each.verified for each in came)
    assert Counter(each.body for each in came) == dict.fromkeys(JSONS, 2)


# Outpost


async def test_what_failed_in_one_minute_does_not_come_back_in_one_second(engine):
    """Outpost has no jitter: whatever fails together is retried together."""
    options = EndpointOptions(schedule=(timedelta(0), timedelta(minutes=1)))
    async with engine.receiving(lambda _: 409, options=options) as (hook, claimed):
        await engine.tell(*(f"p{n}" for n in range(400)))
        async with engine.running(claimed):
            await until(lambda: hook.tally.refused == 400)
    waits = await engine.world.sql(
        "SELECT extract(epoch FROM d.due_at - a.started_at)::float AS wait"
        " FROM deliveries AS d JOIN attempts AS a ON a.delivery_id = d.id"
    )
    # A quarter either way of a minute: some thirteen a second, of what failed at the same moment.
    a_second = Counter(int(row["wait"]) for row in waits)
    assert sum(a_second.values()) == 400
    assert max(a_second.values()) < 40
    assert min(a_second) < 50
    assert max(a_second) >= 70


async def test_what_a_person_sends_again_while_it_is_on_its_way_is_neither_refused_nor_sent_twice(engine):
    """Outpost (670): a manual retry is blocked by the key of the automatic one. Convoy (1977): both are sent."""
    hold, asked = asyncio.Event(), []
    async with engine.receiving(holding(hold, asked)) as (_, claimed):
        await engine.tell("p1")
        async with engine.running(claimed) as (runner,):
            await until(lambda: asked)
            (row,) = await engine.world.registry.deliveries()
            for _ in range(3):
                await engine.world.registry.retry(row["id"])
                runner.ring()
            # What was due was read again: another order's event came through.
            await engine.tell("p2")
            runner.ring()
            await until(lambda: "p2 1" in asked)
            hold.set()
            await engine.settled()
            assert asked == ["p1 1", "p2 1"]

            await engine.world.registry.retry(row["id"])
            runner.ring()
            await until(lambda: len(asked) == 3)
            await engine.settled()
    assert asked[2] == "p1 1"
    assert await numbers(engine) == {"p1 1": [1, 2], "p2 1": [1]}


BROKEN_LOG = """
    CREATE FUNCTION broken() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no room for the log'; END $$ LANGUAGE plpgsql;
    CREATE TRIGGER broken BEFORE INSERT ON attempts_other FOR EACH ROW EXECUTE FUNCTION broken()
"""


async def test_an_attempt_that_cannot_be_logged_is_made_again_and_drops_no_retry(engine):
    """Outpost (1000): retries are read from the log of attempts, and lost, or made for ever, when that lags."""
    async with engine.receiving(statuses(500), options=EndpointOptions(schedule=AT_ONCE)) as (hook, claimed):
        await engine.tell("p1")
        for statement in BROKEN_LOG.split(";\n"):
            await engine.world.sql(statement)
        ended = await died(asyncio.create_task(engine.runner(claimed).run()))
        assert [type(each) for each in ended.exceptions] == [asyncpg.RaiseError]
        (row,) = await engine.world.registry.deliveries()
        assert (row["state"], row["attempts"], hook.tally.refused) == ("waiting", 0, 1)
        await engine.world.sql("DROP FUNCTION broken CASCADE")
        async with engine.running(claimed):
            await engine.settled()
    assert (await numbers(engine), hook.tally.received) == ({"p1 1": [1]}, 2)


async def test_a_log_of_attempts_that_is_gone_changes_neither_retry_nor_number(engine):
    """Outpost (1000), and retention: what is due and how often it was tried stands with the delivery."""
    async with engine.receiving(statuses(500, 500), options=EndpointOptions(schedule=(*AT_ONCE, HOUR))) as (
        hook,
        claimed,
    ):
        await engine.tell("p1")
        async with engine.running(claimed):
            await until(lambda: hook.tally.refused == 1)
        await engine.world.sql("DELETE FROM attempts")
        async with engine.running(claimed):
            await engine.settled()
    assert await numbers(engine) == {"p1 1": [2, 3]}


async def test_what_a_customer_refuses_for_good_is_no_dead_letter_of_ours(engine):
    """Outpost (571): the dead letters are full of customers' failures, and hide our own."""
    async with engine.receiving(lambda _: 501) as (_, claimed):
        await engine.tell("p1", "p2")
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"dead"}
    assert await engine.world.one("SELECT array_agg(DISTINCT stream) FROM outbox") == ["changes"]


async def test_an_answer_that_takes_longer_than_a_lease_is_waited_for_by_one_worker_alone(line):
    """Outpost (1050, 1063): its lock lasts as long as the deadline, 5 seconds: who comes then sends again, or waits."""
    slow, asked = asyncio.Event(), []

    async def answer(each):
        asked.append(each.event_id)
        await slow.wait()
        return 204

    async with simulated_protheus(Options()) as erp, line.receiver(answer) as hook:
        erp.seed(0)
        erp.create_order([NewLine("PAR-M8-30", 10, 1.25)])
        await line.protheus(erp)
        workers = [await line.worker(), await line.worker()]
        await eventually(lambda: asked, "it is on its way")
        database = await asyncpg.connect(line.database_url)
        try:
            # A lease is of two seconds here.
            over = await database.fetchval("SELECT lease_until + interval '4 seconds' FROM endpoints")
            async with asyncio.timeout(PATIENCE):
                while await database.fetchval("SELECT lease_until FROM endpoints") < over:  # noqa: ASYNC110 - a database
                    await asyncio.sleep(0.05)
        finally:
            await database.close()
        assert len(asked) == 1
        slow.set()
        await eventually(lambda: hook.tally.unique == 1, "it is taken")
        assert [await each.stop() for each in workers] == [0, 0]
    assert len(asked) == 1


# A database that goes and comes


async def test_a_database_that_restarts_in_the_middle_of_delivering_costs_nothing(
    tmp_path, short_folder, embedded_broker
):
    """Outpost (998): the connection is never made again. Svix (1844): work stands still until somebody restarts it."""
    home, gone, asked = short_folder / "data", asyncio.Event(), Counter()

    async def answer(each):
        asked[each.event_id] += 1
        if len(asked) > 5:
            await gone.wait()
        return 204

    async with simulated_protheus(Options()) as erp, postgres(home) as url:
        erp.seed(0)
        for _ in range(40):
            erp.create_order([NewLine("PAR-M8-30", 10, 1.25)])
        await asyncio.to_thread(migrate, url)
        async with installed(tmp_path, url, embedded_broker.bootstrap) as line, line.receiver(answer) as hook:
            await line.protheus(erp)
            worker = await line.worker()
            await eventually(lambda: len(asked) > 6, "some are on their way")
            await cut_off(home)
            gone.set()
            await eventually(lambda: worker.said("leases.unreachable"), "it is missed")
            async with postgres(home) as again:
                assert again == url
                await eventually(lambda: hook.tally.unique == 40, "everything arrives")
                # What had arrived when the database went away is sent once more, and recorded then.
                async with asyncio.timeout(PATIENCE):
                    while (states := (await line.registry.endpoint("hook")).counts)["delivered"] < 40:  # noqa: ASYNC110 - a row of another process's rings no bell
                        await asyncio.sleep(0.05)
                assert await worker.stop() == 0
            assert (hook.tally.out_of_order, hook.tally.unverified) == (0, 0)
            assert len(asked) == 40
            assert max(asked.values()) <= 2
            assert states["delivered"] == 40


# Flink, Aiven and the rest


async def test_a_connection_serves_one_event_after_the_other(engine):
    """Hook0 makes a client for each delivery: each begins with a handshake."""
    connections = 0

    async def speak(reader, writer):
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(4)
            writer.write(b"HTTP/1.1 204 Fine\r\n\r\n")

    async with raw(speak) as url:
        claimed = await engine.endpoint(url, new_secret(os.urandom(32)), at_once=1)
        await engine.tell("p1", "p2", "p3", "p4")
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"delivered"}
    assert connections == 1


async def test_one_refused_event_of_many_is_sent_again_alone(engine):
    """Flink sends the whole batch again and takes its one status for all; Aiven holds up all that is behind."""
    asked = Counter()

    def answer(each):
        asked[text(each)] += 1
        return 400 if (text(each), asked[text(each)]) == ("p7 1", 1) else 204

    async with engine.receiving(answer, options=EndpointOptions(schedule=AT_ONCE)) as (_, claimed):
        await engine.tell(*(f"p{n}" for n in range(40)))
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"delivered"}
    assert asked == {f"p{n} 1": 1 + (n == 7) for n in range(40)}
    assert (await numbers(engine))["p7 1"] == [1, 2]


async def test_old_events_keep_their_order_and_the_next_one_does_not_wait_for_its_turn_twice(engine):
    """Polar: order is given up after a minute, and "not my turn" counts as a failure: 27 seconds for nothing."""
    asked = []

    def answer(each):
        asked.append(text(each))
        return 500 if len(asked) == 1 else 204

    async with engine.receiving(answer, options=EndpointOptions(schedule=ONCE_THEN_NEVER)) as (_, claimed):
        for _ in range(3):
            await engine.tell("p1")
        await engine.world.sql("UPDATE outbox SET occurred_at = now() - interval '9 days', created_at = occurred_at")
        await engine.world.sql(
            "UPDATE deliveries SET created_at = now() - interval '9 days', due_at = due_at - interval '9 days'"
        )
        async with engine.running(claimed):
            await engine.settled()
    assert asked == ["p1 1", "p1 1", "p1 2", "p1 3"]
    assert await numbers(engine) == {"p1 1": [1, 2], "p1 2": [1], "p1 3": [1]}


async def test_bytes_that_are_no_text_in_an_answer_are_kept_and_shown_and_stop_nothing(engine):
    """Polar must strip NUL before PostgreSQL sees it; here an answer is bytes, and stays bytes."""
    noise = b"\x00\xff\xfe\xed\xa0\x80 no text \x00"
    answers = [b"HTTP/1.1 500 \xff\xfe", b"HTTP/1.1 302 x\r\nlocation: /\xff%00", b"HTTP/1.1 200 OK"]

    async def speak(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(4)
            writer.write(answers.pop(0) + b"\r\nx: \xff\r\ncontent-length: %d\r\n\r\n" % len(noise) + noise)

    async with raw(speak) as url:
        claimed = await engine.endpoint(url, new_secret(os.urandom(32)), options=EndpointOptions(schedule=AT_ONCE))
        await engine.tell("p1")
        async with engine.running(claimed):
            assert await engine.settled() == {"p1 1": "delivered"}
    (row,) = await engine.world.registry.deliveries()
    shown = await engine.world.registry.delivery(row["id"])
    assert [(each["status"], each["excerpt"]) for each in shown["attempts_made"]] == [
        (500, noise),
        (302, noise),
        (200, noise),
    ]


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".example"])
async def test_a_name_that_cannot_be_looked_up_is_a_failed_attempt_and_is_tried_again(engine, host):
    """Polar: trouble with IDNA is an exception, and the event is lost for good."""
    url = check_url(f"https://{host}/")
    claimed = await engine.endpoint(url, new_secret(os.urandom(32)))
    await engine.tell("p1")
    async with engine.running(claimed):
        async with asyncio.timeout(PATIENCE):
            while not await engine.world.one("SELECT count(*) FROM attempts"):  # noqa: ASYNC110 - it watches a database
                await asyncio.sleep(0.02)
        (row,) = await engine.world.registry.deliveries()
    assert (row["state"], row["last_error"]) == ("waiting", "resolve")
    assert row["due_at"] > datetime.now(UTC)


# The reference library


async def test_a_clock_in_another_zone_signs_the_same_instant(engine):
    """standardwebhooks 1.1.0 takes any aware time for UTC: signatures are hours off, and receivers refuse them."""
    west = timezone(timedelta(hours=-3))
    async with engine.receiving(lambda _: 204) as (hook, claimed):
        await engine.tell("p1")
        async with engine.running(claimed, clock=lambda: datetime.now(west)):
            assert await engine.settled() == {"p1 1": "delivered"}
        assert abs((await hook.received.get()).timestamp - time.time()) < 60
        assert hook.tally.unverified == 0
