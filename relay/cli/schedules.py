"""How often and when an ERP is asked: the options of `relay connections add` and `change`."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from relay.cli.options import AsJson, Data, Name, span
from relay.cli.running import with_relay
from relay.cli.shown import document, line
from relay.domain.errors import UserError
from relay.domain.spans import span_words

NEVER = "never"
ANY = "any"


def span_or_never(text: str | timedelta) -> timedelta | str:
    """A time span, or never."""
    return text if text == NEVER else span(text)


PollEvery = Annotated[
    timedelta | None,
    typer.Option(parser=span, help="How often to look for changes while they come (default: 60s).", metavar="SPAN"),
]
PollSlowest = Annotated[
    timedelta | None,
    typer.Option(parser=span, help="The longest wait when it is quiet (default: 5 times that).", metavar="SPAN"),
]
ReconcileEvery = Annotated[
    timedelta | None,
    typer.Option(parser=span, help="How often to look for orders that vanished (default: 1h).", metavar="SPAN"),
]
CompareEvery = Annotated[
    Any,
    typer.Option(
        parser=span_or_never,
        help="How often to read and compare all orders, at night (default: 7d).",
        metavar="SPAN|never",
        show_default=False,
    ),
]
Hours = Annotated[
    list[str] | None,
    typer.Option(
        "--hours", help="Ask the ERP only then: Mon-Fri 07:00-20:00; again for more; any: always.", metavar="WINDOW"
    ),
]
Blackout = Annotated[
    list[str] | None,
    typer.Option(
        "--blackout", help="Never ask the ERP then: Sun 00:00-04:00; again for more; any: none.", metavar="WINDOW"
    ),
]
CallsPerSecond = Annotated[
    float | None,
    typer.Option(help="Calls of the ERP per second, on average (default: what its connector says).", metavar="NUMBER"),
]
CallsAtOnce = Annotated[
    int | None,
    typer.Option(help="Calls of the ERP at the same time (default: what its connector says).", metavar="NUMBER"),
]
AnswerWithin = Annotated[
    timedelta | None,
    typer.Option(parser=span, help="How long one call of the ERP may take (default: 60s).", metavar="SPAN"),
]
TimeZone = Annotated[str | None, typer.Option(help="Whose clock that is: America/Sao_Paulo.", metavar="ZONE")]


def given(  # noqa: PLR0913, PLR0917 - one per option
    slowest: timedelta | None,
    compare_every: timedelta | str | None,
    hours: list[str] | None,
    blackout: list[str] | None,
    time_zone: str | None,
    calls_per_second: float | None,
    calls_at_once: int | None,
    answer_within: timedelta | None,
) -> dict[str, Any]:
    """What was given of a schedule, by the names of its fields. `hours` are given as a whole."""
    found: dict[str, Any] = {}
    if slowest is not None:
        found["slowest"] = slowest
    if compare_every is not None:
        found["compare_every"] = None if compare_every == NEVER else compare_every
    paces = {"calls_per_second": calls_per_second, "calls_at_once": calls_at_once, "answer_within": answer_within}
    found |= {name: value for name, value in paces.items() if value is not None}
    windows = {"open": _windows(hours), "closed": _windows(blackout), "zone": time_zone}
    if some := {name: value for name, value in windows.items() if value is not None}:
        found["hours"] = some
    return found


def _windows(given: list[str] | None) -> list[str] | None:
    # An option that was not given at all is an empty list to the command line.
    return [each for each in given if each != ANY] if given else None


def change(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    poll_every: PollEvery = None,
    poll_slowest: PollSlowest = None,
    reconcile_every: ReconcileEvery = None,
    compare_every: CompareEvery = None,
    hours: Hours = None,
    blackout: Blackout = None,
    time_zone: TimeZone = None,
    calls_per_second: CallsPerSecond = None,
    calls_at_once: CallsAtOnce = None,
    answer_within: AnswerWithin = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Change how often, how fast and when the ERP is asked: what is given, and nothing else."""
    schedule = given(
        poll_slowest, compare_every, hours, blackout, time_zone, calls_per_second, calls_at_once, answer_within
    )
    if not schedule and poll_every is None and reconcile_every is None:
        raise UserError("nothing to change: give at least one of the options")
    seen = with_relay(
        data,
        lambda relay: relay.change_connection(
            name, poll_every=poll_every, reconcile_every=reconcile_every, schedule=schedule
        ),
    )
    if as_json:
        document(seen)
    else:
        line(f"changed {seen.customer}/{seen.name}: polled every {span_words(seen.poll_every)}")
