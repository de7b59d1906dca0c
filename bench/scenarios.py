"""All that can be measured, by name, in the order in which a round goes through it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench import bookkeeping, commands, drain, line, steady
from bench.delivering import Setting, delivered
from bench.measured import Measured, Scenario
from bench.plan import Plan
from bench.stand import Stand

LARGE = 10_000
"""Bytes of a large event."""


@dataclass(frozen=True, slots=True)
class _Delivering:
    """One setting, with the plan's own numbers of endpoints."""

    name: str
    endpoints: str
    size: int = 2000
    tls: bool = False
    workers: int = 1

    def __call__(self, on: Stand, plan: Plan) -> AsyncIterator[Measured]:
        count: int = getattr(plan, self.endpoints)
        return delivered(on, plan, Setting(self.name, count, self.size, tls=self.tls, workers=self.workers))

    def scenario(self, says: str, *, once: bool = False) -> Scenario:
        return Scenario(self.name, says, self, once=once)


SCENARIOS = (
    Scenario("line", "publish, admit and the whole line, one endpoint", line.line),
    Scenario("line-20", "publish and admit, each event for twenty endpoints", line.wide_line),
    Scenario("poll", "polls of a system in memory", line.poll),
    Scenario("latency", "the whole line at a steady rate", line.latency),
    _Delivering("deliver-1", "one").scenario("a backlog for one endpoint"),
    _Delivering("deliver-100", "some").scenario("a backlog for 100 endpoints"),
    _Delivering("deliver-1-10k", "one", LARGE).scenario("the same for one, events of 10 KB"),
    _Delivering("deliver-100-10k", "some", LARGE).scenario("the same for 100, events of 10 KB"),
    _Delivering("deliver-1-tls", "one", tls=True).scenario("the same for one, over TLS"),
    _Delivering("deliver-100-tls", "some", tls=True).scenario("the same for 100, over TLS"),
    _Delivering("deliver-100-2", "some", workers=2).scenario("the same for 100, by two workers"),
    _Delivering("deliver-5000", "many").scenario("a backlog for 5,000 endpoints", once=True),
    _Delivering("deliver-5000-2", "many", workers=2).scenario("the same for 5,000, by two workers", once=True),
    Scenario("hanging", "latency at a steady rate, with none and with 5 % of 100 endpoints hanging", steady.hanging),
    Scenario(
        "bookkeeping", "10,000 connections and 10,000 endpoints without changes", bookkeeping.bookkeeping, once=True
    ),
    Scenario(
        "commands", "commands into a simulated Protheus, and its changes beside them", commands.commands, once=True
    ),
    Scenario("drain", "1,000,000 deliveries wait: rate, and memory over time", drain.drain, once=True, asked=True),
)


def chosen(names: tuple[str, ...]) -> list[Scenario]:
    """Those that are named, or all but those that must be asked for."""
    return [each for each in SCENARIOS if (each.name in names if names else not each.asked)]
