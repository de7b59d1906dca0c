import io
import os

import pytest
from rich.console import Console

from bench import processes, report
from bench.backlog import body
from bench.delivering import Setting
from bench.latency import Latency
from bench.measured import Measured
from bench.plan import QUICK, Plan, parsed
from bench.scenarios import SCENARIOS, chosen
from bench.stand import Ends

NAMES = tuple(each.name for each in SCENARIOS)


def rates(per_second, cpu):
    return {"count": 1, "seconds": 1.0, "per_second": per_second, "cpu_us_each": cpu}


def one_round(bare, line):
    """What a round says in which relay and the bare client have these rates."""
    late = {"count": 1, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "max_ms": 4.0}
    samples = [{"seconds": float(each), "delivered": each, "resident_mb": 100.0} for each in range(100)]
    return [
        Measured("deliver-1", "deliver: 1 endpoint", rates(line, 200.0), rates(bare, 50.0)),
        Measured("latency", "latency at 100/s", late),
        Measured("drain", "drain: many", rates(line, 200.0), samples=samples),
    ]


def told(*rounds):
    return report.document(Plan(), rounds, (0.0, 0.0), 1.0)


def named(document, name):
    return next(each for each in document["measured"] if each["name"] == name)


def shown(document):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table(document))
    return console.export_text()


def test_ratios_are_taken_within_a_round_so_that_a_slow_minute_does_not_count():
    document = told(one_round(1000, 500), one_round(100, 50), one_round(2000, 1000))

    assert named(document, "deliver-1")["ratio"]["of_bare"] == 0.5


def test_what_a_core_does_is_told_beside_what_the_machine_does():
    assert named(told(one_round(1000, 500)), "deliver-1")["ratio"]["of_bare_per_core"] == 0.25


def test_medians_are_taken_of_each_figure():
    document = told(one_round(1, 10), one_round(3, 30), one_round(2, 20))

    assert named(document, "deliver-1")["median"]["per_second"] == 20


def test_what_is_measured_once_is_reported_beside_what_is_measured_in_each_round():
    first, second = one_round(1000, 500), one_round(1000, 400)[:1]

    assert [len(each["rounds"]) for each in told(first, second)["measured"]] == [2, 1, 1]


def test_a_percentile_is_a_latency_that_was_measured():
    late = Latency([each / 1000 for each in range(1, 101)])

    assert late.as_json() == {"count": 100, "p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0}


def test_the_quick_plan_takes_what_is_given_beside_it(tmp_path):
    plan, out = parsed(["--quick", "--events", "70", "--out", str(tmp_path)], names=NAMES)

    assert (plan.events, plan.orders, plan.rounds, out) == (70, 7, QUICK.rounds, tmp_path)


def test_scenarios_are_chosen_by_name_and_a_million_deliveries_only_so():
    plan, _ = parsed(["--only", "drain", "deliver-100"], names=NAMES)

    assert [each.name for each in chosen(plan.only)] == ["deliver-100", "drain"]
    assert [each.name for each in SCENARIOS if each not in chosen(())] == ["drain"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--events", "0"],
        ["--rate", "many"],
        ["--seconds", "nan"],
        ["--polled", "-1"],
        ["--only", "deliver-7"],
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(wrong, capsys):
    with pytest.raises(SystemExit):
        parsed(wrong, names=NAMES)

    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize("endpoints", [1, 100, 5000])
def test_a_backlog_has_about_as_many_deliveries_however_many_endpoints_share_them(endpoints):
    backlog = Setting("any", endpoints).backlog(10_000)

    assert 10_000 <= backlog.orders * backlog.per_order * endpoints <= 20_000


@pytest.mark.parametrize("size", [2000, 10_000])
def test_an_event_has_about_the_size_that_is_asked_for(size):
    assert size - 10 <= len(body(size)) <= size + 10


def test_one_in_twenty_endpoints_hangs():
    ends = Ends(100, 16, hanging=5)

    assert len(ends.healthy) == 95


def test_a_process_is_seen_with_its_memory_cpu_and_children():
    own = os.getpid()

    assert processes.resident([own]) > 1_000_000
    assert processes.cpu([own]) > 0
    assert own in processes.family(processes.parent(own))


def test_what_a_process_takes_that_is_gone_is_nothing():
    assert (processes.resident([2**30]), processes.cpu([2**30])) == (0, 0)


def test_the_tables_show_every_kind_of_figure():
    text = shown(told(one_round(1000, 500)))

    assert "50.0%" in text
    assert "25.0%" in text
    assert "3.0" in text
    assert "drain: many: over time" in text


def test_a_long_series_of_samples_is_thinned_to_its_first_and_last_and_some_between():
    lines = shown(told(one_round(1000, 500))).partition("over time")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]

    assert len(rows) == report.SHOWN_SAMPLES
    assert (rows[0][1], rows[-1][1]) == ("0", "99")
