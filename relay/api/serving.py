"""Serving: the application on a port, with or without TLS, and on this machine's own socket."""

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn

from relay.api.callers import as_local
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = structlog.get_logger()

GRACE = 1
"""Seconds for requests that are under way when the process stops."""
LONGEST_PATH = 103
"""Bytes of a socket's path that every system takes."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate, with those that lead to its authority, and of its key: PEM."""

    certificate: Path
    key: Path


@asynccontextmanager
async def served(app: "ASGIApp", host: str, port: int, tls: Tls | None = None) -> AsyncIterator[str]:
    """Serve until the block ends; yields the address, with the port that was taken for port 0.

    Raises:
        UserError: the address cannot be listened on, or certificate or key cannot be used.
    """
    server = _server(app, host=host, port=port)
    if tls is not None:
        server.config.ssl = _context(tls)
    try:
        await server.startup()
    except SystemExit as ended:
        raise _unusable(host, port, ended.__context__) from None
    taken = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{taken}"
    finally:
        await _ended(server)


@asynccontextmanager
async def served_locally(app: "ASGIApp", path: Path) -> AsyncIterator[None]:
    """Serve at a socket that only this user may open, until the block ends: its callers may do everything.

    Another relay that serves there already goes on, and a path that is too long for a socket is left out; the log
    says so.
    """
    bound = _bound(path)
    if bound is None:
        yield
        return
    made = _inode(path)
    server = _server(as_local(app))
    await server.startup(sockets=[bound])
    try:
        yield
    finally:
        await _ended(server)
        bound.close()
        if _inode(path) == made:
            _removed(path)


def _server(app: "ASGIApp", host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE)
    )
    # Not `serve`: signals belong to the command, which drains before it stops.
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    return server


async def _ended(server: uvicorn.Server) -> None:
    server.should_exit = True
    await server.shutdown()


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without an answer OpenSSL would ask at the terminal for the password of the key.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "they cannot be read"
        raise UserError(
            f"RELAY_HTTP__CERTIFICATE and RELAY_HTTP__KEY cannot be used: {reason}. Give PEM files that belong "
            "together, the key without a password"
        ) from None
    return context


def _bound(path: Path) -> socket.socket | None:
    if len(os.fsencode(path)) > LONGEST_PATH:
        log.warning("socket.omitted", path=str(path), problem=f"longer than {LONGEST_PATH} bytes")
        return None
    with socket.socket(socket.AF_UNIX) as there:
        if there.connect_ex(str(path)) == 0:
            log.warning("socket.omitted", path=str(path), problem="another relay serves it")
            return None
    _removed(path)
    bound, before = socket.socket(socket.AF_UNIX), os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(before)
    return bound


def _removed(path: Path) -> None:
    path.unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _unusable(host: str, port: int, error: BaseException | None) -> UserError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return UserError(f"port {port} on {host} is taken: stop what holds it or set RELAY_HTTP__PORT")
    return UserError(f"cannot listen on port {port} of {host}: {error}. Set RELAY_HTTP__HOST and RELAY_HTTP__PORT")
