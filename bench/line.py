"""The line before delivering, stage by stage, and all of it at once. Consumer and runners are in this process."""

import random
from collections.abc import AsyncIterator

from bench import stages
from bench.delivering import alone
from bench.erp import once, order
from bench.measured import Measured
from bench.plan import MANY, Plan
from bench.stand import Ends, Stand, installation

SIZE = 2000


async def line(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """Publish, admit, and the whole line, with one endpoint."""
    async for each in _split(on, plan, 1):
        yield each
    bare = await alone(on, plan, SIZE)
    async with installation(on, Ends(1, plan.at_once)) as at:
        figures = (await stages.whole(at, plan)).as_json()
    yield Measured("whole.1", "whole line: outbox to recorded, 1 endpoint", figures, bare)


async def wide_line(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """Publish and admit, when each event goes to twenty endpoints."""
    async for each in _split(on, plan.shared_by(MANY), MANY):
        yield each


async def latency(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """From an event's commit in the outbox to its receipt, through everything."""
    async with installation(on, Ends(1, plan.at_once)) as at:
        figures = (await stages.latency(at, plan)).as_json()
    yield Measured("latency", f"latency of the whole line at {plan.rate}/s", figures)


async def poll(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """A first sight of everything, a poll of the same, and one with a tenth changed."""
    for orders in plan.polled:
        first = [order(number) for number in range(orders)]
        dice = random.Random(orders)
        changed = [order(number, dice.random() < 0.1) for number in range(orders)]
        polls = (
            ("first", f"{orders:,} never seen", first),
            ("unchanged", f"{orders:,} unchanged", first),
            ("tenth_changed", f"a tenth of {orders:,} changed", changed),
        )
        async with installation(on, Ends(1, 1)) as at:
            for name, says, some in polls:
                figures = (await stages.polled(at, once(iter(some)), orders)).as_json()
                yield Measured(f"poll.{name}.{orders}", f"poll (orders): {says}", figures)


async def _split(on: Stand, plan: Plan, count: int) -> AsyncIterator[Measured]:
    bare = await alone(on, plan, SIZE)
    to = f"{count} endpoint{'s' if count > 1 else ''}"
    async with installation(on, Ends(count, plan.at_once)) as at:
        await stages.filled(at, plan)
        figures = (await stages.published(at, plan)).as_json()
        yield Measured(f"publish.{count}", f"publish (events): outbox to topics, {to}", figures, bare)
        figures = (await stages.admitted(at, plan)).as_json()
        yield Measured(f"admit.{count}", f"admit (events): topic to deliveries, {to}", figures, bare)
