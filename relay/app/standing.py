"""Standing: what a process stands on, as its settings say: database, broker, master keys, the rules of egress.

parts(settings) -> Parts      database and broker: the given ones, or embedded ones for as long as the block runs
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from relay.domain.egress import Policy, networks, ports, proxy
from relay.domain.errors import UserError
from relay.embedded import broker, postgres
from relay.settings import Settings
from relay.store.database import migrate
from relay.vault.masters import MasterKeys
from relay.vault.sources import Sources, master_keys
from relay.vault.transit import TransitAccess
from relay.wire.kafka import KafkaAccess


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker stands on."""

    database_url: str
    bootstrap: str


def data_directory(settings: Settings) -> Path:
    """Where the embedded parts keep their data, made when it is not there."""
    path = settings.data.expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"the data directory {path} cannot be made: {error.strerror}. Set RELAY_DATA") from None
    return path


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncIterator[str]:
    """The given database, or the embedded one for as long as the block runs."""
    if settings.database.url:
        yield settings.database.url.get_secret_value()
        return
    async with postgres(data_directory(settings) / "postgres") as url:
        yield url


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """Database (migrated) and broker: the given ones, or embedded ones for as long as the block runs."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_url(settings))
        await asyncio.to_thread(migrate, url)
        bootstrap = settings.kafka.bootstrap
        if bootstrap is None:
            running = await stack.enter_async_context(broker(data_directory(settings) / "broker"))
            bootstrap = running.bootstrap
        yield Parts(url, bootstrap)


def masters(settings: Settings) -> MasterKeys:
    """The master keys: from the environment, a file, a KMS, or (with the embedded database) a file made here.

    Raises:
        KeyTrouble: none is given, or what is given is not a key.
    """
    given = settings.vault
    kms = None
    if given.kms_url:
        kms = TransitAccess(
            url=given.kms_url,
            mount=given.kms_mount,
            token=given.kms_token.get_secret_value() if given.kms_token else "",
            token_file=given.kms_token_file,
            namespace=given.kms_namespace,
            ca_file=given.kms_ca_file,
            timeout=given.kms_timeout.total_seconds(),
        )
    return master_keys(
        Sources(
            text=given.master_key.get_secret_value() if given.master_key else None,
            file=given.master_key_file,
            own=data_directory(settings) / "master.key" if settings.database.url is None else None,
            kms=kms,
            kms_key=given.kms_key,
            current=given.current,
            remember=given.kms_remember,
        )
    )


def egress(settings: Settings) -> Policy:
    """Where webhooks may go. Without a database of one's own this is a laptop, and the receivers are on it, too."""
    given = settings.egress
    return Policy(
        allow=networks(given.allow),
        deny=networks(given.deny),
        ports=ports(given.ports),
        allow_private=given.private or settings.database.url is None,
        proxy=proxy(given.proxy.get_secret_value(), resolves=given.proxy_resolves) if given.proxy else None,
    )


def kafka_access(settings: Settings, bootstrap: str) -> KafkaAccess:
    """How to reach the brokers."""
    kafka = settings.kafka
    return KafkaAccess(
        bootstrap=bootstrap,
        security_protocol=kafka.protocol,
        sasl_mechanism=kafka.mechanism,
        sasl_username=kafka.username or "",
        sasl_password=kafka.password.get_secret_value() if kafka.password else "",
        ca_file=kafka.ca_file,
    )
