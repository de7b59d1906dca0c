"""Delivering a backlog: real workers on a database full of deliveries, between two runs of the bare client.

bare -> workers start -> one delivery each (connections are there) -> backlog laid, released, drained -> bare
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import mean

from bench.backlog import Backlog, body, drained, lay
from bench.bare import Errand, bare
from bench.crew import crew
from bench.measured import Figures, Measured
from bench.plan import EVENTS_PER_ORDER, Plan
from bench.stand import Ends, Stand, ground

WARM_WITHIN, DRAIN_WITHIN = 120.0, 300.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a backlog is delivered."""

    name: str
    endpoints: int
    size: int = 2000
    tls: bool = False
    workers: int = 1

    @property
    def title(self) -> str:
        parts = [
            f"{self.endpoints:,} endpoint{'s' if self.endpoints > 1 else ''}",
            f"{self.size // 1000} KB",
            *(["TLS"] if self.tls else []),
            *([f"{self.workers} workers"] if self.workers > 1 else []),
        ]
        return f"deliver: {', '.join(parts)}"

    def backlog(self, deliveries: int) -> Backlog:
        """About as many deliveries; at each endpoint at least two, of two orders."""
        events = max(2, deliveries // self.endpoints)
        per_order = min(EVENTS_PER_ORDER, events // 2)
        return Backlog("o", max(2, events // per_order), per_order, self.size)


async def delivered(on: Stand, plan: Plan, setting: Setting) -> AsyncIterator[Measured]:
    """One backlog, and the bare client before and after it, when no worker is there to disturb it."""
    ends = Ends(setting.endpoints, plan.at_once, tls=setting.tls)
    async with ground(on, ends) as at:
        before = await alone(on, plan, setting.size, tls=setting.tls)
        async with crew(at, setting.workers) as workers:
            await drained(at, workers, await lay(at, Backlog("w", 1, 1, setting.size)), within=WARM_WITHIN)
            goal = await lay(at, setting.backlog(plan.deliveries))
            spent = await drained(at, workers, goal, within=DRAIN_WITHIN)
            figures = {**spent.as_json(), "resident_mb": round(workers.resident() / 1e6, 1)}
        after = await alone(on, plan, setting.size, tls=setting.tls)
    yield Measured(setting.name, setting.title, figures, {unit: mean((before[unit], after[unit])) for unit in before})


async def alone(on: Stand, plan: Plan, size: int, *, tls: bool = False) -> Figures:
    """The bare client: as many requests in flight as one endpoint may have."""
    url = on.sink.tls_url if tls else on.sink.url
    errand = Errand(url, str(on.sink.authority), on.sink.secret, body(size), 2 * plan.deliveries, plan.at_once)
    watch = await bare(errand)
    await on.sink.taken()
    return watch.as_json()
