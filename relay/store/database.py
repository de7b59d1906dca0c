"""The pool, its transactions, and the one place where asyncpg's errors become ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import orjson
from alembic import command
from alembic.config import Config

from relay.domain.errors import LeaseLost, Unavailable, UserError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from relay.domain.connections import Lease

Answer = TypeVar("Answer")
ATTEMPTS = 4
"""Transactions that met a deadlock are run again this often: PostgreSQL says that running again is the cure."""

LEASED_TABLES = ("connections", "endpoints")


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def session(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One connection, statements committed one by one. Raises Unavailable when PostgreSQL is not there."""
        with _mapped():
            async with self._pool.acquire() as connection:
                yield connection

    async def ping(self) -> None:
        """Return when PostgreSQL answers, or raise Unavailable."""
        async with self.session() as connection:
            await connection.execute("SELECT 1")

    async def transact(self, work: "Callable[[PoolConnectionProxy[asyncpg.Record]], Awaitable[Answer]]") -> Answer:
        """`work` in one transaction, run again when it met a deadlock; so it must only touch the database."""
        for _ in range(ATTEMPTS - 1):
            with suppress(asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                return await self._once(work)
        return await self._once(work)

    async def _once(self, work: "Callable[[PoolConnectionProxy[asyncpg.Record]], Awaitable[Answer]]") -> Answer:
        async with self.session() as connection, connection.transaction():
            return await work(connection)


async def guard(connection: "PoolConnectionProxy[asyncpg.Record]", table: str, lease: "Lease") -> None:
    """Hold the lease's row until the transaction ends, or raise LeaseLost when another worker has taken it over."""
    assert table in LEASED_TABLES
    held = await connection.fetchval(
        f"SELECT 1 FROM {table} WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3 FOR SHARE",  # noqa: S608 - asserted
        lease.subject,
        lease.owner,
        lease.epoch,
    )
    if held is None:
        raise LeaseLost(f"{lease.subject}: another worker has taken over")


@asynccontextmanager
async def opened(url: str, *, connections: int = 10) -> AsyncIterator[Database]:
    """A database for as long as the block runs.

    Raises:
        Unavailable: nothing answers at `url`, or it refuses the login. The message carries no password.
    """
    with _mapped():
        pool = await asyncpg.create_pool(url, min_size=1, max_size=connections, init=_prepare, command_timeout=60)
    try:
        yield Database(pool)
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)
        pool.terminate()


def migrate(url: str) -> None:
    """Bring the schema at `url` up to date; safe to run again and from several workers at once. Blocks.

    Raises:
        Unavailable: the database is not there.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"}:
        raise UserError("RELAY_DATABASE__URL must begin with postgresql://")
    config.attributes["url"] = f"postgresql+asyncpg://{rest}"
    with _mapped():
        command.upgrade(config, "head")


@asynccontextmanager
async def _listener(url: str) -> AsyncIterator[asyncpg.Connection]:
    with _mapped():
        connection = await asyncpg.connect(url)
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


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
    )


class _mapped:  # noqa: N801 - reads as a word: `with _mapped()`
    """The one map from asyncpg's errors to ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
                raise Unavailable("PostgreSQL refuses the login of RELAY_DATABASE__URL") from None
            case asyncpg.InvalidCatalogNameError():
                raise Unavailable("the database named in RELAY_DATABASE__URL does not exist") from None
            case asyncpg.UndefinedTableError():
                raise Unavailable("the database has no relay tables yet: run `relay migrate`") from error
            case asyncpg.PostgresConnectionError() | asyncpg.InterfaceError() | asyncpg.CannotConnectNowError():
                raise Unavailable(f"PostgreSQL went away: {type(error).__name__}") from error
            case asyncpg.TooManyConnectionsError() | asyncpg.AdminShutdownError() | asyncpg.CrashShutdownError():
                raise Unavailable(f"PostgreSQL takes no work now: {type(error).__name__}") from error
            case OSError():
                raise Unavailable(
                    "PostgreSQL does not answer: is it running, and is RELAY_DATABASE__URL right?"
                ) from error
            case _:
                return
