"""One child program: started, probed, started again when it dies, stopped.

    spawn -> probe until it answers -> up ... exited -> (wait a little) -> spawn

The kernel ends it with this process where it can (Linux), so a kill -9 of relay leaves nothing behind.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import structlog

from relay.embedded.processes import command_of

_log = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.05, 5.0, 10.0
_PROBE_EVERY = 0.01


@dataclass(slots=True, eq=False)
class Supervised:
    """A child program and its state. `mark` is the word of its command line that no other program has.

    `command` runs in `folder` with exactly the variables of `environment`; what it prints goes to `output`.
    `probe` says whether it answers yet. `inherits` are file descriptors it gets. With `again` False it is
    started once, and once more for each `restart()`.
    """

    name: str
    mark: str
    command: list[str]
    folder: Path
    environment: dict[str, str]
    output: Path
    probe: Callable[[], Awaitable[bool]]
    inherits: tuple[int, ...] = ()
    again: bool = True
    up: asyncio.Event = field(default_factory=asyncio.Event)
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _process: Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the present life, or of the last one."""
        return self._process.pid if self._process else None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the program running inside the block; it is stopped at the end."""
        self._end_leftover()
        supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")
        try:
            yield
        finally:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
            await self._stop()

    async def kill(self) -> None:
        """End the program as kill -9 does, and wait until it is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            await self.exited.wait()

    async def restart(self) -> None:
        """Stop the program and return when it is up again."""
        self._wanted.set()
        await self._stop()
        await self.exited.wait()
        await self.up.wait()

    async def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            started = monotonic()
            try:
                await self._live_once()
            except OSError as error:  # no memory or no process table for a fork now
                _log.warning("program.refused", program=self.name, reason=str(error))
                self.exited.set()
            if not self.again:
                await self._wanted.wait()
            self._wanted.clear()
            pause = _FIRST_PAUSE if monotonic() - started > _LONG_LIFE else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _live_once(self) -> None:
        with self.output.open("wb") as output:  # only the last life is kept
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.inherits,
                start_new_session=True,  # Ctrl-C is for relay, which stops its children in order
            )
        self._pid_file.write_text(str(self._process.pid))
        probing = asyncio.create_task(self._announce(self._process.pid))
        try:
            code = await self._process.wait()
        finally:
            probing.cancel()
        self.up.clear()
        self.exited.set()
        if not self._wanted.is_set():
            _log.warning("program.exited", program=self.name, pid=self._process.pid, code=code)

    async def _announce(self, pid: int) -> None:
        started = monotonic()
        while not await self.probe():  # noqa: ASYNC110 - a program of others tells nobody when it is ready
            await asyncio.sleep(_PROBE_EVERY)
        self.exited.clear()
        self.up.set()
        _log.info("program.started", program=self.name, pid=pid, seconds=round(monotonic() - started, 3))

    @property
    def _pid_file(self) -> Path:
        return self.output.with_suffix(".pid")

    def _end_leftover(self) -> None:
        """Kill the child of a relay that was killed where the kernel does not do it (macOS)."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pid_file.read_text())
            if self.mark in command_of(pid):
                os.kill(pid, signal.SIGKILL)

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            # On a busy machine it may have ended in the very moment in which we gave it up.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
