"""A million deliveries that wait: how fast they go, and whether the worker's memory stays flat meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator

from bench.backlog import Backlog, lay, recorded, release
from bench.clock import Spent
from bench.crew import Crew, crew
from bench.measured import Figures, Measured
from bench.plan import EVENTS_PER_ORDER, Plan
from bench.stand import Ends, Ground, Stand, ground
from bench.trouble import Lost

SAMPLES = 30
"""At least so many over the whole measurement, as far as it is longer than a second each."""
TAIL = 120.0
"""Seconds within which the last are recorded when all are answered."""


async def drain(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """All of them, or as many as go in the time that is given."""
    ends = Ends(plan.drain_endpoints, plan.at_once)
    async with ground(on, ends) as at:
        orders = max(1, plan.drain // ends.count // EVENTS_PER_ORDER)
        goal = await lay(at, Backlog("o", orders, EVENTS_PER_ORDER))
        async with crew(at, 1) as workers:
            figures, samples = await _watched(at, workers, goal, plan.drain_minutes * 60)
    title = f"drain: {goal:,} deliveries wait, {ends.count} endpoints"
    yield Measured("drain", title, figures, samples=samples)


async def _watched(at: Ground, workers: Crew, goal: int, seconds: float) -> tuple[Figures, list[Figures]]:
    spent, samples = Spent(goal, workers.whose()), [_sample(0.0, 0, workers)]
    await release(at)
    spent.start()
    began, done = time.monotonic(), 0
    while done < goal and (passed := time.monotonic() - began) < seconds:
        if passed >= samples[-1]["seconds"] + max(1.0, seconds / SAMPLES / 2):
            samples.append(_sample(passed, done, workers))
        workers.check()
        await asyncio.sleep(0.1)
        done = await at.stand.sink.count()
    if done >= goal:
        await recorded(at, workers, goal, within=TAIL)
    spent.stop()
    samples.append(_sample(spent.seconds, done, workers))
    spent.count = done
    taken = await at.stand.sink.taken()
    if taken.unverified or taken.out_of_order:
        raise Lost(
            f"of {taken.requests} requests {taken.unverified} were unverified, {taken.out_of_order} out of order"
        )
    spent.again = taken.requests - taken.unique
    memory = [each["resident_mb"] for each in samples[1:]]
    sizes = {"resident_first_mb": memory[0], "resident_most_mb": max(memory), "resident_last_mb": memory[-1]}
    return {**spent.as_json(), "waited": goal, **sizes}, samples


def _sample(seconds: float, done: int, workers: Crew) -> Figures:
    return {"seconds": round(seconds, 1), "delivered": done, "resident_mb": round(workers.resident() / 1e6, 1)}
