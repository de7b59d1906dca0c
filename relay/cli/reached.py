"""Reached: the relay that a command speaks to, always over its control API.

RELAY_API__URL        another machine's, with an operator key
RELAY_DATABASE__URL   this installation's: the API runs in the command itself, on that database
neither               `relay up` of this machine, by its socket; when it does not run, its database, as above
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from relay.cli.here import socket_here
from relay.client import Client
from relay.client.calls import TIMEOUT
from relay.domain.errors import UserError
from relay.settings import Api, Settings

HERE = "http://relay"


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[Client]:
    """A client for as long as the block runs.

    Raises:
        Unavailable: the database does not answer.
        UserError: a setting cannot be used.
    """
    async with AsyncExitStack() as stack:
        if settings.api.url:
            http = _elsewhere(settings.api)
        elif path := socket_here(settings):
            http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url=HERE, timeout=TIMEOUT)
        else:
            from relay.app.serving import control_here

            transport = httpx.ASGITransport(await stack.enter_async_context(control_here(settings)))
            http = httpx.AsyncClient(transport=transport, base_url=HERE, timeout=None)  # noqa: S113 - no network
        yield Client(await stack.enter_async_context(http))


def _elsewhere(api: Api) -> httpx.AsyncClient:
    assert api.url
    key = api.key.get_secret_value() if api.key else _read(api.key_file)
    try:
        context = ssl.create_default_context(cafile=api.ca_file) if api.ca_file else httpx.create_ssl_context()
    except OSError as error:
        raise UserError(f"RELAY_API__CA_FILE {api.ca_file} cannot be read as PEM: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return httpx.AsyncClient(
        base_url=api.url, headers={"authorization": f"Bearer {key}"}, timeout=TIMEOUT, verify=context
    )


def _read(file: Path | None) -> str:
    if file is None:
        raise UserError("RELAY_API__URL needs a key: set RELAY_API__KEY or RELAY_API__KEY_FILE (`relay operators add`)")
    try:
        return file.expanduser().read_text().strip()
    except OSError as error:
        raise UserError(f"RELAY_API__KEY_FILE {file} cannot be read: {error.strerror}") from None
