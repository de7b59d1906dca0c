"""The stand: embedded parts for the whole run, and for each measurement an installation of its own, empty.

stand() -> ground(endpoints)        a fresh database with endpoints, for workers that are processes of their own
        -> installation(endpoints)  the same, with topics, its connection leased to this process
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench import processes
from bench.erp import NAME
from bench.sink import HANG, Sink, sink
from relay.app.standing import kafka_access
from relay.domain.connections import Connection, ConnectionId, CustomerId
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.rotation import LiveSecret, written
from relay.domain.signing import new_secret
from relay.embedded import broker, postgres
from relay.ports import Claimed
from relay.settings import Settings
from relay.store.database import Database, migrate, opened
from relay.store.keys import KeyStore
from relay.store.leases import LeaseStore
from relay.store.registry import Registry
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault
from relay.wire.kafka import Capabilities, KafkaAccess, Topics, probe
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import ensure_topics

CUSTOMER = CustomerId("bench")
CONNECTION = ConnectionId("con_bench")
LEASE = timedelta(hours=1)
"""Longer than any measurement: nothing is renewed meanwhile."""
TEMPLATE = "bench_template"
DEADLINE = timedelta(seconds=15)
AT_A_TIME = 1000

# Column by column of the first one, whatever columns there are: thousands of registrations would take too long.
COLUMNS = """
    SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
CLONES = """
    INSERT INTO {table} ({columns})
    SELECT {made} FROM (
        SELECT jsonb_populate_record(first, to_jsonb(row)) AS made
        FROM {table} AS first, unnest({values}) AS row({names}) WHERE first.id = $1
    ) AS rows
"""
NUMBERS = "INSERT INTO endpoint_numbers (endpoint_id, last) SELECT id, 0 FROM endpoints ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Stand:
    """What all measurements stand on. `postmaster` is PostgreSQL's first process."""

    folder: Path
    postgres_url: str
    postmaster: int
    access: KafkaAccess
    capabilities: Capabilities
    sink: Sink
    settings: Settings
    master_key: str = field(repr=False)

    def vault(self, database: Database) -> Vault:
        return Vault(MasterKeys.of(Keyring.from_text(self.master_key)), KeyStore(database))

    def postgres_pids(self) -> list[int]:
        """PostgreSQL's processes, as they are now."""
        return processes.family(self.postmaster)


@dataclass(frozen=True, slots=True)
class Ends:
    """The endpoints of an installation: how many, and what they are like. `hanging`: so many never answer."""

    count: int
    at_once: int
    tls: bool = False
    hanging: int = 0
    deadline: timedelta = DEADLINE

    def id(self, number: int) -> EndpointId:
        return EndpointId(f"end_{number:05}")

    def url(self, receiver: Sink, number: int) -> str:
        path = f"{HANG}/{number}" if self.hangs(number) else str(number)
        return f"{receiver.tls_url if self.tls else receiver.url}{path}"

    def hangs(self, number: int) -> bool:
        """Spread evenly."""
        return bool(self.hanging) and number % (self.count // self.hanging) == 0

    @property
    def healthy(self) -> list[int]:
        return [number for number in range(self.count) if not self.hangs(number)]


@dataclass(frozen=True, slots=True)
class Ground:
    """A fresh database with a connection and endpoints. `name` is its own, and begins its topics' names."""

    stand: Stand
    name: str
    url: str
    database: Database
    ends: Ends


@dataclass(frozen=True, slots=True)
class Installation:
    """One empty relay: its database and topics, and a connection that is leased to this process."""

    ground: Ground
    topics: Topics
    publisher: Publisher
    vault: Vault
    connection: Claimed

    @property
    def stand(self) -> Stand:
        return self.ground.stand

    @property
    def database(self) -> Database:
        return self.ground.database


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """PostgreSQL, broker and receiver, each in its own processes, with data in `folder` for as long as the block runs.

    They are the embedded ones with relay's own settings, whatever the environment says.
    """
    settings = Settings.model_construct()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(postgres(folder / "postgres"))
        await say(server, f"CREATE DATABASE {TEMPLATE}")
        await asyncio.to_thread(migrate, _at(server, TEMPLATE))
        running = await stack.enter_async_context(broker(folder / "broker"))
        access = kafka_access(settings, running.bootstrap)
        yield Stand(
            folder=folder,
            postgres_url=server,
            postmaster=await _postmaster(server),
            access=access,
            capabilities=await probe(access),
            sink=await stack.enter_async_context(sink(folder, new_secret(os.urandom(32)))),
            settings=settings,
            master_key=f"bench:{base64.b64encode(os.urandom(32)).decode()}",
        )


@asynccontextmanager
async def ground(on: Stand, ends: Ends) -> AsyncIterator[Ground]:
    """A fresh database, gone when the block ends."""
    name = f"bench_{os.urandom(6).hex()}"
    await say(on.postgres_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        url = _at(on.postgres_url, name)
        async with opened(url, connections=on.settings.database.connections) as database:
            at = Ground(on, name, url, database, ends)
            await _register(at)
            yield at
    finally:
        await say(on.postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def installation(on: Stand, ends: Ends) -> AsyncIterator[Installation]:
    """A fresh relay, its connection leased to this process, gone when the block ends."""
    async with ground(on, ends) as at, AsyncExitStack() as stack:
        topics = Topics(at.name)
        await _make_topics(on, topics)
        publisher = Publisher(on.access, on.capabilities, deadline=on.settings.kafka.timeout.total_seconds())
        stack.push_async_callback(publisher.stop)
        yield Installation(
            ground=at,
            topics=topics,
            publisher=publisher,
            vault=on.vault(at.database),
            connection=(await LeaseStore(at.database, "connections", LEASE).claim("bench", 1))[0],
        )


async def say(url: str, statement: str) -> None:
    """Say this to PostgreSQL, outside of any transaction."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _postmaster(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return processes.parent(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


async def _make_topics(on: Stand, topics: Topics) -> None:
    kafka = on.settings.kafka
    await ensure_topics(
        on.access,
        on.capabilities,
        topics,
        partitions=kafka.partitions,
        replication=kafka.replication,
        retention=kafka.retention,
    )


async def _register(at: Ground) -> None:
    registry, ends, receiver, vault = Registry(at.database), at.ends, at.stand.sink, at.stand.vault(at.database)

    async def sealed(subject: str, purpose: Purpose, secret: bytes) -> bytes:
        return await vault.seal(Place(CUSTOMER, subject, purpose), secret)

    credentials = await sealed(CONNECTION, Purpose.CREDENTIALS, b"{}")
    await registry.add_connection(Connection(CONNECTION, CUSTOMER, "erp", NAME, {}, sealed=credentials))
    rows = [
        (end, f"hook{number}", ends.url(receiver, number), await sealed(end, Purpose.SIGNING_SECRET, secret))
        for number in range(ends.count)
        for end, secret in [(ends.id(number), written([LiveSecret(receiver.secret)]))]
    ]
    first, name, url, secret = rows[0]
    await registry.add_endpoint(
        Endpoint(first, CUSTOMER, name, url, at_once=ends.at_once, deadline=ends.deadline, sealed=secret)
    )
    async with at.database.session() as connection:
        own = {"id": "text", "name": "text", "url": "text", "sealed": "bytea"}
        await inserted(connection, await copy_of(connection, "endpoints", own), first, rows[1:])
        await connection.execute(NUMBERS)


async def copy_of(connection: Any, table: str, own: Mapping[str, str]) -> str:
    """The statement that copies the row of id $1, with columns of its own from the arrays that follow."""
    columns = [row[0] for row in await connection.fetch(COLUMNS, table)]
    return CLONES.format(
        table=table,
        columns=", ".join(columns),
        made=", ".join(f"(made).{each}" for each in columns),
        values=", ".join(f"${place}::{kind}[]" for place, kind in enumerate(own.values(), 2)),
        names=", ".join(own),
    )


async def inserted(connection: Any, statement: str, first: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Copy the first row once for each of these."""
    for start in range(0, len(rows), AT_A_TIME):
        await connection.execute(statement, first, *map(list, zip(*rows[start : start + AT_A_TIME], strict=True)))


def _at(url: str, name: str) -> str:
    """`url` with another database's name."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
