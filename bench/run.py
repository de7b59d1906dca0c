"""One run: yardstick and line by turns, then latency and polling; every figure kept as it was measured."""

import random
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from bench import stages
from bench.erp import once, order
from bench.plan import MANY, Plan
from bench.stand import Installation, Stand, installation

Figures: TypeAlias = dict[str, dict[str, float]]
"""Name -> what was measured, once."""
Tell: TypeAlias = Callable[[str], None]

WIDE = 64
"""Requests in flight of the second yardstick."""


async def measured(on: Stand, plan: Plan, tell: Tell) -> list[Figures]:
    """The figures of each round."""
    rounds: list[Figures] = []
    for number in range(1, plan.rounds + 1):
        title = f"round {number} of {plan.rounds}"
        figures: Figures = {}
        async for name, value in _round(on, plan):
            figures[name] = value
            tell(f"{title}: {name}")
        rounds.append(figures)
    return rounds


async def _round(on: Stand, plan: Plan) -> AsyncIterator[tuple[str, dict[str, float]]]:
    async with installation(on, endpoints=1, at_once=plan.at_once) as at:
        async for each in _split(at, plan, plan.at_once):
            yield each
    async with installation(on, endpoints=MANY, at_once=plan.at_once) as at:
        async for each in _split(at, plan.shared_by(MANY), WIDE):
            yield each
    async with installation(on, endpoints=1, at_once=plan.at_once) as at:
        yield "whole.1", (await stages.whole(at, plan)).as_json()
    async with installation(on, endpoints=1, at_once=plan.at_once) as at:
        yield "latency", (await stages.latency(at, plan)).as_json()
    for orders in plan.polled:
        async with installation(on, endpoints=1, at_once=1) as at:
            async for each in _polls(at, orders):
                yield each


async def _split(at: Installation, plan: Plan, in_flight: int) -> AsyncIterator[tuple[str, dict[str, float]]]:
    """The stages one by one, and the yardstick just before the one that it is held against."""
    ends = len(at.endpoints)
    await stages.filled(at, plan)
    yield f"publish.{ends}", (await stages.published(at, plan)).as_json()
    yield f"admit.{ends}", (await stages.admitted(at, plan)).as_json()
    yield f"bare.{in_flight}", (await stages.bare(at, plan.events * ends, in_flight)).as_json()
    yield f"deliver.{ends}", (await stages.delivered(at, plan)).as_json()


async def _polls(at: Installation, orders: int) -> AsyncIterator[tuple[str, dict[str, float]]]:
    """A first sight of everything, a poll of the same, and one with a tenth changed."""
    first = [order(number) for number in range(orders)]
    dice = random.Random(orders)
    changed = [order(number, dice.random() < 0.1) for number in range(orders)]
    for name, some in (("first", first), ("unchanged", first), ("tenth_changed", changed)):
        yield f"poll.{name}.{orders}", (await stages.polled(at, once(iter(some)), orders)).as_json()
