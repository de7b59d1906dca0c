"""The crew: real workers (`relay worker`), each a process of its own, on one ground."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.stand import Ground
from bench.trouble import Lost

SHARES = """
    SELECT count(*) AS held, min(count(*)) OVER () AS least, count(*) OVER () AS workers, sum(count(*)) OVER () AS all
    FROM endpoints WHERE lease_until > now() GROUP BY lease_owner
"""
SETTLE_WITHIN, END_WITHIN = 120.0, 60.0
"""Seconds until the endpoints are shared evenly, and until a worker that was told to stop has ended."""
LOOK = 0.05
PROGRAM = "from relay.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers that run."""

    at: Ground
    processes: list[asyncio.subprocess.Process]
    log: Path

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in self.processes]

    def whose(self) -> dict[str, list[int]]:
        """Whose CPU is measured: the workers', and that of those who serve them."""
        on = self.at.stand
        return {"cpu": self.pids, "postgres": on.postgres_pids(), "receiver": [on.sink.process.pid]}

    def resident(self) -> int:
        """Bytes of memory, of all together."""
        return processes.resident(self.pids)

    def check(self) -> None:
        """Raise Lost when one has ended."""
        if any(each.returncode is not None for each in self.processes):
            raise Lost(f"a worker has ended: {self.log.read_text()[-2000:]}")

    async def settle(self) -> None:
        """Return when all endpoints are held, and shared evenly."""
        until = time.monotonic() + SETTLE_WITHIN
        while not await self._even():
            self.check()
            if time.monotonic() > until:
                raise Lost("the workers do not come to share the endpoints")
            await asyncio.sleep(LOOK)

    async def _even(self) -> bool:
        async with self.at.database.session() as connection:
            row = await connection.fetchrow(SHARES)
        count, workers = self.at.ends.count, len(self.processes)
        least = count // workers if workers > 1 else count
        return row is not None and (row["workers"], row["all"]) == (workers, count) and row["least"] >= least


@asynccontextmanager
async def crew(at: Ground, workers: int) -> AsyncIterator[Crew]:
    """Run so many workers for as long as the block lasts, from when they share the endpoints."""
    log = at.stand.folder / f"{at.name}.log"
    async with AsyncExitStack() as stack:
        with log.open("wb") as lines:
            started = [
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", PROGRAM, "worker"),
                    stderr=lines,
                    env=_environment(at),
                )
                for _ in range(workers)
            ]
        stack.push_async_callback(_end, started)
        running = Crew(at, started, log)
        await running.settle()
        yield running


def _environment(at: Ground) -> dict[str, str]:
    """Relay's own settings, whatever the environment says; the receivers are on this machine."""
    ours = ("RELAY_", "SSL_CERT_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}
    return {
        **kept,
        "RELAY_DATABASE__URL": at.url,
        "RELAY_KAFKA__BOOTSTRAP": at.stand.access.bootstrap,
        "RELAY_KAFKA__PREFIX": at.name,
        "RELAY_VAULT__MASTER_KEY": at.stand.master_key,
        "RELAY_EGRESS__PRIVATE": "true",
        "RELAY_DELIVER__ALLOW_HTTP": "true",
        "RELAY_HTTP__PORT": "0",
        "RELAY_DRAIN": "5s",
        # Otherwise the worker finds the system's certificates itself: reading them is a part of the cost.
        **({"SSL_CERT_FILE": str(at.stand.sink.authority)} if at.ends.tls else {}),
    }


async def _end(started: list[asyncio.subprocess.Process]) -> None:
    for each in started:
        if each.returncode is None:
            each.terminate()
    for each in started:
        try:
            await asyncio.wait_for(each.wait(), END_WITHIN)
        except TimeoutError:
            each.kill()
            await each.wait()
