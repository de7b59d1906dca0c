"""Bad input everywhere: clear problems, nothing lost, no secret shown, and work goes on when the cause has gone."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from pydantic import HttpUrl

from relay.control.at_hand import Usual
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.protheus_login import TOKEN_PATH
from relay.domain.connections import ConnectionState
from relay.domain.endpoints import EndpointState
from relay.domain.errors import UserError
from relay.embedded import postgres
from relay.store.database import migrate
from tests.fixtures.line import PATIENCE, RELAY, eventually, installed, known_as, state_of
from tests.fixtures.postgres import cut_off, said

pytestmark = pytest.mark.timeout(180)

CANARY = "canary-5f1c-Senha"


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(0)
        yield running


def an_order(erp, **more):
    return erp.create_order([NewLine("PAR-M8-30", 10, 1.25)], **more)


async def seen_when(look, good):
    """What `look` gives, once it is `good`."""
    async with asyncio.timeout(PATIENCE):
        while not good(seen := await look()):  # noqa: ASYNC110 - a row of another process's rings no bell
            await asyncio.sleep(0.05)
    return seen


async def until_problem(line, name, *words):
    """The connection as people see it, once its problem says all these words."""
    return await seen_when(
        lambda: line.control.connection(name), lambda seen: all(word in (seen.problem or "") for word in words)
    )


async def until_well(line, name):
    return await seen_when(lambda: line.control.connection(name), lambda seen: seen.synced and not seen.problem)


# The ERP refuses, is not there, or talks nonsense


@pytest.mark.slow
async def test_a_wrong_password_is_tried_once_and_waits_for_a_person(line, erp):
    order = an_order(erp)
    await line.protheus(erp, name="good")
    await line.protheus(erp, name="bad", password=CANARY)
    async with line.receiver() as hook:
        worker = await line.worker()
        seen = await until_problem(line, "bad", "refuses the login", "relay connections resume")
        assert seen.state is ConnectionState.NEEDS_RECONNECT
        assert not seen.synced
        polls = len(erp.queries())
        await eventually(lambda: len(erp.queries()) > polls + 10, "the good one goes on")
        logins = [request for request in erp.seen if request.path.endswith(TOKEN_PATH)]
        assert [request.headers["password"] == CANARY for request in logins].count(True) == 1
        await eventually(lambda: hook.tally.latest == {known_as("con_good", order): 1}, "the good one is delivered")

        await line.control.resume_connection("bad")
        await until_problem(line, "bad", "refuses the login")
        assert sum(request.headers.get("password") == CANARY for request in erp.seen) == 2
        assert await worker.stop() == 0
        bodies = [hook.received.get_nowait().body for _ in range(hook.received.qsize())]
    shown = [
        each.model_dump_json() for each in (await line.control.connection("bad"), await line.control.connection("good"))
    ]
    assert not [
        each for each in (worker.path.read_bytes(), *bodies, *map(str.encode, shown)) if CANARY.encode() in each
    ]


@pytest.mark.slow
async def test_an_erp_that_is_not_there_is_a_problem_until_it_comes(line):
    async with simulated_protheus(Options()) as gone:
        port = int(HttpUrl(gone.url).port)
    connection = await line.protheus(gone)
    async with line.receiver() as hook:
        await line.worker()
        seen = await until_problem(line, connection, f"no answer from 127.0.0.1:{port}")
        assert seen.state is ConnectionState.ACTIVE
        await seen_when(lambda: line.control.connection(connection), lambda seen: seen.failures > 2)
        async with simulated_protheus(Options(port=port)) as erp:
            erp.seed(0)
            order = an_order(erp)
            await eventually(lambda: hook.tally.latest == {known_as(connection, order): 1}, "delivered")
            assert (await until_well(line, connection)).failures == 0


async def test_a_wrong_address_says_what_it_met(line, erp):
    connection = await line.protheus(erp, settings={"url": f"{erp.url}/portal"})
    await line.worker()
    seen = await until_problem(line, connection, "/rest/portal", "404")
    assert seen.counts["events"] == 0


@pytest.mark.slow
async def test_nonsense_from_the_erp_moves_no_cursor_and_loses_nothing(line, erp):
    connection = await line.protheus(erp)
    an_order(erp)
    async with line.receiver() as hook:
        await line.worker()
        await eventually(lambda: hook.tally.unique == 1, "the first sync")
        for fault, words in {
            "html_200": "HTML",
            "truncated": "expected JSON",
            "short": "no answer",
            "empty": "empty body",
            "html": "500",
            "429": "429",
        }.items():
            await until_well(line, connection)
            before = (await line.registry.connection(connection)).subject.cursor
            erp.fail_next(fault, 1000)
            order = an_order(erp)
            seen = await until_problem(line, connection, words)
            assert "<h1>" not in seen.problem
            assert (await line.registry.connection(connection)).subject.cursor == before
            erp.heal()
            name = known_as(connection, order)
            await eventually(lambda name=name: hook.tally.latest.get(name) == 1, f"delivered after {fault}")
        assert (hook.tally.out_of_order, hook.tally.duplicates) == (0, 0)


# Records


@pytest.mark.slow
async def test_junk_in_a_field_rejects_that_order_once_and_no_other(line):
    # Without stamps every poll meets the junk again.
    async with simulated_protheus(Options(stamps=False)) as erp, line.receiver() as hook:
        erp.seed(0)
        first, bad, last = (an_order(erp) for _ in range(3))
        erp.corrupt(bad, "C7_QUANT", "dez")
        connection = await line.protheus(erp)
        await line.worker()
        good = {known_as(connection, order): 1 for order in (first, last)}
        await eventually(lambda: hook.tally.latest == good, "its neighbours")
        polls = len(erp.queries())
        await eventually(lambda: len(erp.queries()) > polls + 10, "more passes")
        assert (await line.control.connection(connection)).counts["rejected"] == 1
        erp.corrupt(bad, "C7_QUANT", 10)
        await eventually(lambda: hook.tally.latest == good | {known_as(connection, bad): 1}, "mended")
    letters = await asyncio.to_thread(line.consume, "dead-letters", until=lambda records: records)
    (letter,) = letters
    headers = dict(letter.headers())
    assert letter.key() == f"{connection}|{state_of(erp, bad)}".encode()
    assert headers["relay-reason"] == b"rejected_record"
    assert b"C7_QUANT" in headers["relay-detail"]
    assert b'"dez"' in letter.value()


@pytest.mark.slow
async def test_an_unmapped_currency_is_kept_raw_and_noticed(line, erp):
    connection = await line.protheus(erp)
    async with line.receiver() as hook:
        an_order(erp, currency=7)
        await line.worker()
        webhook = await asyncio.wait_for(hook.received.get(), 60)
        told = orjson.loads(webhook.body)["data"]["order"]
        assert (told["currency"], told["currency_raw"]) == (None, "7")
        polls = len(erp.queries())
        await eventually(lambda: len(erp.queries()) > polls + 10, "quiet polls")
        seen = await line.control.connection(connection)
        assert seen.notices == ("currency index 7 is not mapped: add it to currencies in the mapping",)


@pytest.mark.slow
async def test_an_order_too_large_for_kafka_still_reaches_the_webhook(line, erp):
    connection = await line.protheus(erp, settings={"page_size": 5000})
    async with line.receiver() as hook:
        large = erp.create_order([NewLine("PAR-M8-30", 1, 1.25)] * 2500)
        small = an_order(erp)
        await line.worker()
        names = {known_as(connection, order): 1 for order in (large, small)}
        await eventually(lambda: hook.tally.latest == names, "both")
        erp.approve(small)
        await eventually(lambda: hook.tally.latest[known_as(connection, small)] == 2, "the line goes on")
    (letter,) = await asyncio.to_thread(line.consume, "dead-letters", until=lambda records: records)
    headers = dict(letter.headers())
    assert headers["relay-reason"] == b"too_large"
    assert letter.key() == f"{connection}|{state_of(erp, large)}".encode()
    assert orjson.loads(letter.value())["bytes"] > 1024 * 1024


# Deletes


@pytest.mark.slow
async def test_a_purged_order_is_told_deleted_after_two_full_passes(line, erp):
    connection = await line.protheus(erp, reconcile=0.5)
    kept, purged = an_order(erp), an_order(erp)
    async with line.receiver() as hook:
        worker = await line.worker()
        await eventually(lambda: hook.tally.unique == 2, "the first sync")
        before = len(worker.said("connection.reconciled"))
        erp.purge(purged)
        await eventually(lambda: hook.tally.latest.get(known_as(connection, purged)) == 2, "deleted")
        passes = worker.said("connection.reconciled")[before:]
        assert next(place for place, each in enumerate(passes) if each["deleted"]) >= 1
        assert hook.tally.latest[known_as(connection, kept)] == 1
        bodies = [orjson.loads(hook.received.get_nowait().body) for _ in range(hook.received.qsize())]
    assert [each["type"] for each in bodies if each["data"]["sequence"] == 2] == ["purchase_order.deleted"]


@pytest.mark.slow
async def test_a_purge_of_many_orders_is_not_believed(line, erp):
    connection = await line.protheus(erp, reconcile=0.5)
    orders = [an_order(erp) for _ in range(12)]
    async with line.receiver() as hook:
        worker = await line.worker()
        await eventually(lambda: hook.tally.unique == 12, "the first sync")
        for order in orders[:6]:
            erp.purge(order)
        await until_problem(line, connection, "misses 6 of 12 orders", "nothing was deleted")
        passes = len(worker.said("connection.reconciled"))
        await eventually(lambda: len(worker.said("connection.reconciled")) > passes + 2, "more passes")
        another = an_order(erp)
        await eventually(lambda: hook.tally.latest.get(known_as(connection, another)) == 1, "the line goes on")
        seen = await line.control.connection(connection)
        assert "nothing was deleted" in seen.problem
        assert (seen.counts["orders"], seen.counts["events"]) == (13, 13)


# Endpoints


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/x",
        "hooks.example/x",
        "https://",
        "http://hooks.example/x",
        f"https://me:{CANARY}@hooks.example/x",
        "https://hooks.example:99999/x",
        "https://hooks.example/a b",
        f"https://hooks.example/x#{CANARY}",
    ],
)
async def test_a_bad_endpoint_address_is_refused_with_the_reason(line, url):
    control = replace(line.control, usual=Usual())
    with pytest.raises(UserError, match="URL") as refused:
        await control.add_endpoint(customer="acme", name="hook", url=url)
    assert CANARY not in str(refused.value)
    assert await line.control.endpoints() == []


async def test_the_command_line_refuses_a_bad_address_in_one_line(line):
    command = await asyncio.create_subprocess_exec(
        *(RELAY, "endpoints", "add", "--customer", "acme", "--name", "hook", "--url", "ftp://hooks.example"),
        env=line.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await command.communicate()
    assert command.returncode not in {0, None}
    assert out == b""
    assert b"https://" in error
    assert b"Traceback" not in error


@pytest.mark.slow
async def test_an_endpoint_that_is_gone_is_disabled_and_its_deliveries_wait(line, erp):
    connection = await line.protheus(erp)
    gone = True
    async with line.receiver(answer=lambda _: 410 if gone else 204) as hook:
        order = an_order(erp)
        worker = await line.worker()
        await eventually(lambda: worker.said("endpoint.disabled"), "disabled")
        seen = await line.control.endpoint("hook")
        assert (seen.state, seen.counts["waiting"]) == (EndpointState.DISABLED, 1)
        assert "410" in seen.problem
        erp.approve(order)
        gone = False
        assert (await line.control.enable_endpoint("hook")).problem is None
        await eventually(lambda: hook.tally.latest == {known_as(connection, order): 2}, "both events, in order")
        assert hook.tally.out_of_order == 0


@pytest.mark.slow
async def test_refusals_and_silence_are_tried_again_and_can_be_looked_up(line, erp):
    await line.protheus(erp)
    order = an_order(erp)

    def first(status):
        return lambda webhook: status if webhook.attempt == 1 else 204

    async def silent(webhook):
        if webhook.attempt == 1:
            await asyncio.Event().wait()
        return 204

    async with (
        line.receiver(answer=first(404), name="lost") as lost,
        line.receiver(answer=first(500), name="broken") as broken,
        line.receiver(answer=silent, name="silent", deadline=timedelta(seconds=1)) as slow,
    ):
        await line.worker()
        hooks = lost, broken, slow
        await eventually(lambda: all(hook.tally.unique == 1 for hook in hooks), "each at the second attempt")
        tried = {}
        for name in ("lost", "broken", "silent"):
            (delivery,) = await seen_when(
                lambda name=name: line.control.deliveries(endpoint=name, state="delivered"), lambda found: found
            )
            assert delivery.remote_id == state_of(erp, order)
            tried[name] = [
                (attempt.status, attempt.error, attempt.outcome)
                for attempt in (await line.control.delivery(delivery.id)).attempts_made
            ]
        well = (204, "", "delivered")
        assert tried["lost"] == [(404, "", "retry"), well]
        assert tried["broken"] == [(500, "", "retry"), well]
        assert tried["silent"] == [(None, "timeout", "retry"), well]


# Keys and stored settings


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "no master key"), ("test", "keyid:base64"), ("test:c2hvcnQ=", "5 bytes instead of 32")],
)
async def test_a_worker_without_a_usable_master_key_says_so_and_ends(line, key, words):
    worker = await line.worker(RELAY_VAULT__MASTER_KEY=key)
    assert await worker.ended() not in {0, None}
    said = worker.path.read_text()
    assert words in re.sub(r"\s+", " ", said)
    assert "Traceback" not in said


@pytest.mark.slow
async def test_a_wrong_master_key_is_the_problem_of_all_it_should_open(line, erp):
    connection = await line.protheus(erp)
    order = an_order(erp)
    other = "test:" + "eCF4IXghQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
    async with line.receiver() as hook:
        wrong = await line.worker(RELAY_VAULT__MASTER_KEY=other)
        await until_problem(line, connection, "data key", "`acme`", "cannot be opened")
        await seen_when(lambda: line.control.endpoint("hook"), lambda seen: "cannot be opened" in (seen.problem or ""))
        assert await wrong.stop() == 0
        assert erp.queries() == []
        await line.worker()
        await eventually(lambda: hook.tally.latest == {known_as(connection, order): 1}, "delivered with the right key")
        await until_well(line, connection)
        assert (await line.control.endpoint("hook")).problem is None


async def test_stored_settings_of_another_version_are_the_connections_problem(line, erp):
    connection = await line.protheus(erp, settings={"flavour": CANARY})
    unknown = await line.connect("sap", settings={}, credentials={}, name="unknown")
    worker = await line.worker()
    seen = await until_problem(line, connection, "flavour", "added anew")
    assert CANARY not in seen.problem
    await until_problem(line, unknown, "no connector 'sap'")
    assert worker.process.returncode is None


# The database


@pytest.mark.slow
async def test_a_database_that_throws_everybody_out_costs_nothing(line, erp, postgres_server):
    connection = await line.protheus(erp)
    orders = []
    async with line.receiver() as hook:
        worker = await line.worker()
        for _ in range(3):
            orders.append(an_order(erp))
            erp.approve(orders[0])
            await said(
                postgres_server,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{line.database_url.rpartition('/')[2].partition('?')[0]}'",
            )
            name = known_as(connection, orders[-1])
            await eventually(lambda name=name: hook.tally.latest.get(name, 0) >= 1, "delivered")
        assert worker.process.returncode is None
        assert hook.tally.out_of_order == 0


@pytest.mark.slow
async def test_a_database_that_is_down_for_a_while_is_waited_for(tmp_path, short_folder, embedded_broker, erp):
    folder = short_folder / "data"
    async with postgres(folder) as url:
        await asyncio.to_thread(migrate, url)
        async with installed(tmp_path, url, embedded_broker.bootstrap) as line, line.receiver() as hook:
            connection = await line.protheus(erp)
            order = an_order(erp)
            name = known_as(connection, order)
            worker = await line.worker()
            await eventually(lambda: hook.tally.latest.get(name) == 1, "before")
            await cut_off(folder)
            erp.approve(order)
            await eventually(lambda: worker.said("leases.unreachable"), "it is missed")
            erp.receive(order, "0001", 10)
            async with postgres(folder) as again:
                assert again == url
                await eventually(lambda: hook.tally.latest.get(name, 0) >= 2, "after")
                assert hook.tally.out_of_order == 0
                assert await worker.stop() == 0
