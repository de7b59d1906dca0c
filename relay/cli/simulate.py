"""`relay simulate`: an ERP to point a connection at, with people working in it when asked.

protheus   a simulated TOTVS Protheus behind real HTTP; forgets everything when it ends
rm         a simulated TOTVS RM behind real HTTP, which can be written to; forgets everything when it ends
tryton     the real Tryton, installed for itself on the first start; keeps its database
"""

import asyncio
import os
import random
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from relay.cli.options import AsJson, Data, Erp
from relay.cli.running import run, settings_for_command, stopping
from relay.cli.shown import document, line, note
from relay.demo.people import ProtheusPeople, RmPeople, TrytonPeople
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from relay.demo.protheus_http import SimulatedProtheus
    from relay.demo.rm_http import SimulatedRm
    from relay.demo.tryton import Tryton

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 5.0
"""Seconds between two changes."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running ERP: settings and login for its connection, and one change by its users."""

    connector: str
    settings: dict[str, Any]
    username: str
    password: str
    change: Callable[[], Awaitable[str]]


Started = Callable[[], AbstractAsyncContextManager[Running]]
"""Starts an ERP for as long as the block runs."""


def simulate(  # noqa: PLR0913 - one per option
    erp: Annotated[Erp, typer.Argument(help="Which ERP.", metavar="protheus|rm|tryton", show_default=False)],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    orders: Annotated[int, typer.Option(min=0, max=100_000, help="Orders to begin with (Protheus, RM).")] = 200,
    changes: Annotated[bool, typer.Option("--changes", help="Make a random change every few seconds.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Start an ERP on this machine and say how to connect to it; Ctrl-C ends it.

    The password is written to a file in the data directory, for --credentials-file.
    """
    from relay.app.standing import data_directory

    home = data_directory(settings_for_command(data)) / "simulated"
    run(_simulate(_started(erp, home, port, orders), home, changes=changes, as_json=as_json))


def _started(erp: Erp, home: Path, port: int, orders: int) -> Started:
    match erp:
        case Erp.PROTHEUS:
            return lambda: _protheus(port, orders)
        case Erp.RM:
            return lambda: _rm(port, orders)
        case Erp.TRYTON:
            return lambda: _tryton(home, port)


async def _simulate(started: Started, home: Path, *, changes: bool, as_json: bool) -> None:
    async with stopping() as stop:
        try:
            async with started() as erp:
                _tell(erp, _written(erp, home), as_json=as_json)
                if changes:
                    people = asyncio.create_task(_work(erp, as_json=as_json))
                    await asyncio.wait({people, asyncio.create_task(stop.wait())}, return_when="FIRST_COMPLETED")
                    if people.done():
                        people.result()
                    people.cancel()
                else:
                    await stop.wait()
        except OSError as error:
            raise UserError(f"the ERP cannot listen there: {error.strerror or error}. Choose another --port") from None


async def _work(erp: Running, *, as_json: bool) -> None:
    while True:
        await asyncio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
        did = await erp.change()
        if not as_json:
            line(did)


def _written(erp: Running, home: Path) -> Path:
    """The file with the login, readable by its owner only."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / f"{erp.connector}-credentials.json"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(orjson.dumps({"username": erp.username, "password": erp.password}))
    return file


def _tell(erp: Running, file: Path, *, as_json: bool) -> None:
    if as_json:
        document(
            {
                "connector": erp.connector,
                "settings": erp.settings,
                "username": erp.username,
                "credentials_file": str(file),
            }
        )
        return
    told = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in erp.settings.items()
    }
    for name, value in told.items():
        line(f"{name:16}{value}")
    line(f"{'user':16}{erp.username}")
    line(f"{'password':16}in {file}")
    pairs = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in told.items())
    line("\nto connect:")
    line(f"  relay connections add {erp.connector} --customer demo {pairs} --credentials-file {shlex.quote(str(file))}")
    note("\nCtrl-C ends it")


@asynccontextmanager
async def _protheus(port: int, orders: int) -> AsyncIterator[Running]:
    from relay.demo.protheus_http import Options, simulated_protheus

    async with simulated_protheus(Options(port=port)) as erp:
        erp.seed(orders)
        yield _as_protheus(erp)


def _as_protheus(erp: "SimulatedProtheus") -> Running:
    # The shortest way in; C7_OBS, which keeps the mark, holds 60 characters in its dictionary.
    writing = {"shape": "eai", "columns": {"C7_OBS": {"length": 60}}}
    settings = {"url": erp.url, "tenant": erp.tenant, "writing": writing}
    return Running("protheus", settings, erp.username, erp.password, ProtheusPeople(erp, random.Random()).change)


@asynccontextmanager
async def _rm(port: int, orders: int) -> AsyncIterator[Running]:
    from relay.demo.rm_http import RmOptions, simulated_rm

    async with simulated_rm(RmOptions(port=port)) as erp:
        erp.seed(orders)
        yield _as_rm(erp)


def _as_rm(erp: "SimulatedRm") -> Running:
    settings = {"url": erp.url, "company": "1", "purchase_types": "1.1.10"}
    return Running("rm", settings, erp.username, erp.password, RmPeople(erp, random.Random()).change)


@asynccontextmanager
async def _tryton(home: Path, port: int) -> AsyncIterator[Running]:
    from relay.demo.tryton import tryton

    async with tryton(home / "tryton-installed", home / "tryton", note, port=port) as erp:
        yield _as_tryton(erp)


def _as_tryton(erp: "Tryton") -> Running:
    settings = {"url": erp.url, "database": erp.database}
    return Running("tryton", settings, erp.username, erp.password, TrytonPeople(erp.buyer, random.Random()).change)
