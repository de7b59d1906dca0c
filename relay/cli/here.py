"""Here: the relay that runs on this machine already, known by its socket."""

import socket
from pathlib import Path

from relay.cli.processes import SOCKET
from relay.settings import Settings


def somebody_answers(settings: Settings) -> bool:
    """Whether a relay is named or runs here, so that none must be wired for the command."""
    return bool(settings.api.url or socket_here(settings))


def socket_here(settings: Settings) -> Path | None:
    """The socket of this machine's `relay up`, unless it does not run, or another database is named."""
    return None if settings.database.url else _served(settings.data.expanduser().absolute() / SOCKET)


def _served(path: Path) -> Path | None:
    """The socket, when somebody answers there: a relay that was killed leaves its own behind."""
    with socket.socket(socket.AF_UNIX) as there:
        try:
            return path if there.connect_ex(str(path)) == 0 else None
        except OSError:
            return None  # a path that is too long was never served
