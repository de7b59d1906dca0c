"""Opening, migrating, listening: clear errors for every way a database can be away, and never a password."""

import asyncio
import runpy
import socket
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from relay.domain.errors import Unavailable, UserError
from relay.store import database as database_module
from relay.store import vigilance
from relay.store.database import guard, listen, migrate, opened
from relay.store.leases import LeaseStore
from relay.store.standstill import Standstills
from tests.fixtures.line import eventually
from tests.fixtures.postgres import at
from tests.fixtures.store import TTL

CANARY = "canary-5f2e"


async def open_and_ping(url):
    async with opened(url) as database:
        await database.ping()


async def migrate_in_a_thread(url):
    await asyncio.to_thread(migrate, url)


async def hear(url):
    await listen(url, {"relay_leases": lambda _: None})


WAYS = [open_and_ping, migrate_in_a_thread, hear]


@asynccontextmanager
async def refusing(code, message=f"no, not with {CANARY}"):
    """A server that asks for the password and then says `code`, as PostgreSQL would."""

    async def answer(reader, writer):
        while length := int.from_bytes(await reader.readexactly(4)):
            if int.from_bytes((await reader.readexactly(length - 4))[:4]) != 80877103:
                break
            writer.write(b"N")  # TLS is not spoken here
        writer.write(b"R" + (8).to_bytes(4) + (3).to_bytes(4))
        await reader.readexactly(1)
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        fields = b"SFATAL\0" + b"VFATAL\0" + b"C" + code.encode() + b"\0M" + message.encode() + b"\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://relay:{CANARY}@127.0.0.1:{server.sockets[0].getsockname()[1]}/relay"


def shown(error):
    return "".join(traceback.format_exception(error))


# Migrations


def test_migrating_again_changes_nothing(database_url):
    migrate(database_url)


def test_workers_that_start_together_migrate_once(empty_database_url):
    code = "import sys; from relay.store.database import migrate; migrate(sys.argv[1])"
    workers = [
        subprocess.Popen([sys.executable, "-c", code, empty_database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [(worker.communicate(timeout=60)[1], worker.returncode) for worker in workers]
    assert ends == [("", 0)] * 3


async def test_a_migrated_database_is_ready(empty_database_url):
    await migrate_in_a_thread(empty_database_url)
    async with opened(empty_database_url) as database:
        assert await LeaseStore(database, "connections", TTL).share("a") == 0


async def test_options_in_the_url_mean_the_same_to_the_migration(empty_database_url):
    url = empty_database_url + ("&" if "?" in empty_database_url else "?") + "sslmode=prefer&application_name=relay"
    await migrate_in_a_thread(url)
    await open_and_ping(url)


def test_there_is_no_way_back_but_a_backup():
    first = runpy.run_path(str(Path(database_module.__file__).parent / "migrations/versions/0001_straight_line.py"))
    with pytest.raises(NotImplementedError, match="restore a backup"):
        first["downgrade"]()


# Trouble


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("28P01", "PostgreSQL refuses the login of RELAY_DATABASE__URL"),
        ("28000", "PostgreSQL refuses the login of RELAY_DATABASE__URL"),
        ("3D000", "the database named in RELAY_DATABASE__URL does not exist"),
        ("53300", "PostgreSQL takes no work now: TooManyConnectionsError"),
        ("57P03", "PostgreSQL takes no work now: CannotConnectNowError"),
        ("57P01", "PostgreSQL takes no work now: AdminShutdownError"),
        ("08006", "PostgreSQL went away: ConnectionFailureError"),
    ],
)
async def test_a_refusal_is_said_clearly(way, code, says):
    async with refusing(code) as url:
        with pytest.raises(Unavailable, match=says) as caught:
            await asyncio.wait_for(way(url), 20)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_login_shows_no_password_anywhere(way):
    async with refusing("28P01") as url:
        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(way(url), 20)
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_is_not_there_is_said_clearly(way, unused_tcp_port):
    url = f"postgresql://relay:{CANARY}@127.0.0.1:{unused_tcp_port}/relay"
    with pytest.raises(Unavailable, match="PostgreSQL does not answer: is it running") as caught:
        await way(url)
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize("way", WAYS)
async def test_a_database_that_does_not_exist_is_said_clearly(way, postgres_server):
    with pytest.raises(Unavailable, match="the database named in RELAY_DATABASE__URL does not exist"):
        await way(at(postgres_server, "relay_nowhere"))


async def test_a_database_without_tables_says_what_to_run(empty_database_url):
    async with opened(empty_database_url) as database:
        with pytest.raises(Unavailable, match="run `relay migrate`"):
            await LeaseStore(database, "connections", TTL).claim("a", 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"mysql://relay:{CANARY}@host/db", "must begin with postgresql://"),
        ("", "must begin with postgresql://"),
        (f"postgresql://relay:{CANARY}/x@host/db", "write special characters of the password as %40"),
        (f"postgresql://relay:[{CANARY}@host/db", "write special characters of the password as %40"),
        (f"postgresql://relay:{CANARY}@host/db?sslmode=perhaps", "RELAY_DATABASE__URL cannot be used: .*sslmode"),
    ],
)
async def test_a_url_that_is_none_is_refused_without_showing_it(way, url, says):
    with pytest.raises(UserError, match=says) as caught:
        await way(url)
    assert CANARY not in shown(caught.value)


async def test_a_server_that_turned_read_only_is_away(database):
    async with database.session() as connection:
        await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(Unavailable, match="takes no work now: ReadOnlySQLTransactionError"):
            async with database.session() as same_or_other:
                await same_or_other.execute("SET transaction_read_only = on; DELETE FROM workers")


async def test_a_connection_that_breaks_in_the_middle_is_unavailable_and_the_next_one_works(database):
    with pytest.raises(Unavailable):
        async with database.session() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    await database.ping()


async def test_a_bug_is_not_called_an_outage(database):
    with pytest.raises(ZeroDivisionError):
        async with database.session():
            _ = 1 / 0


# The line that wakes workers


async def test_what_is_said_is_heard_and_each_ear_is_rung_once_at_the_start(database_url, database):
    heard = asyncio.Queue()
    listening = asyncio.create_task(
        listen(database_url, {name: (lambda said, name=name: heard.put_nowait((name, said))) for name in ("a", "b")})
    )
    assert [await asyncio.wait_for(heard.get(), 10) for _ in range(2)] == [("a", ""), ("b", "")]
    async with database.session() as connection:
        await connection.execute("NOTIFY b, 'end_1'")
    assert await asyncio.wait_for(heard.get(), 10) == ("b", "end_1")
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_a_broken_line_is_told_to_the_listener(database_url, database):
    ready = asyncio.Event()
    listening = asyncio.create_task(listen(database_url, {"relay_leases": lambda _: ready.set()}))
    await asyncio.wait_for(ready.wait(), 10)
    async with database.session() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
        )
    with pytest.raises(Unavailable, match="closed the line that wakes this worker"):
        await asyncio.wait_for(listening, 10)


async def test_a_process_that_stands_still_in_a_transaction_gives_up_what_it_holds(database_url, world):
    claimed = await world.connection()
    standing, waited = asyncio.Event(), asyncio.Event()

    async def hold(connection):
        await guard(connection, "connections", claimed.lease)
        standing.set()
        await waited.wait()
        await connection.execute("SELECT 1")

    async with opened(database_url, standstill=0.2) as stopped:
        task = asyncio.create_task(stopped.transact(hold))
        await standing.wait()
        await world.sql("UPDATE connections SET problem = 'taken over' WHERE id = $1", claimed.lease.subject)
        waited.set()
        with pytest.raises(Unavailable):
            await task
        await stopped.ping()


async def let_go(url, standing_still, claimed):
    """A session that stands still with the lease's row locked is ended, and others go on."""
    standing, waited = asyncio.Event(), asyncio.Event()

    async def hold(connection):
        await guard(connection, "connections", claimed.lease)
        await standing_still(connection, standing, waited)

    async with opened(url) as stopped, opened(url) as alive:
        task = asyncio.create_task(stopped.transact(hold))
        await standing.wait()
        standstills = Standstills(alive, timedelta(seconds=0.2))
        assert await standstills.end() == 0, "not at once"
        async with asyncio.timeout(10):
            while not await standstills.end():  # noqa: ASYNC110 - the database rings no bell
                await asyncio.sleep(0.02)
            assert [each.lease.subject for each in await LeaseStore(alive, "connections", TTL).claim("other", 1)] == [
                claimed.lease.subject
            ]
        waited.set()
        with pytest.raises(Unavailable):
            await task
        await stopped.ping()


async def test_a_process_that_stands_still_between_preparing_and_binding_gives_up_what_it_holds(database_url, world):
    claimed = await world.connection()
    await world.expire("connections", claimed.lease.subject)

    async def prepare(connection, standing, waited):
        await connection.prepare("SELECT 1")
        standing.set()
        await waited.wait()
        await connection.fetchval("SELECT 1")

    await let_go(database_url, prepare, claimed)


async def test_a_process_that_stands_still_while_it_copies_gives_up_what_it_holds(database_url, world):
    claimed = await world.connection()
    await world.expire("connections", claimed.lease.subject)

    async def copy(connection, standing, waited):
        async def rows():
            standing.set()
            await waited.wait()
            yield b""

        await connection.copy_to_table("workers", source=rows())

    await let_go(database_url, copy, claimed)


async def test_sessions_that_work_or_are_no_relay_are_left_alone(database_url, database):
    other = await asyncpg.connect(database_url)
    await other.execute("BEGIN")
    standstills = Standstills(database, timedelta())
    async with database.session() as connection:
        slow = asyncio.create_task(connection.execute("SELECT pg_sleep(0.3)"))
        while not slow.done():
            assert await standstills.end() == 0
            await asyncio.sleep(0.02)
    assert await other.fetchval("SELECT 1") == 1
    await other.close()


@asynccontextmanager
async def vanishing(url):
    """A way to the database, and an event: while it is not set nothing comes through, and nobody is told."""
    there = asyncio.Event()
    there.set()
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host")

    async def pass_on(reader, writer):
        with suppress(OSError):
            while read := await reader.read(65536):
                await there.wait()
                writer.write(read)
        writer.close()

    async def accept(reader, writer):
        await there.wait()
        if folder:
            theirs, ours = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.{parts.port or 5432}")
        else:
            theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        login = parts.netloc.rpartition("@")[0]
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{login}@127.0.0.1:{port}{parts.path}?sslmode=disable", there
        there.set()


async def in_a_session(database):
    async with database.session() as connection:
        await connection.execute("SELECT 1")
        await asyncio.Event().wait()


async def in_a_transaction(database):
    async def work(connection):
        await connection.execute("SELECT 1")
        await asyncio.Event().wait()

    await database.transact(work)


async def in_a_statement(database):
    async with database.session() as connection:
        await connection.execute("SELECT pg_sleep(60)")


@pytest.mark.parametrize("hold", [in_a_session, in_a_transaction, in_a_statement])
async def test_who_is_cancelled_ends_soon_although_the_server_vanished_and_the_pool_goes_on(
    database_url, monkeypatch, hold
):
    monkeypatch.setattr(database_module, "RELEASE_SECONDS", 0.3)
    async with vanishing(database_url) as (url, there), opened(url, connections=1) as database:
        task = asyncio.create_task(hold(database))
        await eventually(lambda: database._pool.get_idle_size() == 0)
        await asyncio.sleep(0.2)
        there.clear()
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task
            there.set()
            await database.ping()


async def test_the_kernel_watches_over_connections_by_tcp(database_url):
    async with vanishing(database_url) as (url, _), opened(url) as database, database.session() as connection:
        watched = connection._con._transport.get_extra_info("socket")
        assert watched.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == vigilance.UNANSWERED * 1000
        assert watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == vigilance.IDLE
