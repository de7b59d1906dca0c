"""What is measured: sizes of one run, from the command line."""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from relay.domain.endpoints import DEFAULT_AT_ONCE

EVENTS_PER_ORDER = 10
"""Events of one order go one after the other: so many lanes there are, and so often each is used."""
MANY = 20
"""Endpoints that each event goes to, where it goes to more than one."""
OUT = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run. `only`: names of scenarios; empty: the usual ones."""

    only: tuple[str, ...] = ()
    rounds: int = 3
    deliveries: int = 10_000
    one: int = 1
    some: int = 100
    many: int = 5000
    at_once: int = DEFAULT_AT_ONCE
    hanging_rate: int = 300
    idle_seconds: float = 35.0
    kept: int = 10_000
    drain: int = 1_000_000
    drain_endpoints: int = 10
    drain_minutes: float = 15.0
    events: int = 5000
    orders: int = 500
    rate: int = 100
    seconds: float = 10.0
    commands: int = 300
    changed: int = 5
    polled: tuple[int, ...] = (1000, 10_000)

    def shared_by(self, endpoints: int) -> "Plan":
        """As many deliveries, but by so many endpoints: each event goes to all of them."""
        return replace(self, events=max(1, self.events // endpoints), orders=max(1, self.orders // endpoints))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


QUICK = Plan(
    rounds=1,
    deliveries=400,
    some=20,
    many=100,
    hanging_rate=100,
    idle_seconds=1.0,
    kept=50,
    drain=2000,
    drain_minutes=1.0,
    events=400,
    orders=40,
    rate=50,
    seconds=2.0,
    commands=20,
    polled=(200, 500),
)
"""One and a half minutes, for everything. What its scenarios of 100 and 5,000 endpoints have is 20 and 100."""


def parsed(arguments: list[str] | None = None, *, names: tuple[str, ...] = ()) -> tuple[Plan, Path]:
    """The plan and the folder for its results. Exits with a message for arguments that cannot be used.

    `names` are the scenarios that there are.
    """
    given = vars(_parser(names).parse_args(arguments))
    out: Path = given.pop("out")
    start = QUICK if given.pop("quick") else Plan()
    set_ones: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value is not None
    }
    if "events" in set_ones:
        set_ones.setdefault("orders", max(1, set_ones["events"] // EVENTS_PER_ORDER))
    return replace(start, **set_ones), out


def _parser(names: tuple[str, ...]) -> argparse.ArgumentParser:
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure relay on embedded PostgreSQL and broker, beside a bare HTTP client in the same run. "
        "Takes about 12 minutes; nothing is left running.",
        epilog=f"Scenarios: {', '.join(names)}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, to see that everything works")
    add("--only", nargs="+", choices=names or None, metavar="SCENARIO", help="these scenarios (default: all but drain)")
    for name, kind, says in (
        ("rounds", _count, "times that the scenarios take turns"),
        ("deliveries", _count, "deliveries in a backlog"),
        ("some", _count, "endpoints of deliver-100 and hanging"),
        ("many", _count, "endpoints of deliver-5000"),
        ("at-once", _count, "requests in flight: of the bare client, and of each endpoint at most"),
        ("hanging-rate", _count, "events a second while some endpoints hang"),
        ("idle-seconds", _seconds, "how long bookkeeping watches"),
        ("kept", _count, "connections, and endpoints, of bookkeeping"),
        ("drain", _count, "deliveries that wait in drain"),
        ("drain-endpoints", _count, "endpoints of drain"),
        ("drain-minutes", _seconds, "drain ends after this, drained or not"),
        ("events", _count, "events of the line"),
        ("orders", _count, "orders that these events tell of"),
        ("rate", _count, "events a second while the line's latency is measured"),
        ("commands", _count, "commands to an ERP that answers at once; a tenth to one that takes 300 ms"),
        ("changed", _count, "changes a second in that ERP meanwhile"),
        ("seconds", _seconds, "how long latencies are measured"),
    ):
        add(f"--{name}", type=kind, help=f"{says} (default: {getattr(usual, name.replace('-', '_')):g})")
    polled = " ".join(map(str, usual.polled))
    add("--polled", type=_count, nargs="+", help=f"orders of the polled systems (default: {polled})")
    add("--out", type=Path, default=OUT, help="folder for the results as JSON (default: bench/results)")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not (number := int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and below 3600")
    return number
