"""`relay connections resync` and its like: orders read beside the polls, and how far that is."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data, Name, span
from relay.cli.running import with_relay
from relay.cli.shown import details, document, line, table
from relay.domain.errors import UserError
from relay.domain.syncs import Announce, SyncKind

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control import SyncView

LOOK_EVERY = 0.5
WAIT = timedelta(seconds=30)
EVERYTHING = "all"


def history(text: str | timedelta | None) -> timedelta | None:
    """How far back orders are read: a time span, or all."""
    return None if text is None or text == EVERYTHING else span(text)


Id = Annotated[str, typer.Argument(help="Id of a sync: see `relay connections syncs`.", metavar="ID")]
HISTORY = timedelta(days=90)
Back = Annotated[
    timedelta | None,
    typer.Option(
        "--history",
        parser=history,
        metavar="SPAN|all",
        help="How far back: orders issued or changed since then (default: 90d).",
        show_default=False,
    ),
]
FirstAnnounce = Annotated[Announce, typer.Option(help="Tell each order as a snapshot, or nothing before it changes.")]


def sync(
    name: Name,
    *,
    wait: Annotated[timedelta, typer.Option(parser=span, help="Wait so long for the answer.", metavar="SPAN")] = WAIT,
    follow: Annotated[bool, typer.Option("--follow", help="Show how far a first sync or re-sync is instead.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Read what changed now, and tell what was found.

    With --follow: a bar of the first sync or re-sync that runs, until it ends.
    """
    if follow:
        found = with_relay(data, lambda client: client.syncs(name))
        reading = next((each for each in found if each.ended_at is None and each.kind is not SyncKind.POLL), None)
        if reading is None:
            raise UserError(f"all orders of {name} were read: there is nothing to follow")
        _tell(followed(reading.id, data), as_json=as_json)
        return
    seen = with_relay(data, lambda client: client.poll_now(name, wait=wait))
    if as_json:
        document(seen)
    elif seen.ended_at is None:
        line(f"asked: {seen.id} is {seen.state}; see `relay connections syncs`")
    elif seen.problem:
        line(f"the ERP could not be read: {seen.problem}")
    else:
        line(f"read {seen.read} orders, told {seen.told} events")


def resync(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    back: Annotated[
        timedelta | None,
        typer.Option(
            "--history", parser=history, metavar="SPAN|all", help="How far back (default: all).", show_default=False
        ),
    ] = None,
    announce: Annotated[
        Announce, typer.Option(help="Tell what differs, every order as a snapshot, or nothing.")
    ] = Announce.CHANGES,
    follow: Annotated[bool, typer.Option("--follow", help="Show how far it is until it ends.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Read all orders again, beside the polls, and tell what differs from what was told.

    It goes on where it was after a restart. `relay connections syncs` tells how far it is.
    """
    begun = with_relay(data, lambda client: client.resync(name, history=back, announce=announce))
    if follow:
        begun = followed(begun.id, data)
    elif not as_json:
        line(f"started {begun.id}: {begun.customer}/{begun.connection} is read, announcing {begun.announce}")
        return
    _tell(begun, as_json=as_json)


def syncs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Of this connection only: name, CUSTOMER/NAME, or id.",
            metavar="[NAME]",
            autocompletion=connection_names,
        ),
    ] = None,
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the latest syncs, newest first: what was read, and how far they are."""
    found = with_relay(data, lambda client: client.syncs(name))
    if as_json:
        document(found)
        return
    table(
        ("id", "connection", "kind", "announce", "since", "state", "read", "of", "told", "ends about", "problem"),
        [
            (
                *(s.id, f"{s.customer}/{s.connection}", s.kind, s.announce, s.begin_on, s.state),
                *(s.read, s.total, s.told, s.ends_about, s.problem),
            )
            for s in found
        ],
        empty="no syncs",
    )


def cancel_sync(sync_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """End a sync; what it told stays told."""
    _tell(with_relay(data, lambda client: client.cancel_sync(sync_id)), as_json=as_json)


def followed(sync_id: str, data: Path | None) -> "SyncView":
    """Show a bar on standard error until the sync has ended; what it came to."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    async def watch(client: "Client") -> "SyncView":
        import asyncio

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("reading", total=None)
            while True:
                seen = await client.sync(sync_id)
                told = f"{seen.state}, {seen.told} told"
                total = None if seen.total is None else max(seen.total, seen.read)
                bar.update(task, completed=seen.read, total=total, description=told)
                if seen.ended_at is not None:
                    return seen
                await asyncio.sleep(LOOK_EVERY)

    return with_relay(data, watch)


def _tell(seen: "SyncView", *, as_json: bool) -> None:
    if as_json:
        document(seen)
        return
    details({name.replace("_", " "): value for name, value in seen.model_dump().items()})


def add_to(app: typer.Typer) -> None:
    """Put these under `relay connections`."""
    app.command("sync")(sync)
    app.command("resync")(resync)
    app.command("syncs")(syncs)
    app.command("cancel-sync")(cancel_sync)
