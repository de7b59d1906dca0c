"""One run: rounds through the scenarios; every figure kept as it was measured."""

from collections.abc import Callable
from typing import TypeAlias

from bench.measured import Measured
from bench.plan import Plan
from bench.scenarios import chosen
from bench.stand import Stand

Tell: TypeAlias = Callable[[str], None]


async def measured(on: Stand, plan: Plan, tell: Tell) -> list[list[Measured]]:
    """What was measured in each round."""
    rounds: list[list[Measured]] = []
    for number in range(1, plan.rounds + 1):
        rounds.append([])
        for scenario in chosen(plan.only):
            if scenario.once and number > 1:
                continue
            tell(f"round {number} of {plan.rounds}: {scenario.name}")
            async for each in scenario.run(on, plan):
                rounds[-1].append(each)
    return rounds
