"""`relay replay`: send events again to one endpoint, beside what is new."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data, Name, past
from relay.cli.running import with_relay
from relay.cli.shown import details, document, line, table, worded
from relay.domain.errors import UserError
from relay.domain.replays import Past

if TYPE_CHECKING:
    from relay.control import EventSeen, ReplayFound, ReplayView

app = typer.Typer(help="Send events again to one endpoint, beside what is new.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of a replay: see `relay replay list`.", metavar="ID", show_default=False)]


@app.command("start")
def start(  # noqa: PLR0913 - one per option
    endpoint: Name,
    *,
    since: Annotated[
        datetime | None,
        typer.Option(parser=past, metavar="TIME", help="Changes from this time on, or from so long ago."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=past, metavar="TIME", help="Changes before this time.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="Of this order: its remote id, number or id in relay.")] = None,
    event_types: Annotated[
        list[str] | None, typer.Option("--type", help="Of this event type, such as approved; again for more.")
    ] = None,
    connection: Annotated[
        str | None, typer.Option(help="From this connection.", autocompletion=connection_names)
    ] = None,
    statuses: Annotated[
        list[Past] | None,
        typer.Option("--status", help="What became of them there before; again for more (default: any)."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is stored: nothing narrows it.")] = False,
    per_second: Annotated[float, typer.Option(help="Events put in line per second.")] = 20.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, and show the first and the last.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send events again to an endpoint: whole orders, in order, with the ids they had.

    What waits to be sent is left out: it is sent anyway. `relay replay show ID` tells how far it is.
    """
    from relay.control import Asked

    asked = Asked(since, until, order, tuple(event_types or ()), connection, tuple(statuses or ()))
    if asked == Asked() and not everything:
        raise UserError("this would send everything again: narrow it (--since, --order, --status ...), or say --all")
    if dry_run:
        _found(with_relay(data, lambda relay: relay.count_replay(endpoint, asked)), as_json=as_json)
        return
    begun = with_relay(data, lambda relay: relay.start_replay(endpoint, asked, per_second))
    if as_json:
        document(begun)
        return
    line(f"started {begun.id}: {begun.found} events to {begun.customer}/{begun.endpoint}")


@app.command("list")
def listed(
    *,
    endpoint: Annotated[str | None, typer.Option(help="To this endpoint only.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the latest replays, newest first."""
    found = with_relay(data, lambda relay: relay.replays(endpoint))
    if as_json:
        document(found)
        return
    table(
        ("id", "endpoint", "state", "found", "in line", "waiting", "delivered", "dead", "started", "ended"),
        [
            (r.id, r.endpoint, r.state, r.found, r.done, r.waiting, r.delivered, r.dead, r.created_at, r.ended_at)
            for r in found
        ],
        empty="no replays",
    )


@app.command("show")
def show(replay_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show how far a replay is."""
    _tell(with_relay(data, lambda relay: relay.replay(replay_id)), as_json=as_json)


@app.command("pause")
def pause(replay_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """Put nothing more in line; what is in line is sent."""
    _tell(with_relay(data, lambda relay: relay.pause_replay(replay_id)), as_json=as_json)


@app.command("resume")
def resume(replay_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """Go on where it was paused."""
    _tell(with_relay(data, lambda relay: relay.resume_replay(replay_id)), as_json=as_json)


@app.command("cancel")
def cancel(replay_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """End it; what is in line and not being sent becomes what it was before."""
    _tell(with_relay(data, lambda relay: relay.cancel_replay(replay_id)), as_json=as_json)


def _tell(replay: "ReplayView", *, as_json: bool) -> None:
    if as_json:
        document(replay)
        return
    values = replay.model_dump(exclude={"criteria"})
    criteria = replay.criteria.model_dump(exclude_none=True, exclude_defaults=True)
    details({name.replace("_", " "): value for name, value in {**values, "criteria": criteria or "everything"}.items()})


def _found(found: "ReplayFound", *, as_json: bool) -> None:
    if as_json:
        document(found)
        return
    line(f"{'at most ' if found.at_most else ''}{found.events} events would be sent again to {found.endpoint}")
    for name, each in (("first", found.first), ("last", found.last)):
        if each:
            line(f"{name.ljust(5)}  {_event(each)}")


def _event(each: "EventSeen") -> str:
    return f"{worded(each.occurred_at)}  {each.type}  order {each.remote_id}, sequence {each.sequence}  {each.event_id}"
