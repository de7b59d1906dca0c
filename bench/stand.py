"""The stand: embedded parts for the whole run, and for each measurement an installation of its own, empty.

stand() -> installation(endpoints) -> one connection and its endpoints, leased, on a fresh database and fresh topics
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from bench.erp import NAME
from bench.sink import Sink, sink
from relay.app import kafka_access
from relay.domain.connections import Connection, ConnectionId, CustomerId
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.rotation import LiveSecret, written
from relay.embedded import broker, postgres
from relay.ports import Claimed
from relay.runners import Opener
from relay.settings import Settings
from relay.store.database import Database, migrate, opened
from relay.store.leases import LeaseStore
from relay.store.registry import Registry
from relay.vault.keyring import Keyring
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.kafka import Capabilities, KafkaAccess, Topics, probe
from relay.wire.kafka_publisher import Publisher
from relay.wire.kafka_topics import ensure_topics

CUSTOMER = CustomerId("bench")
LEASE = timedelta(hours=1)
"""Longer than any measurement: nothing is renewed meanwhile."""
TEMPLATE = "bench_template"


@dataclass(frozen=True, slots=True)
class Stand:
    """What all measurements stand on."""

    postgres_url: str
    access: KafkaAccess
    capabilities: Capabilities
    sink: Sink
    settings: Settings
    vault: Vault = field(repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """One empty relay: its database and topics, a connection and endpoints under lease."""

    stand: Stand
    url: str
    database: Database
    topics: Topics
    publisher: Publisher
    opener: Opener
    connection: Claimed
    endpoints: list[Claimed]


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """PostgreSQL, broker and receiver, each in its own processes, with data in `folder` for as long as the block runs.

    They are the embedded ones with relay's own settings, whatever the environment says.
    """
    settings = Settings.model_construct()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(postgres(folder / "postgres"))
        await _say(server, f"CREATE DATABASE {TEMPLATE}")
        await asyncio.to_thread(migrate, _at(server, TEMPLATE))
        running = await stack.enter_async_context(broker(folder / "broker"))
        access = kafka_access(settings, running.bootstrap)
        capabilities = await probe(access)
        receiving = await stack.enter_async_context(sink())
        key = base64.b64encode(os.urandom(32)).decode()
        yield Stand(server, access, capabilities, receiving, settings, Vault(Keyring.from_text(f"bench:{key}")))


@asynccontextmanager
async def installation(on: Stand, *, endpoints: int, at_once: int) -> AsyncIterator[Installation]:
    """A fresh relay with so many endpoints, gone when the block ends."""
    name = f"bench_{os.urandom(6).hex()}"
    await _say(on.postgres_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        async with AsyncExitStack() as stack:
            url = _at(on.postgres_url, name)
            database = await stack.enter_async_context(opened(url, connections=on.settings.database.connections))
            topics = Topics(name)
            await _make_topics(on, topics)
            publisher = Publisher(on.access, on.capabilities, deadline=on.settings.kafka.timeout.total_seconds())
            stack.push_async_callback(publisher.stop)
            registry = Registry(database)
            await _register(on, registry, endpoints, at_once)
            yield Installation(
                stand=on,
                url=url,
                database=database,
                topics=topics,
                publisher=publisher,
                opener=Opener(on.vault, registry.customer_key),
                connection=(await LeaseStore(database, "connections", LEASE).claim("bench", 1))[0],
                endpoints=await LeaseStore(database, "endpoints", LEASE).claim("bench", endpoints),
            )
    finally:
        await _say(on.postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


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


async def _register(on: Stand, registry: Registry, endpoints: int, at_once: int) -> None:
    key = await registry.customer_key(CUSTOMER, on.vault.new_customer_key(CUSTOMER))

    def sealed(subject: str, purpose: Purpose, secret: bytes) -> bytes:
        return on.vault.seal(key, Place(CUSTOMER, subject, purpose), secret)

    subject = ConnectionId("con_bench")
    credentials = sealed(subject, Purpose.CREDENTIALS, b"{}")
    await registry.add_connection(Connection(subject, CUSTOMER, "erp", NAME, {}, sealed=credentials))
    for number in range(endpoints):
        end = EndpointId(f"end_{number:02}")
        secret = sealed(end, Purpose.SIGNING_SECRET, written([LiveSecret(on.sink.secret)]))
        url = f"{on.sink.url}{number}"
        await registry.add_endpoint(Endpoint(end, CUSTOMER, f"hook{number}", url, at_once=at_once, sealed=secret))


async def _say(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _at(url: str, name: str) -> str:
    """`url` with another database's name."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
