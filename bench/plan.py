"""What is measured: sizes of one run, from the command line."""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

EVENTS_PER_ORDER = 10
"""Events of one order go one after the other: so many lanes there are, and so often each is used."""
MANY = 20
"""Endpoints, where there is more than one."""
OUT = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run."""

    rounds: int = 3
    events: int = 5000
    orders: int = 500
    at_once: int = 16
    rate: int = 100
    seconds: float = 10.0
    polled: tuple[int, ...] = (1000, 10_000)

    def shared_by(self, endpoints: int) -> "Plan":
        """As many deliveries, but by so many endpoints: each event goes to all of them."""
        return replace(self, events=max(1, self.events // endpoints), orders=max(1, self.orders // endpoints))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


QUICK = Plan(rounds=1, events=400, orders=40, rate=50, seconds=2.0, polled=(200, 500))


def parsed(arguments: list[str] | None = None) -> tuple[Plan, Path]:
    """The plan and the folder for its results. Exits with a message for arguments that cannot be used."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    out: Path = given.pop("out")
    start = QUICK if given.pop("quick") else Plan()
    plan = replace(start, **{name: value for name, value in given.items() if value is not None})
    if plan.events and "orders" not in {name for name, value in given.items() if value is not None}:
        plan = replace(plan, orders=max(1, plan.events // EVENTS_PER_ORDER))
    return plan, out


def _parser() -> argparse.ArgumentParser:
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the line end to end on embedded PostgreSQL and broker, beside a bare HTTP client. "
        "Takes under four minutes; nothing is left running.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a small run of under 30 s, to see that everything works")
    add("--rounds", type=_count, help=f"times that yardstick and line take turns (default: {usual.rounds})")
    add("--events", type=_count, help=f"deliveries in a backlog (default: {usual.events})")
    add("--orders", type=_count, help=f"orders that its events tell of (default: events / {EVENTS_PER_ORDER})")
    add("--at-once", type=_count, help=f"requests in flight per endpoint (default: {usual.at_once})")
    add("--rate", type=_count, help=f"events a second while latency is measured (default: {usual.rate})")
    add("--seconds", type=_seconds, help=f"how long that is (default: {usual.seconds:g})")
    add(
        "--polled",
        type=_count,
        nargs="+",
        help=f"orders of the polled systems (default: {' '.join(map(str, usual.polled))})",
    )
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number
