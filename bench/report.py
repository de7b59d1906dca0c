"""The report: medians over the rounds, ratios to the bare client of the same minute, tables and one JSON document."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from bench.measured import Figures, Measured
from bench.plan import Plan

PARTS = ("erp-relay", "aiokafka", "asyncpg", "faststream", "httptools", "orjson", "pydantic", "pyreqwest", "uvloop")
SHOWN_SAMPLES = 16

Rounds = Sequence[Sequence[Measured]]


def document(plan: Plan, rounds: Rounds, load: tuple[float, float], seconds: float) -> dict[str, Any]:
    """Everything about one run, ready for JSON."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine(),
        "load_average": {"before": round(load[0], 2), "after": round(load[1], 2)},
        "plan": plan.as_json(),
        "measured": [_summed(name, some) for name, some in _by_name(rounds).items()],
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


def medians(some: Sequence[Figures]) -> Figures:
    """Each figure's median, by itself."""
    return {unit: round(median(each[unit] for each in some), 4) for unit in (some[0] if some else ())}


def table(report: dict[str, Any]) -> Group:
    """The report for people."""
    every = report["measured"]
    parts: list[RenderableType] = [_rates([each for each in every if "per_second" in each["median"]], report)]
    if late := [each for each in every if "p50_ms" in each["median"]]:
        parts.append(_plain("Until it is told, ms", late, ("p50_ms", "p95_ms", "p99_ms", "max_ms")))
    if kept := [each for each in every if "kb_per_pair" in each["median"]]:
        parts.append(_plain("Connections and endpoints with next to nothing to do", kept, tuple(kept[0]["median"])))
    parts += [f"[red]{each['name']}: {each['failed']}[/red]" for each in every if each["failed"]]
    parts += [_sampled(each) for each in every if each["samples"]]
    return Group(*parts)


def _by_name(rounds: Rounds) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for each in (each for some in rounds for each in some):
        found.setdefault(each.name, []).append(each)
    return found


def _summed(name: str, some: Sequence[Measured]) -> dict[str, Any]:
    """One measurement over all rounds. The median of the ratios, not the ratio of the medians: see the rounds."""
    return {
        "name": name,
        "title": some[0].title,
        "median": medians([each.figures for each in some]),
        "ratio": medians([each.ratios for each in some]),
        "bare": medians([each.bare for each in some]),
        "rounds": [{"figures": each.figures, "bare": each.bare, "ratio": each.ratios} for each in some],
        "samples": some[0].samples,
        "failed": "; ".join(each.failed for each in some if each.failed),
    }


def _rates(some: Sequence[dict[str, Any]], report: dict[str, Any]) -> Table:
    shown = Table(title=f"relay on {report['machine']['cores']} cores, medians of up to {report['plan']['rounds']}")
    shown.add_column("measured")
    for column in (
        "per second",
        "CPU us each",
        "PostgreSQL us each",
        "bare per second",
        "of bare",
        "of bare, per core",
        "sent twice",
    ):
        shown.add_column(column, justify="right")
    for each in some:
        figures, ratio = each["median"], each["ratio"]
        shown.add_row(
            each["title"],
            f"{figures['per_second']:,.0f}",
            f"{figures['cpu_us_each']:,.0f}",
            f"{figures['postgres_us_each']:,.0f}" if "postgres_us_each" in figures else "",
            f"{each['bare']['per_second']:,.0f}" if ratio else "",
            *(f"{ratio[name]:.1%}" if ratio else "" for name in ("of_bare", "of_bare_per_core")),
            f"{figures['again']:,.0f}" if figures.get("again") else "",
        )
    return shown


def _plain(title: str, some: Sequence[dict[str, Any]], units: Sequence[str]) -> Table:
    shown = Table(title=title)
    shown.add_column("measured")
    for unit in units:
        shown.add_column(unit.replace("_", " "), justify="right")
    for each in some:
        shown.add_row(each["title"], *(f"{each['median'][unit]:,.1f}" for unit in units))
    return shown


def _sampled(each: dict[str, Any]) -> Table:
    samples = each["samples"]
    shown = Table(title=f"{each['title']}: over time")
    for unit in samples[0]:
        shown.add_column(unit.replace("_", " "), justify="right")
    for sample in _thinned(samples):
        shown.add_row(*(f"{value:,.0f}" for value in sample.values()))
    return shown


def _thinned(samples: Sequence[Figures]) -> Iterator[Figures]:
    """Evenly spaced ones, the first and the last among them."""
    shown = min(len(samples), SHOWN_SAMPLES)
    return (samples[round(each * (len(samples) - 1) / max(1, shown - 1))] for each in range(shown))
