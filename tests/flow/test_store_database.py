"""Opening, migrating, listening: clear errors for every way a database can be away, and never a password."""

import asyncio
import runpy
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.domain.errors import Unavailable, UserError
from relay.store import database as database_module
from relay.store.database import guard, listen, migrate, opened
from relay.store.leases import LeaseStore
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
