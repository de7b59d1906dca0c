"""Stops PostgreSQL when the last relay that used it was killed and could not.

    python -I -S keeper.py HOME COMMAND...

Waits for the lock that every user of the server shares, then runs COMMAND (pg_ctl stop) if there is still a server.
A file that runs without the rest of relay: it lives as long as the server and should cost little.
"""

import contextlib
import fcntl
import os
import socket
import sys
from pathlib import Path

_SOCKET_LINE = 4  # of postmaster.pid, from 0


def stop_when_unused(home: Path, command: list[str]) -> None:
    """Block until nobody uses the server of `home`; then become `command`, still holding the lock on starting."""
    users = os.open(home / "users.lock", os.O_RDWR)
    start = os.open(home / "start.lock", os.O_RDWR)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        fcntl.flock(start, fcntl.LOCK_EX)
        with contextlib.suppress(BlockingIOError):  # somebody came in between
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        fcntl.flock(start, fcntl.LOCK_UN)
    if listens(home / "cluster"):
        os.set_inheritable(start, True)
        os.execv(command[0], command)  # noqa: S606 - no shell is the point


def listens(cluster: Path) -> bool:
    """Tell whether the server of this cluster accepts connections (it may still refuse to talk)."""
    folder = socket_folder(cluster)
    if folder is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / ".s.PGSQL.5432"))
        except OSError:
            return False
    return True


def socket_folder(cluster: Path) -> Path | None:
    """Return what the server wrote into its pid file, or None when there is no server."""
    lines = pid_file(cluster)
    return Path(lines[_SOCKET_LINE]) if len(lines) > _SOCKET_LINE and lines[_SOCKET_LINE] else None


def pid_file(cluster: Path) -> list[str]:
    """Return the lines of postmaster.pid; empty when there is none."""
    try:
        return [line.strip() for line in (cluster / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    if os.fork() == 0:
        os.setsid()
        stop_when_unused(Path(sys.argv[1]), sys.argv[2:])
