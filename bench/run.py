"""One run: rounds through the scenarios; every figure kept as it was measured."""

from collections.abc import Callable
from typing import TypeAlias

from bench.measured import Measured
from bench.plan import Plan
from bench.scenarios import chosen
from bench.stand import Stand
from bench.trouble import Lost

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
            try:
                async for each in scenario.run(on, plan):
                    rounds[-1].append(each)
            except Lost as lost:
                # Told in the report: the other scenarios are not its fault.
                await on.sink.taken()
                rounds[-1].append(Measured(f"{scenario.name}.failed", scenario.says, {}, failed=str(lost)))
    return rounds
