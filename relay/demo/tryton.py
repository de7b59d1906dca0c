"""A real Tryton to watch: its own process, its own database, its own user's hands.

    async with tryton(cache, data) as erp:
        order = await erp.buyer.order_now([("PAR-M8", 100, "1.25")])
        ...                       # relay reads erp.url, erp.database, erp.username, erp.password

SQLite under a reader and writers, as tried with 2 pollers and 40 orders being confirmed and received at once: Tryton
opens it in WAL mode, so reads never waited and none failed; writers wait for each other (5 s, then Tryton tries again,
`retry` times), and none failed. A login is a write, and one that finds the database locked for 5 s is answered 404, as
if the database did not exist. The statements of one read share no snapshot: an order may be read between two changes.
"""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from relay.demo.tryton_buyer import Buyer, ErpSaidNo, OrderLine
from relay.demo.tryton_install import DATABASE, PASSWORDS, Installation, Say, config, environment, install
from relay.domain.errors import Unavailable

__all__ = ["Buyer", "ErpSaidNo", "Installation", "OrderLine", "Say", "Tryton", "install", "tryton"]

SERVE: Final = Path(__file__).with_name("tryton_serve.py")
CONFIG: Final = "trytond.conf"
START_LIMIT: Final = 60.0
"""Seconds a start may take; about two are usual."""
CALL_LIMIT: Final = 60.0
"""Seconds one of the buyer's calls may take; confirming hundreds of lines takes several."""


@dataclass(slots=True)
class Tryton:
    """A Tryton server: `username` is a buyer for relay to read as, `buyer` the administrator's hands."""

    data: Path
    installation: Installation
    buyer: Buyer
    port: int = 0
    database: str = DATABASE
    username: str = "relay"
    password: str = field(default=PASSWORDS["relay"], repr=False)
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Return the server's address; it stays the same over restarts."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Return the server's process id, or None while it is stopped."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and wait until it answers. Raises Unavailable, naming the log, when it does not."""
        log = self.data / "tryton.log"
        with socket.create_server(("127.0.0.1", self.port), backlog=128) as listening, log.open("ab") as out:
            self.port = listening.getsockname()[1]
            self._process = await asyncio.create_subprocess_exec(
                *(str(self.installation.python), str(SERVE)),
                *(str(self.data / CONFIG), self.database, str(listening.fileno())),
                env=environment(),
                pass_fds=[listening.fileno()],
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=out,
            )
        self.buyer.client.base_url = httpx.URL(self.url)
        hello = {"id": 0, "method": "common.server.version", "params": []}
        try:
            # The socket listens already: this waits in its queue until the server is up, or dies with the server.
            (await self.buyer.client.post("/rpc/", json=hello, timeout=START_LIMIT)).raise_for_status()
        except httpx.HTTPError as error:
            await self.stop()
            raise Unavailable(f"Tryton did not start; what it said is in {log}") from error

    async def stop(self) -> None:
        """Stop the server, as a power cut would: what it has committed stays. Does nothing when it is stopped."""
        process, self._process = self._process, None
        if process and process.returncode is None:
            process.kill()
        if process:
            await process.wait()

    async def restart(self) -> None:
        """Stop and start on the same port; sessions live in the database and stay good."""
        await self.stop()
        await self.start()


@asynccontextmanager
async def tryton(cache: Path, data: Path, say: Say = lambda _: None, *, port: int = 0) -> AsyncIterator[Tryton]:
    """Run an ERP whose database is `data`/erp.sqlite: a fresh one when there is none yet, else the one of last time.

    It listens on 127.0.0.1, on `port` or a free one. Installs Tryton under `cache` first if need be; `say` hears of
    it. The server ends with the block or with this process, whichever is first. Raises UserError when Tryton cannot be
    installed, Unavailable when it does not start.
    """
    installation = await install(cache, say)
    await asyncio.to_thread(_lay_out, data, installation)
    async with httpx.AsyncClient(timeout=CALL_LIMIT) as client:
        erp = Tryton(data, installation, Buyer(client, DATABASE, "admin", PASSWORDS["admin"]), port)
        await erp.start()
        try:
            yield erp
        finally:
            await erp.stop()


def _lay_out(data: Path, installation: Installation) -> None:
    data.mkdir(parents=True, exist_ok=True)
    (data / CONFIG).write_text(config(data.resolve()))
    database = data / f"{DATABASE}.sqlite"
    if not database.exists():
        shutil.copyfile(installation.template, database)
