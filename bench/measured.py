"""What a scenario says: named figures, what they are held against, and samples over time where there are some."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.plan import Plan
from bench.stand import Stand

Figures: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement. `bare`: what the bare client did beside it, the same number of bytes in the same way."""

    name: str
    title: str
    figures: Figures
    bare: Figures = field(default_factory=dict)
    samples: list[Figures] = field(default_factory=list)
    failed: str = ""
    """Why there are no figures."""

    @property
    def ratios(self) -> Figures:
        """Of the bare client's rate; and of what one core of it does, by what one core of ours does."""
        if not self.bare:
            return {}
        rate = self.figures["per_second"] / self.bare["per_second"]
        return {"of_bare": round(rate, 4), "of_bare_per_core": round(self.bare["cpu_us_each"] / self.cpu, 4)}

    @property
    def cpu(self) -> float:
        return self.figures["cpu_us_each"]


Run: TypeAlias = Callable[[Stand, Plan], AsyncIterator[Measured]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What can be asked for by name. `once`: in the first round only; `asked`: only when it is named."""

    name: str
    says: str
    run: Run
    once: bool = False
    asked: bool = False
