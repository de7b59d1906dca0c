"""The report: medians over the rounds, ratios to the yardstick of the same round, one table and one JSON document."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.table import Table

from bench.plan import MANY, Plan
from bench.run import WIDE, Figures

PARTS = ("erp-relay", "aiokafka", "asyncpg", "faststream", "orjson", "pydantic", "pyreqwest", "uvloop")


def document(plan: Plan, rounds: Sequence[Figures], load: tuple[float, float], seconds: float) -> dict[str, Any]:
    """Everything about one run, ready for JSON."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine(),
        "load_average": {"before": round(load[0], 2), "after": round(load[1], 2)},
        "plan": plan.as_json(),
        "medians": medians(rounds),
        "ratios": ratios(plan, rounds),
        "rounds": list(rounds),
    }


def machine() -> dict[str, Any]:
    """What kind of machine this is, and the versions that were measured."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "parts": {part: version(part) for part in PARTS},
    }


def medians(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median, by itself."""
    return {
        name: {unit: round(median(each[name][unit] for each in rounds), 2) for unit in units}
        for name, units in rounds[0].items()
    }


def yardsticks(plan: Plan) -> dict[str, str]:
    """Which yardstick a figure is held against: as many deliveries, by the same client, in the same round."""
    narrow, wide = f"bare.{plan.at_once}", f"bare.{WIDE}"
    ones = dict.fromkeys(("publish.1", "admit.1", "deliver.1", "whole.1"), narrow)
    many = dict.fromkeys((f"publish.{MANY}", f"admit.{MANY}", f"deliver.{MANY}"), wide)
    return {narrow: narrow, **ones, wide: wide, **many}


def ratios(plan: Plan, rounds: Sequence[Figures]) -> dict[str, float]:
    """Rate of each figure over its yardstick's: the median of the rounds' ratios."""
    return {
        name: round(median(each[name]["per_second"] / each[yardstick]["per_second"] for each in rounds), 3)
        for name, yardstick in yardsticks(plan).items()
        if name != yardstick
    }


def table(plan: Plan, report: dict[str, Any]) -> Table:
    """The report for people."""
    shown = Table(title=f"relay on {report['machine']['cores']} cores, medians of {plan.rounds}")
    shown.add_column("measured")
    for column in ("per second", "CPU us each", "of the bare client"):
        shown.add_column(column, justify="right")
    for name, figures in report["medians"].items():
        if "per_second" not in figures:
            continue
        ratio = report["ratios"].get(name)
        share = "yardstick" if name in yardsticks(plan).values() else "" if ratio is None else f"{ratio:.0%}"
        shown.add_row(_titles(plan)[name], f"{figures['per_second']:,.0f}", f"{figures['cpu_us_each']:,.0f}", share)
    late = report["medians"]["latency"]
    shown.caption = (
        f"From commit to receipt at {plan.rate}/s: "
        f"p50 {late['p50_ms']:.1f} ms, p95 {late['p95_ms']:.1f} ms, p99 {late['p99_ms']:.1f} ms, "
        f"most {late['max_ms']:.1f} ms"
    )
    return shown


def _titles(plan: Plan) -> dict[str, str]:
    bare = {each: f"bare client, {each} in flight" for each in (plan.at_once, WIDE)}
    titles = {f"bare.{each}": title for each, title in bare.items()}
    for ends in (1, MANY):
        to = f"{ends} endpoint{'s' if ends > 1 else ''}"
        titles |= {
            f"publish.{ends}": f"publish (events): outbox to topics, {to}",
            f"admit.{ends}": f"admit (events): topic to deliveries, {to}",
            f"deliver.{ends}": f"deliver: sent and recorded, {to}",
        }
    titles["whole.1"] = "whole line: outbox to recorded, 1 endpoint"
    for orders in plan.polled:
        titles |= {
            f"poll.first.{orders}": f"poll (orders): {orders:,} never seen",
            f"poll.unchanged.{orders}": f"poll (orders): {orders:,} unchanged",
            f"poll.tenth_changed.{orders}": f"poll (orders): a tenth of {orders:,} changed",
        }
    return titles
