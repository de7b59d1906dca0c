"""`relay dead-letters`: messages that nobody could work with, and sending them again."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from relay.cli.options import AsJson, Data, past, span
from relay.cli.running import run, settings_for_command
from relay.cli.shown import document, line, table
from relay.domain.errors import UserError
from relay.domain.messages import Reason
from relay.domain.redrives import Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.app.letters import Desk
    from relay.control.dead_letters import RedriveView

Answer = TypeVar("Answer")

app = typer.Typer(no_args_is_help=True, help="Messages that nobody could work with: look at them, and send them again.")

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help=f"Only of this reason, again for more: {', '.join(Reason)}.")
]
Topic = Annotated[
    str | None,
    typer.Option(help="Only from this topic, or of the ERP of this connection, by its id.", metavar="NAME"),
]
Since = Annotated[
    datetime | None,
    typer.Option(parser=past, help="Only since this time, or how long ago: 2h, 3d.", metavar="TIME"),
]
Until = Annotated[datetime | None, typer.Option(parser=past, help="Only before that.", metavar="TIME")]


@app.command("list")
def list_(  # noqa: PLR0913 - one per option
    *,
    reason: Reasons = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the latest first. Their bytes stay on the topic."""
    wanted = _wanted(reason, topic, since, until)
    found = _at_desk(data, lambda desk: desk.letters.listed(wanted, most))
    if as_json:
        document(found)
        return
    table(
        ("when", "reason", "topic", "partition", "offset", "key", "bytes", "redriven", "detail"),
        [
            (
                *(each.at, each.reason, each.topic, each.partition, each.offset, each.key, each.bytes),
                *("yes" if each.redriven else "", each.detail),
            )
            for each in found
        ],
        empty="no dead letters" if wanted == Wanted() else "no dead letter that fits",
    )


@app.command()
def redrive(  # noqa: PLR0913 - one per option
    *,
    reason: Reasons = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    expires_in: Annotated[
        timedelta | None,
        typer.Option(parser=span, help="Commands that had expired may be done for so long.", metavar="SPAN"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Those that were sent again before, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again to the topics they came from: original bytes, key and headers, in their order.

    A command that had expired is done as a new one: its id is the old one with a mark of this letter behind it.
    """
    wanted = _wanted(reason, topic, since, until)

    async def redriven(desk: "Desk") -> "RedriveView":
        from relay.control.noted import noted

        def work() -> "Awaitable[RedriveView]":
            return desk.letters.redrive(wanted, expires_in=expires_in, repeat=again, dry_run=dry_run)

        return await (work() if dry_run else noted(desk.database, "redrive dead letters", work))

    told = _at_desk(data, redriven)
    if as_json:
        document(told)
        return
    reasons = ", ".join(f"{name} {count}" for name, count in told.by_reason.items())
    line(f"{told.redriven} {'would be' if dry_run else 'are'} sent again{f' ({reasons})' if reasons else ''}")
    if told.before:
        line(f"{told.before} were sent again before: --again sends them once more")
    if told.stay:
        line(f"{told.stay} stay: they never were in a topic, or their bytes are not kept")


def _wanted(reasons: list[str] | None, topic: str | None, since: datetime | None, until: datetime | None) -> Wanted:
    if unknown := [each for each in reasons or () if each not in tuple(Reason)]:
        raise UserError(f"--reason {unknown[0]}: it is one of {', '.join(Reason)}")
    return Wanted(frozenset(reasons or ()), topic, since, until)


def _at_desk(data: Path | None, work: "Callable[[Desk], Awaitable[Answer]]") -> Answer:
    settings = settings_for_command(data)

    async def working() -> Answer:
        from relay.app.letters import desk

        async with desk(settings) as here:
            return await work(here)

    return run(working())
