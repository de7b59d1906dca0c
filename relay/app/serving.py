"""Serving: the control API and the rest of the HTTP side, on a port, a socket, or in this very process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relay.api.app import Check, application
from relay.api.callers import as_local
from relay.api.core import Core
from relay.api.serving import Tls, served, served_locally
from relay.app.standing import database_url, egress, kafka_access, masters
from relay.connectors import CONNECTORS
from relay.control import Control
from relay.control.at_hand import Usual
from relay.domain.errors import Unavailable
from relay.settings import Settings
from relay.stages.admit_command import Limits
from relay.store.database import Database, migrate, opened
from relay.store.keys import KeyStore
from relay.store.log import LogStore
from relay.store.registry import Registry
from relay.vault.vault import Vault
from relay.wire.kafka import probe

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from relay.domain.egress import Proxy

PROXY_WITHIN, PROXY_PORT = 5.0, 80
HTTP_CONNECTIONS = 4
"""Connections to the database that the HTTP side of a process may open."""


@asynccontextmanager
async def wired_control(settings: Settings, url: str) -> AsyncIterator[Control]:
    """What people do, on this database; the master keys are looked for when something is sealed or opened.

    Raises:
        Unavailable: the database does not answer.
    """
    async with opened(url, connections=2) as database, control_on(settings, database) as control:
        yield control


@asynccontextmanager
async def control_on(
    settings: Settings, database: Database, checks: Mapping[str, Check] = MappingProxyType({})
) -> AsyncIterator[Control]:
    """What people do, on this database; `checks` are of the other parts that the installation stands on."""
    async with AsyncExitStack() as stack:

        @cache
        def vault() -> Vault:
            keys = masters(settings)
            stack.push_async_callback(keys.close)
            return Vault(keys, KeyStore(database))

        policy = egress(settings)
        proxy: dict[str, Check] = {"proxy": partial(_proxy_answers, policy.proxy)} if policy.proxy else {}
        yield Control(
            Registry(database),
            vault,
            CONNECTORS,
            policy,
            origin=settings.deliver.origin,
            usual=usual(settings),
            probes={**checks, **proxy},
        )


@asynccontextmanager
async def control_here(settings: Settings) -> "AsyncIterator[ASGIApp]":
    """The control API for this process alone, as this machine's administrator, on the given or the embedded database.

    Raises:
        Unavailable: the database does not answer.
    """
    async with database_url(settings) as url:
        if settings.database.url is None:
            await asyncio.to_thread(migrate, url)
        checks = {"broker": partial(_broker_answers, settings)}
        async with (
            opened(url, connections=HTTP_CONNECTIONS) as database,
            control_on(settings, database, checks) as here,
        ):
            yield as_local(application({}, LogStore(database), Core(here, database, commands=limits(settings))))


async def _proxy_answers(proxy: "Proxy") -> None:
    """That somebody listens there; what it lets through is seen with each endpoint."""
    parts = urlsplit(proxy.url)
    try:
        async with asyncio.timeout(PROXY_WITHIN):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or PROXY_PORT)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the forward proxy {proxy} does not answer: {error or 'no answer in time'}") from None
    writer.close()


async def _broker_answers(settings: Settings) -> None:
    if settings.kafka.bootstrap is None:
        raise Unavailable("the embedded broker runs with `relay up`, and that does not run here")
    await probe(kafka_access(settings, settings.kafka.bootstrap), deadline=5)


@asynccontextmanager
async def http(settings: Settings, url: str, checks: dict[str, Check], local: Path | None = None) -> AsyncIterator[str]:
    """The HTTP side, served until the block ends, with a pool of its own: whoever asks takes nothing from the work.

    Raises:
        Unavailable: the database does not answer.
        UserError: address or certificate cannot be used.
    """
    given = settings.http
    tls = Tls(given.certificate, given.key) if given.certificate and given.key else None
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(url, connections=HTTP_CONNECTIONS))
        control = await stack.enter_async_context(control_on(settings, database, checks))
        core = Core(control, database, rate=given.calls_per_second, commands=limits(settings))
        api = application({"database": database.ping, **checks}, LogStore(database), core)
        if local is not None:
            await stack.enter_async_context(served_locally(api, local))
        yield await stack.enter_async_context(served(api, given.host, given.port, tls))


def limits(settings: Settings) -> Limits:
    """How large commands may be, and how long one waits that does not say."""
    return Limits(settings.commands.largest, settings.commands.expire_after)


def usual(settings: Settings) -> Usual:
    """What endpoints have. Without a database of one's own this is a laptop, where receivers have no certificates."""
    deliver = settings.deliver
    return Usual(deliver.at_once, deliver.deadline, allow_http=deliver.allow_http or settings.database.url is None)
