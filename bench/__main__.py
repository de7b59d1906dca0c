"""`python -m bench`: measure, show tables, and write everything as JSON."""

import os
import resource
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console

from bench import processes, report
from bench.measured import Measured
from bench.plan import Plan, parsed
from bench.run import Tell, measured
from bench.scenarios import SCENARIOS
from bench.stand import stand
from bench.trouble import Lost
from relay import log
from relay.domain.errors import RelayError


def main(arguments: list[str] | None = None) -> int:
    """Run and report; 1 when a part does not start or a scenario has failed."""
    plan, out = parsed(arguments, names=tuple(each.name for each in SCENARIOS))
    console = Console()
    if not processes.there():
        console.print(f"[red]{processes.MISSING}[/red]")
        return 1
    _open_many_files()
    # A socket's path may have 107 characters, and PostgreSQL does not run as root: a short, open folder.
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        Path(folder).chmod(0o755)
        try:
            said = _run(plan, Path(folder), console)
        except (RelayError, Lost) as error:
            console.print(f"[red]{error}[/red]")
            return 1
    path = _written(said, out)
    console.print(report.table(said))
    console.print(f"{said['seconds']:.0f} s; every figure is in {path}")
    return 1 if any(each["failed"] for each in said["measured"]) else 0


def _run(plan: Plan, folder: Path, console: Console) -> dict[str, Any]:
    # Logging costs what it costs: the lines of a worker are written, but to a file.
    with (folder / "log").open("w") as file:
        with redirect_stderr(file):
            log.configure("info", json_lines=True)
        before, began = os.getloadavg()[0], time.monotonic()
        with console.status("starting PostgreSQL, broker and receiver") as status:
            rounds = uvloop.run(_measured(plan, folder, status.update))
        return report.document(plan, rounds, (before, os.getloadavg()[0]), time.monotonic() - began)


async def _measured(plan: Plan, folder: Path, tell: Tell) -> list[list[Measured]]:
    async with stand(folder) as on:
        return await measured(on, plan, tell)


def _open_many_files() -> None:
    """Thousands of endpoints have a connection each, at both ends; children get the limit from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _written(said: dict[str, Any], out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{said['measured_at'].replace(':', '')}.json"
    path.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2))
    return path


if __name__ == "__main__":
    sys.exit(main())
