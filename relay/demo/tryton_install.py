"""Tryton in an environment of its own, and a filled database to copy fresh ERPs from; both made once and kept.

    CACHE/tryton-8.2-py3.11-<digest>/  env/  template.sqlite  made      (beside it: .lock and .log)

Both are made under a file lock; `made` is written last, so a half-made installation is never taken for a whole one
and two processes never make it at once. The digest covers what goes into it, so a change there makes a new one.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from relay.domain.errors import UserError

PACKAGES: Final = ("trytond==8.2.*", "trytond_purchase==8.2.*", "proteus==8.2.*")
DATABASE: Final = "erp"
PASSWORDS: Final = {"admin": "mercado-velho-51", "relay": "trilho-azul-73"}
"""Login -> password in every fresh ERP: an administrator, and a buyer for relay to read as. They guard nothing real."""
BOOTSTRAP: Final = Path(__file__).with_name("tryton_bootstrap.py")
LOCK_RETRY: Final = 0.2
"""Seconds between two tries for the lock; trying keeps the wait cancellable."""

FOREIGN: Final = ("TRYTOND_", "TRYTONPASSFILE", "PYTHON", "VIRTUAL_ENV")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installation:
    """A whole installation: the interpreter to run Tryton with, and the database that fresh ERPs are copies of."""

    python: Path
    template: Path


async def install(cache: Path, say: Say = lambda _: None) -> Installation:
    """Make the installation under `cache`, or find it there; `say` hears each step (about a minute in all, once).

    Raises UserError when the packages cannot be had, naming the log.
    """
    home = await asyncio.to_thread(_home, cache)
    made = Installation(home / "env" / "bin" / "python", home / "template.sqlite")
    async with _locked(home.with_name(f"{home.name}.lock")):
        if not (home / "made").exists():
            await _make(home, made, say)
    return made


def config(directory: Path) -> str:
    """Tryton's configuration for databases in `directory`: SQLite, tried again when another writer holds it."""
    return f"[database]\nuri = sqlite://\npath = {directory}\nretry = 20\n"


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return our process environment without what would lead Tryton, or its interpreter, elsewhere."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**ours, **(extra or {})}


def _home(cache: Path) -> Path:
    digest = hashlib.sha256("\n".join((*PACKAGES, json.dumps(PASSWORDS), BOOTSTRAP.read_text())).encode())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = cache.resolve() / f"tryton-8.2-py{version}-{digest.hexdigest()[:8]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    return home


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    with path.open("w") as lock:
        while not _try_lock(lock):  # noqa: ASYNC110 - another process's lock sets no event of ours
            await asyncio.sleep(LOCK_RETRY)
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _make(home: Path, made: Installation, say: Say) -> None:
    await asyncio.to_thread(_empty, home)
    say("Installing Tryton 8.2 into its own environment")
    for command in _environment(home / "env"):
        await _run(home, *command)
    say("Creating Tryton's database (about half a minute)")
    await _fill(home, made)
    (home / "made").touch()


def _empty(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()


def _environment(env: Path) -> tuple[tuple[str | Path, ...], ...]:
    here = Path(sys.executable).parent
    uv = shutil.which("uv", path=str(here)) or shutil.which("uv")
    if uv:
        return (
            (uv, "venv", "--quiet", "--python", sys.executable, env),
            (uv, "pip", "install", "--quiet", "--python", env / "bin" / "python", *PACKAGES),
        )
    return (
        (sys.executable, "-m", "venv", env),
        (env / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES),
    )


async def _fill(home: Path, made: Installation) -> None:
    draft = home / f"{DATABASE}.sqlite"
    draft.touch()  # Tryton fills an existing file; it creates none.
    settings, password = home / "trytond.conf", home / "password"
    settings.write_text(config(home))
    password.write_text(PASSWORDS["admin"])
    await _run(
        home,
        *(made.python, "-m", "trytond.cli.admin", "-c", settings, "-d", DATABASE),
        *("-u", "ir", "res", "purchase", "--activate-dependencies", "--email", "admin@example.com"),
        env={"TRYTONPASSFILE": str(password)},
    )
    others = {login: word for login, word in PASSWORDS.items() if login != "admin"}
    await _run(home, made.python, BOOTSTRAP, settings, DATABASE, stdin=json.dumps(others))
    with sqlite3.connect(draft) as connection:
        # One whole file, whatever of it was still in the write-ahead log beside it.
        connection.execute("VACUUM INTO ?", (str(made.template),))
    connection.close()


async def _run(home: Path, *command: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> None:
    log = home.with_name(f"{home.name}.log")
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            env=environment(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
        try:
            await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        raise UserError(
            f"Tryton cannot be installed: {_last_line(log)}. The packages come from the package index that pip uses: "
            f"check the network and try again. Everything it printed is in {log}"
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return re.sub(r"://[^/@\s]*@", "://", last)  # An index address may hold somebody's password.
