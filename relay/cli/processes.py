"""`relay up`, `worker`, `api` and `migrate`: the processes of an installation, on a laptop or a cluster."""

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.options import AsJson, Data
from relay.cli.running import run, settings_for_command, settings_for_service, settled, stopping
from relay.cli.shown import document, line
from relay.domain.errors import UserError
from relay.settings import Settings

if TYPE_CHECKING:
    from relay.app.standing import Parts
    from relay.app.working import Worker

RUN = "Run"
"""The group of these commands in `relay --help`."""
SOCKET = "relay.sock"
"""Where `relay up` serves this machine's administrators, in its data directory."""


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, worker, api, migrate):
        app.command(command.__name__, rich_help_panel=RUN)(command)


def up(
    *,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of API and health; 0: any (default: RELAY_HTTP__PORT, or 8080)."),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Run everything in this process: worker, PostgreSQL and a Kafka broker.

    PostgreSQL and broker are embedded ones, unless RELAY_DATABASE__URL or RELAY_KAFKA__BOOTSTRAP name others. Ctrl-C
    stops when what is in flight is done; a second one ends at once.
    """
    settings = settings_for_service(data)
    if port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})
    run(_up(settings, as_json=as_json))


def worker() -> None:
    """Run one worker on the database and broker that the environment names; start more, and they share the work."""
    settings = settings_for_service(None)
    database_url, bootstrap = _named(settings)
    run(_worker(settings, database_url, bootstrap))


def api() -> None:
    """Serve the control API, health, metrics, the event catalogue, public keys, and the events that receivers pull."""
    settings = settings_for_service(None)
    database_url, bootstrap = _named(settings)
    run(_api(settings, database_url, bootstrap))


def migrate(*, data: Data = None, as_json: AsJson = False) -> None:
    """Bring the database's tables up to date; safe to run again, and from several places at once."""
    settings = settings_for_command(data)
    run(_migrate(settings))
    if as_json:
        document({"migrated": True})
    else:
        line("the database is up to date")


async def _up(settings: Settings, *, as_json: bool) -> None:
    from relay.app.standing import data_directory, parts
    from relay.app.working import worker

    if not as_json:
        line(f"starting; data in {settings.data.expanduser().absolute()}")
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stopping())
        standing_on = await stack.enter_async_context(parts(settings))
        socket = data_directory(settings) / SOCKET
        running = await stack.enter_async_context(worker(settings, standing_on, socket))
        _tell_where(settings, standing_on, running, as_json=as_json)
        settled()
        await running.run(stop)


def _tell_where(settings: Settings, standing_on: "Parts", running: "Worker", *, as_json: bool) -> None:
    from relay.wire.kafka import Topics

    topics = Topics(settings.kafka.prefix)
    if as_json:
        told = {"kafka": standing_on.bootstrap, "changes": topics.changes, "state": topics.state}
        told |= {"dead_letters": topics.dead_letters, "operations": topics.operations, "http": running.health}
        document({**told, "data": str(settings.data.expanduser().absolute())})
        return
    line(f"Kafka          {standing_on.bootstrap}")
    line(f"changes        {topics.changes}")
    line(f"state          {topics.state}")
    line(f"dead letters   {topics.dead_letters}")
    line(f"notices        {topics.operations}")
    line(f"health         {running.health}/health/ready")
    line(f"metrics        {running.health}/metrics")
    line(f"control API    {running.health}/v1/ (keys: relay operators add)")
    line("connections    relay connections add CONNECTOR --customer CUSTOMER ... (see `relay connectors`)")
    line("endpoints      relay endpoints add --customer CUSTOMER --name NAME --url URL")


def _named(settings: Settings) -> tuple[str, str]:
    missing = [
        name
        for name, value in (
            ("RELAY_DATABASE__URL", settings.database.url),
            ("RELAY_KAFKA__BOOTSTRAP", settings.kafka.bootstrap),
        )
        if value is None
    ]
    if settings.database.url is None or settings.kafka.bootstrap is None:
        raise UserError(f"{' and '.join(missing)} must be set; on one machine `relay up` brings both along")
    return settings.database.url.get_secret_value(), settings.kafka.bootstrap


async def _worker(settings: Settings, database_url: str, bootstrap: str) -> None:
    from relay.app.standing import Parts
    from relay.app.working import worker

    async with stopping() as stop, worker(settings, Parts(database_url, bootstrap)) as running:
        settled()
        await running.run(stop)


async def _api(settings: Settings, database_url: str, bootstrap: str) -> None:
    from relay.app.serving import http
    from relay.app.standing import kafka_access
    from relay.wire.kafka import probe

    access = kafka_access(settings, bootstrap)

    async def broker_answers() -> None:
        await probe(access, deadline=2)

    async with stopping() as stop, http(settings, database_url, {"broker": broker_answers}) as address:
        line(f"control API, health, metrics, catalogue and events to pull at {address}")
        await stop.wait()


async def _migrate(settings: Settings) -> None:
    from relay.app.standing import database_url
    from relay.store.database import migrate as migrated

    async with database_url(settings) as url:
        await asyncio.to_thread(migrated, url)
