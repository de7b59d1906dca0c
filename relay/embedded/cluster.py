"""A PostgreSQL cluster in a folder: made by initdb, started and stopped by pg_ctl, reached over its socket.

    cluster.new -> cluster (a rename: half a cluster is none) -> running -> stopped

A server that runs already is used as it is, whoever started it.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import structlog

from relay.domain.errors import Unavailable, UserError
from relay.embedded import child, keeper
from relay.embedded.processes import command_of, exists

START_WITHIN = 120
"""Seconds a start may take: after a crash the server first replays its log."""

_log = structlog.get_logger(__name__)

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "io_method": "sync",  # three processes fewer; nothing here reads enough to want them
    "wal_level": "minimal",  # no replicas
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers": "0",
    "jit": "off",
    "log_checkpoints": "off",
}
_LONGEST_SOCKET_FOLDER = 80  # bytes; a socket's whole path may have 103 on macOS and 107 on Linux
_LONGEST_LOG = 10 * 1024 * 1024
_STATUS_LINE, _READY = 7, "ready"  # of postmaster.pid, from 0
_ORPHANS_GONE_WITHIN = 10.0
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Server:
    """The server of one folder: the folder of its programs, and as whom they run (uid, gid; None: as this user)."""

    home: Path
    binaries: Path
    user: tuple[int, int] | None

    @property
    def cluster(self) -> Path:
        """The folder that is PostgreSQL's own."""
        return self.home / "cluster"

    async def ensure_running(self) -> None:
        """Make the cluster if there is none and start the server unless it runs. Raises Unavailable, UserError."""
        if not self.cluster.exists():
            await self._make()
        if not await self._settled():
            self._disown_stale_pid()
            await self._start()
            await self._leave_keeper()

    def dsn(self) -> str:
        """Return the address of the running server, for asyncpg and SQLAlchemy alike."""
        return f"postgresql://postgres@/postgres?host={quote(str(keeper.socket_folder(self.cluster)), safe='/')}"

    async def stop(self) -> None:
        """Stop at once, but in order: open transactions are rolled back, everything is written."""
        if not keeper.listens(self.cluster):
            return  # killed; pg_ctl would wait for a dead process that nobody has reaped
        folder = keeper.socket_folder(self.cluster)
        await _run(self._stop_command(), self.home)
        if folder and folder != self.cluster:
            with contextlib.suppress(OSError):
                folder.rmdir()
        _log.info("postgres.stopped", folder=str(self.home))

    async def _leave_keeper(self) -> None:
        """Start the process that stops the server if all its users are killed."""
        await _run([sys.executable, "-I", "-S", keeper.__file__, str(self.home), *self._stop_command()], self.home)

    def _stop_command(self) -> list[str]:
        return self._command("pg_ctl", "stop", "-D", str(self.cluster), "-m", "fast", "-w", "-t", str(START_WITHIN))

    async def _make(self) -> None:
        unfinished = self.home / "cluster.new"  # so that a cluster killed while it was made is no cluster
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=_PRIVATE)
        if self.user:
            os.chown(unfinished, *self.user)
        collation = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = ("initdb", "-D", str(unfinished), "-U", "postgres", "--auth=trust", "--no-instructions", *collation)
        code, said = await _run(self._command(*initdb), self.home)
        if code:
            hint = " PostgreSQL cannot run as root: run relay as another user." if self.user else ""
            raise Unavailable(f"The embedded PostgreSQL could not make its files in {self.home}: {_tail(said)}{hint}")
        unfinished.rename(self.cluster)

    async def _settled(self) -> bool:
        """Tell whether a server runs, once one that a killed relay left starting or stopping has made up its mind."""
        deadline = monotonic() + START_WITHIN
        while not keeper.listens(self.cluster) or keeper.pid_file(self.cluster)[_STATUS_LINE:] != [_READY]:
            if not keeper.listens(self.cluster) and not self._lives():
                return False
            if monotonic() > deadline:
                raise Unavailable(f"The PostgreSQL on {self.home} neither starts nor stops; see postgres.log there.")
            await asyncio.sleep(0.05)
        return True

    async def _start(self) -> None:
        output = self._fresh_log()
        settings = _SETTINGS | {"unix_socket_directories": str(self._socket_folder())}
        options = shlex.join(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        command = ("pg_ctl", "start", "-D", str(self.cluster), "-l", str(output), "-w", "-t", str(START_WITHIN))
        deadline = monotonic() + _ORPHANS_GONE_WITHIN
        while (await _run(self._command(*command, "-o", options), self.home))[0]:
            said = output.read_text(errors="replace")[-1000:]
            # The children of a killed server hold its memory until they notice, which takes them a moment.
            if "pre-existing shared memory" not in said or monotonic() > deadline:
                raise Unavailable(f"The embedded PostgreSQL did not start: {_tail(said)}")
            await asyncio.sleep(0.1)
        _log.info("postgres.started", folder=str(self.home))

    def _fresh_log(self) -> Path:
        output = self.home / "postgres.log"
        if output.exists() and output.stat().st_size > _LONGEST_LOG:
            output.replace(output.with_suffix(".log.1"))
        output.touch(mode=0o600)
        if self.user:
            os.chown(output, *self.user)
        return output

    def _disown_stale_pid(self) -> None:
        """Correct a pid file whose number is now a foreign process, or a dead one that nobody has reaped.

        PostgreSQL sees through a number that nobody has, but not through these, and numbers come again: after a
        reboot, and above all in containers.
        """
        pid = self._pid()
        if pid is None or not exists(pid) or self._lives():
            return
        if folder := keeper.socket_folder(self.cluster):
            (folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        # Our own number passes, because PostgreSQL takes the process that ran pg_ctl for no rival. The file itself
        # must stay: it tells whether children of the dead server still hold its memory.
        path = self.cluster / "postmaster.pid"
        path.write_text(path.read_text().replace(str(pid), str(os.getpid()), 1))

    def _lives(self) -> bool:
        pid = self._pid()
        return pid is not None and f"-D {self.cluster}" in command_of(pid)

    def _pid(self) -> int | None:
        lines = keeper.pid_file(self.cluster)
        return int(lines[0]) if lines and lines[0].isdigit() else None

    def _socket_folder(self) -> Path:
        """Return the cluster's own folder, or a private one with a short name where its path would not do."""
        own = str(self.cluster)
        if len(os.fsencode(own)) <= _LONGEST_SOCKET_FOLDER and re.fullmatch(r"[\w./-]+", own, re.ASCII):
            return self.cluster
        uid, gid = self.user or (os.getuid(), os.getgid())
        name = hashlib.blake2b(os.fsencode(own), digest_size=8).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"relay-{uid}-{name}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=_PRIVATE)
            os.chown(folder, uid, gid)
        found = folder.lstat()
        if found.st_uid != uid or stat.S_IMODE(found.st_mode) != _PRIVATE:
            raise UserError(f"{folder} belongs to somebody else: remove it, or use a shorter data directory.")
        return folder

    def _command(self, program: str, *arguments: str) -> list[str]:
        return child.command(str(self.binaries / program), *arguments, user=self.user)


async def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run the command to its end; return its exit code and what it printed."""
    # A file and not a pipe, which would stay open as long as a server or keeper left behind.
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},  # PGDATA, PGPORT, PGHOST and the like are not for this server
            stdin=DEVNULL,
            stdout=said,
            stderr=STDOUT,
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            # Left alone it would go on writing into a folder that its owner is about to remove.
            process.kill()
            raise
        said.seek(0)
        return code, said.read().decode(errors="replace")


def _tail(said: str) -> str:
    return " ".join(said.split())[-800:]
