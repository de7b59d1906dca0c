import asyncio
import io
import os
import sys
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from bench import report
from bench.plan import QUICK, Plan, parsed
from bench.stages import Latency

ROOT = Path(__file__).parents[2]


def figures(bare, line):
    """One round of a plan without polls, in which everything but the yardstick has the same rate."""
    rate = {"count": 1, "seconds": 1.0, "cpu_us_each": 1.0}
    names = report.yardsticks(Plan())
    rates = {name: {**rate, "per_second": bare if name.startswith("bare") else line} for name in names}
    return {**rates, "latency": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "max_ms": 4.0}}


def test_ratios_are_taken_within_a_round_so_that_a_slow_minute_does_not_count():
    rounds = [figures(1000, 500), figures(100, 50), figures(2000, 1000)]

    assert set(report.ratios(Plan(), rounds).values()) == {0.5}


def test_medians_are_taken_of_each_figure():
    assert report.medians([figures(1, 10), figures(3, 30), figures(2, 20)])["deliver.1"]["per_second"] == 20


def test_a_percentile_is_a_latency_that_was_measured():
    late = Latency([each / 1000 for each in range(1, 101)])

    assert late.as_json() == {"count": 100, "p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0}


def test_the_quick_plan_takes_what_is_given_beside_it(tmp_path):
    plan, out = parsed(["--quick", "--events", "70", "--out", str(tmp_path)])

    assert (plan.events, plan.orders, plan.rounds, out) == (70, 7, QUICK.rounds, tmp_path)


@pytest.mark.parametrize("wrong", [["--events", "0"], ["--rate", "many"], ["--seconds", "nan"], ["--polled", "-1"]])
def test_sizes_that_cannot_be_measured_are_refused_by_name(wrong, capsys):
    with pytest.raises(SystemExit):
        parsed(wrong)

    assert wrong[0] in capsys.readouterr().err


@pytest.mark.slow
async def test_a_quick_run_measures_every_part_and_leaves_a_report(tmp_path):
    small = ("--events", "40", "--seconds", "0.5", "--polled", "20", "--out", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", *small),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    [path] = tmp_path.iterdir()
    told = orjson.loads(path.read_bytes())
    assert told["medians"].keys() == report._titles(Plan(polled=(20,))).keys() | {"latency"}
    assert told["medians"]["latency"]["count"] == 25
    assert "of the bare client" in said


def test_the_table_shows_every_figure():
    told = report.document(Plan(), [figures(1000, 500)], (0.0, 0.0), 1.0)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.table(Plan(), told))

    assert console.export_text().count("50%") == len(report.ratios(Plan(), [figures(1000, 500)]))
