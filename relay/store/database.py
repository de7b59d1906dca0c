"""The pool, its transactions, leases guarded in them, migrations, and the line that wakes workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import orjson

from relay.domain.errors import LeaseLost, Unavailable
from relay.store.trouble import cancelled_is_cancelled, checked, mapped
from relay.store.vigilance import watch_over

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from relay.domain.connections import Lease

Answer = TypeVar("Answer")
ATTEMPTS = 4
"""How often a transaction is tried that met another's."""

CLASHES = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
    asyncpg.CheckViolationError,
)
"""What running again cures: a ring of waits, a person who removed a row between our look and our write, or an attempt
on its way to the default partition whose day got a partition of its own meanwhile."""

PROGRAM = "relay"
"""How our sessions are called in PostgreSQL."""
CONNECT_SECONDS = 10
RELEASE_SECONDS = 5
"""How long a rollback may take, and a connection to be fit for its next user, before it is thrown away."""
STANDSTILL = 10.0
"""Seconds after which PostgreSQL ends a transaction that waits for us. None of ours does, unless this process was
stopped, its machine suspended or cut off; and then the worker that took over needs the rows that it holds."""

LEASED_TABLES = ("connections", "endpoints")


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def session(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One connection, statements committed one by one. Raises Unavailable when PostgreSQL is not there."""
        with mapped(), cancelled_is_cancelled():
            connection = await self._pool.acquire()
            try:
                yield connection
            finally:
                # A statement that was cancelled must have ended first, and a lost server never says so.
                await self._pool.release(connection, timeout=RELEASE_SECONDS)

    async def ping(self) -> None:
        """Return when PostgreSQL answers, or raise Unavailable."""
        async with self.session() as connection:
            await connection.execute("SELECT 1")

    async def transact(self, work: "Callable[[PoolConnectionProxy[asyncpg.Record]], Awaitable[Answer]]") -> Answer:
        """`work` in one transaction, run again when it met another's; so it must only touch the database.

        Raises:
            Unavailable: PostgreSQL is not there, or too many write the same rows.
        """
        attempt = 1
        while True:
            try:
                return await self._once(work)
            except CLASHES as error:
                if attempt == ATTEMPTS:
                    raise Unavailable(f"PostgreSQL is too busy: {type(error).__name__}, {ATTEMPTS} times") from error
                attempt += 1

    async def _once(self, work: "Callable[[PoolConnectionProxy[asyncpg.Record]], Awaitable[Answer]]") -> Answer:
        async with self.session() as connection, _transaction(connection):
            return await work(connection)


@asynccontextmanager
async def _transaction(connection: "PoolConnectionProxy[asyncpg.Record]") -> AsyncIterator[None]:
    """One that does not wait for its rollback as long as for a statement: whoever is cancelled is to end."""
    whole = connection.transaction()
    await whole.start()
    try:
        yield
    except BaseException:
        async with asyncio.timeout(RELEASE_SECONDS):
            await whole.rollback()
        raise
    await whole.commit()


async def guard(connection: "PoolConnectionProxy[asyncpg.Record]", table: str, lease: "Lease") -> None:
    """Hold the lease's row until the transaction ends, or raise LeaseLost when another worker has taken it over.

    One writer at a time holds it: with a share of it, two writers that both go on to change the row would wait for
    each other, and for the renewal that waits for both. Foreign keys (KEY SHARE) do not wait for it.
    """
    assert table in LEASED_TABLES
    held = await connection.fetchval(
        f"SELECT 1 FROM {table} WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 FOR NO KEY UPDATE",  # noqa: S608 - asserted
        lease.subject,
        lease.owner,
        lease.epoch,
    )
    if held is None:
        raise LeaseLost(f"{lease.subject}: another worker has taken over")


@asynccontextmanager
async def opened(url: str, *, connections: int = 10, standstill: float = STANDSTILL) -> AsyncIterator[Database]:
    """A database for as long as the block runs.

    Raises:
        Unavailable: nothing answers at `url`, or it refuses the login. The message carries no password.
        UserError: `url` is not one of PostgreSQL.
    """
    with mapped():
        pool = await asyncpg.create_pool(
            checked(url),
            min_size=1,
            max_size=connections,
            init=_prepare,
            connection_class=_Connection,
            command_timeout=60,
            timeout=CONNECT_SECONDS,
            server_settings={
                "application_name": PROGRAM,
                "idle_in_transaction_session_timeout": f"{standstill * 1000:.0f}ms",
            },
        )
    try:
        yield Database(pool)
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)
        pool.terminate()


def migrations() -> Path:
    """Where the steps are that bring the schema up to date."""
    return Path(__file__).parent / "migrations"


def migrate(url: str) -> None:
    """Bring the schema at `url` up to date; safe to run again and from several workers at once. Blocks.

    Raises:
        Unavailable: the database is not there.
        UserError: `url` is not one of PostgreSQL.
    """
    if asyncio.run(_version(checked(url))) == _newest():
        return
    # Here, because with SQLAlchemy they are a third of what a process loads, and most have nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations()))

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS)

    # asyncpg reads the URL itself, as it does for the pool: SQLAlchemy would not understand sslmode and its like.
    config.attributes["connect"] = connect
    with mapped():
        command.upgrade(config, "head")


def _newest() -> str:
    return max(path.name.partition("_")[0] for path in (migrations() / "versions").glob("*.py"))


async def _version(url: str) -> str | None:
    """The migration that the schema at `url` has reached, if any."""
    with mapped():
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
        try:
            version: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            return None
        finally:
            await connection.close()
    return version


@asynccontextmanager
async def _listener(url: str) -> AsyncIterator[asyncpg.Connection]:
    with mapped():
        connection = await asyncpg.connect(checked(url), timeout=CONNECT_SECONDS)
        watch_over(connection)
        try:
            yield connection
        finally:
            connection.terminate()


async def listen(url: str, channels: dict[str, Callable[[str], None]]) -> None:
    """Call `channels[name](payload)` for each NOTIFY, until cancelled; raises Unavailable when the line breaks.

    Each callback is called once with "" at the start: what was said before we listened is then looked for.
    """
    async with _listener(url) as connection:
        broken = asyncio.Event()
        connection.add_termination_listener(lambda *_: broken.set())
        for channel, heard in channels.items():
            await connection.add_listener(channel, lambda _c, _p, _ch, payload, heard=heard: heard(str(payload)))
            heard("")
        await broken.wait()
        raise Unavailable("the database closed the line that wakes this worker")


class _Connection(asyncpg.Connection):
    """A connection that leaves nothing behind when it is given back to the pool.

    Whatever is set or locked here is so for one transaction (SET LOCAL, pg_advisory_xact_lock). asyncpg would have all
    that undone by a question of its own each time: a tenth of what a worker of thousands of endpoints does.
    """

    def get_reset_query(self) -> str:
        return ""


async def _prepare(connection: asyncpg.Connection) -> None:
    watch_over(connection)
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
    )
