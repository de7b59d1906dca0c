"""What endpoints cost that have nothing to do: memory, statements and CPU of one worker, beside a worker of one."""

import asyncio
import time
from collections.abc import AsyncIterator

from bench.backlog import WAITING, Backlog, drained, lay
from bench.clock import Spent
from bench.crew import Crew, crew
from bench.delivering import DRAIN_WITHIN
from bench.measured import Figures, Measured
from bench.plan import Plan
from bench.stand import Ends, Ground, Stand, ground

TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
SETTLE = 3.0
"""Seconds until a session's statistics are out, and what a start leaves behind is done."""


async def idle(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """One endpoint, then many."""
    base: Figures = {}
    for count in (1, plan.many):
        async with ground(on, Ends(count, plan.at_once)) as at:
            began = time.monotonic()
            async with crew(at, 1) as workers:
                figures = await _looked_at(at, workers, plan, began)
        base = base or figures
        added = (figures["resident_mb"] - base["resident_mb"]) / max(1, count - 1) * 1e3
        figures["kb_per_endpoint"] = round(added, 1) if count > 1 else 0.0
        title = f"idle: {count:,} endpoint{'s' if count > 1 else ''}"
        yield Measured(f"idle-{count}", title, figures)


async def _looked_at(at: Ground, workers: Crew, plan: Plan, began: float) -> Figures:
    held = time.monotonic() - began
    before = workers.resident()
    spent = await drained(at, workers, await lay(at, Backlog("w", 1, 1)), within=DRAIN_WITHIN)
    await asyncio.sleep(SETTLE)
    watch = Spent(1, workers.whose())
    first = await _transactions(at)
    watch.start()
    await asyncio.sleep(plan.idle_seconds)
    watch.stop()
    last = await _transactions(at)
    return {
        "held_after_seconds": round(held, 2),
        "first_deliveries_seconds": round(spent.seconds, 2),
        "resident_before_mb": round(before / 1e6, 1),
        "resident_mb": round(workers.resident() / 1e6, 1),
        "transactions_per_second": round((last - first) / watch.seconds, 1),
        "cpu_percent": round(watch.cpu["cpu"] / watch.seconds * 100, 1),
        "postgres_cpu_percent": round(watch.cpu["postgres"] / watch.seconds * 100, 1),
    }


async def _transactions(at: Ground) -> int:
    async with at.database.session() as connection:
        await connection.fetchval(WAITING)
        return int(await connection.fetchval(TRANSACTIONS))
