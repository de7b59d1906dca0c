"""Commands on the whole line: kept once, told on a topic and as webhooks, and junk is a dead letter."""

import asyncio
import os

import orjson
import pytest
from confluent_kafka import Producer

from relay.domain.commands import command_key
from relay.store.command_list import CommandList
from tests.fixtures.line import PATIENCE, RELAY, eventually

pytestmark = pytest.mark.timeout(180)
CLOUDEVENT = [("ce_specversion", b"1.0"), ("ce_source", b"/portal")]
NOBODY = {"url": "http://127.0.0.1:9", "tenant": "99,01"}


def cancel(command_id="c1", connection="con_erp", remote_id="p1", **more):
    return {"type": "cancel", "command_id": command_id, "connection_id": connection, "remote_id": remote_id, **more}


def send(line, *messages):
    """(value, key, headers) onto the commands topic, in this order, in one partition."""
    producer = Producer({"bootstrap.servers": line.bootstrap})
    for value, key, headers in messages:
        body = value if isinstance(value, bytes) else orjson.dumps(value)
        producer.produce(line.topic("commands"), body, key, partition=0, headers=headers)
    assert producer.flush(30) == 0


@pytest.fixture
async def paused(line):
    """A connection that nobody executes commands for."""
    name = await line.connect(settings=NOBODY, credentials={"username": "u", "password": "p"})
    await line.control.pause_connection(name)
    return name


async def ready(line, **settings):
    """A worker that has made the topics and reads them."""
    worker = await line.worker(**settings)
    await eventually(lambda: worker.said("worker.started"), "the worker")
    return worker


async def told(line, most):
    return await asyncio.to_thread(line.consume, "command-results", until=lambda records: len(records) >= most)


async def test_a_command_is_told_as_accepted_and_as_expired_on_the_topic_and_by_webhook(line, paused):
    listed = CommandList(line.registry.database)
    async with line.receiver() as hook, line.receiver(name="changes", event_types=("purchase_order.updated",)) as other:
        worker = await ready(line, RELAY_COMMANDS__EXPIRE_AFTER="3s")
        headers = [*CLOUDEVENT, ("ce_id", b"c2"), ("ce_type", b"purchase_order.command.cancel")]
        bare = {"connection_id": paused, "remote_id": "p2"}
        send(line, (cancel(), f"{paused}|p1", None), (bare, f"{paused}|p2", headers), (cancel(), None, None))
        await eventually(lambda: hook.tally.unique == 4, "all results")
        assert (hook.tally.out_of_order, hook.tally.refused, other.tally.unique) == (0, 0, 0)
        assert await worker.stop() == 0
    records = await told(line, 4)
    ours = [record for record in records if record.key() == f"{paused}|p1".encode()]
    assert [dict(record.headers())["ce_type"] for record in ours] == [
        b"purchase_order.command_accepted",
        b"purchase_order.command_expired",
    ]
    assert [orjson.loads(record.value())["data"]["command_id"] for record in ours] == ["c1", "c1"]
    row = await listed.command("c2", paused)
    assert (row["id"], row["outcome"]) == (command_key(paused, "c2"), "expired")
    dead = await asyncio.to_thread(line.consume, "dead-letters", until=lambda found: len(found) >= 2)
    assert {record.value() for record in dead} == {orjson.dumps(cancel()), orjson.dumps(bare)}
    assert {dict(record.headers())["relay-reason"] for record in dead} == {b"expired"}
    assert {record.key() for record in dead} == {f"{paused}|p1".encode(), f"{paused}|p2".encode()}


async def test_junk_of_every_kind_ends_as_dead_letters_byte_for_byte_in_its_order(line, paused):
    worker = await ready(line)
    junk = [
        (b"\xff\xfe\x00", b"\xff", [("mine", b"\xfe"), ("mine", None)]),
        (b"{", b"k", None),
        (os.urandom(300_000), None, None),
        (cancel(command_id=""), None, None),
        (cancel(connection="con_none"), None, None),
        (cancel(), b"p1", None),
        (cancel(), None, [*CLOUDEVENT, ("ce_id", b"1"), ("ce_type", b"purchase_order.updated")]),
        (cancel("good"), None, None),
        (cancel("good", reason="another"), None, None),
    ]
    send(line, *junk)
    dead = await asyncio.to_thread(line.consume, "dead-letters", until=lambda records: len(records) >= 8)
    dead.sort(key=lambda record: int(dict(record.headers())["relay-original-offset"]))
    assert [dict(record.headers())["relay-reason"].decode() for record in dead] == [
        "unreadable",
        "unreadable",
        "too_large",
        "no_command_id",
        "unknown_connection",
        "wrong_key",
        "unknown_type",
        "reused_id",
    ]
    bodies = [value if isinstance(value, bytes) else orjson.dumps(value) for value, _, _ in junk]
    assert [record.value() for record in dead] == [*bodies[:7], bodies[8]]
    assert dead[0].headers()[:2] == [("mine", b"\xfe"), ("mine", None)]
    assert await worker.stop() == 0


async def test_dead_letters_are_listed_and_sent_again_and_an_expired_command_gets_a_new_time(line, paused):
    worker = await ready(line)
    late = cancel("late", expires_at="2020-01-01T00:00:00Z")
    send(line, (cancel("c1", connection="con_later"), None, [("mine", b"\xff")]), (late, f"{paused}|p1", None))
    dead = await asyncio.to_thread(line.consume, "dead-letters", until=lambda records: len(records) >= 2)

    async def relay(*arguments):
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(
            RELAY, "dead-letters", *arguments, "--json", env=line.environment, **pipes
        )
        output, error = await process.communicate()
        return process.returncode, orjson.loads(output or error)

    code, listed = await relay("list")
    assert (code, {each["reason"] for each in listed}) == (0, {"unknown_connection", "expired"})
    assert {each["bytes"] for each in listed} == {len(record.value()) for record in dead}
    code, counted = await relay("redrive", "--dry-run")
    assert (code, counted["redriven"], counted["dry_run"]) == (0, 2, True)
    code, refused = await relay("redrive")
    assert (code, "--expires-in" in str(refused)) == (2, True)

    await line.connect(settings=NOBODY, credentials={"username": "u", "password": "p"}, name="later")
    code, sent = await relay("redrive", "--expires-in", "1h")
    assert (code, sent["redriven"]) == (0, 2)
    await eventually(lambda: sum(each["accepted"] for each in worker.said("commands.taken")) == 2, "both")
    shown = await CommandList(line.registry.database).commands(paused)
    assert [each["command_id"].partition("~")[0] for each in shown] == ["late", "late"]
    assert [each["outcome"] for each in shown] == [None, "expired"]
    code, again = await relay("redrive", "--expires-in", "1h")
    assert (code, again["redriven"], again["before"]) == (0, 0, 2)
    async with line.registry.database.session() as session:
        assert await session.fetchval("SELECT count(*) FROM audit WHERE action = 'redrive dead letters'") == 3
    assert await worker.stop() == 0


async def test_workers_that_are_killed_while_they_take_commands_lose_and_repeat_nothing(line, paused):
    most = 3000
    assert await (await ready(line)).stop() == 0
    send(line, *((cancel(f"c{n}", remote_id=f"p{n}"), None, None) for n in range(most)))
    for _ in range(2):
        worker = await line.worker()
        await eventually(lambda worker=worker: worker.said("commands.taken"), "a batch")
        worker.kill()
        await worker.ended()
    last = await line.worker()
    await eventually(lambda: last.said("commands.taken"), "the rest")
    relayed = "SELECT count(*) FROM outbox WHERE stream = 'command-results' AND state = 'relayed'"
    async with line.registry.database.session() as session, asyncio.timeout(PATIENCE):
        while await session.fetchval(relayed) < most:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        assert await session.fetchval("SELECT count(*) FROM commands") == most
        assert await session.fetchval("SELECT count(*) FROM outbox") == most
        assert await session.fetchval("SELECT count(*) FROM audit WHERE caller_kind = 'kafka'") == most
    records = await asyncio.to_thread(line.everything, "command-results")
    assert {record.key() for record in records} == {f"{paused}|p{n}".encode() for n in range(most)}
    assert len({dict(record.headers())["ce_id"] for record in records}) == most
    assert await last.stop() == 0
