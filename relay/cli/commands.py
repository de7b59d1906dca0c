"""`relay commands`: what is asked of ERPs, where each stands, and what became of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.asked import asked_in, tried
from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data, span
from relay.cli.running import with_relay
from relay.cli.shown import brief, details, document, line, note, table, worded
from relay.domain.commands import CommandType
from relay.domain.errors import Throttled
from relay.domain.results import Outcome

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control.commands import CommandView

app = typer.Typer(help="What is asked of ERPs: new orders, other values, lines cancelled.", no_args_is_help=True)

WAIT, LONGEST_WAIT = timedelta(seconds=60), timedelta(seconds=60)
BAD = {Outcome.REJECTED, Outcome.EXPIRED, Outcome.UNKNOWN}
REFUSED, UNFINISHED = 1, 3
PAUSE = 1.0
"""Seconds."""

Of = Annotated[
    str | None,
    typer.Argument(
        help="Of this connection only: name, CUSTOMER/NAME, or id.",
        metavar="[CONNECTION]",
        autocompletion=connection_names,
    ),
]
Connection = Annotated[
    str | None,
    typer.Option(help="The connection: name, CUSTOMER/NAME, or id.", autocompletion=connection_names),
]


@app.command("send")
def send(  # noqa: PLR0913 - one per option
    file: Annotated[
        Path, typer.Argument(help="JSON: a command, a list of them, or one on each line; - is standard input.")
    ],
    *,
    connection: Connection = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show what would be sent; write nothing.")
    ] = False,
    wait: Annotated[
        timedelta, typer.Option(parser=span, help="Wait so long for all results; 0s: for none.", metavar="SPAN")
    ] = WAIT,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Have something done to purchase orders in their ERPs, and show what became of it.

    --connection fills in whose they are; a command_id that is missing is made. The same command again is the same one:
    a file whose commands have ids may be sent twice. Nothing is sent when one of them cannot be read.

    Exit code 0: applied, a dry run that is fine, or not waited for. 1: rejected, expired or unknown. 3: not over when
    the time to wait was.
    """

    async def work(relay: "Client") -> "list[CommandView]":
        of = None if connection is None else await relay.connection_id(connection)
        asked = asked_in(file, of)
        if wait and not as_json:
            note(f"waiting up to {wait.total_seconds():g} s for results ...")
        return await sent(relay, [tried(each) for each in asked] if dry_run else asked, wait)

    found = with_relay(data, work)
    if as_json:
        document(found[0] if len(found) == 1 else found)
    elif len(found) == 1:
        tell(found[0])
    else:
        _tell_all(found)
    if code := _code(found, wait):
        raise typer.Exit(code)


@app.command("list")
def listed(  # noqa: PLR0913 - one per option
    connection: Of = None,
    *,
    state: Annotated[str | None, typer.Option(help="waiting, sending or done.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Those that came to this.")] = None,
    order: Annotated[
        str | None, typer.Option(help="Of the purchase order with this remote id; with a connection.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the latest commands, newest first."""
    found = with_relay(
        data, lambda relay: relay.commands(connection, state=state, outcome=outcome, remote_id=order, most=most)
    )
    if as_json:
        document(found)
        return
    _tell_all(found)


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(help="relay's id (`cmd_...`), or the sender's with --connection.", metavar="ID")
    ],
    *,
    connection: Connection = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show one command: what was asked, where it stands, what it waits for, and its result."""
    found = with_relay(data, lambda relay: relay.command(name, connection))
    document(found) if as_json else tell(found)


@app.command("example")
def example(
    kind: Annotated[CommandType, typer.Argument(help="The type of command.", metavar="TYPE")],
    *,
    connection: Connection = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print a filled command of a type, to begin with; --connection fills in whose it is."""
    import uuid

    _ = as_json  # it is JSON anyway

    from relay.domain.command_samples import sample_command

    command = sample_command(kind, str(uuid.uuid4()))
    content = command.model_dump(mode="json", exclude_unset=True)
    if connection is not None:
        content["connection_id"] = with_relay(data, lambda relay: relay.connection(connection)).id
    document(content)


def tell(found: "CommandView") -> None:
    """One command with its result, for people."""
    values = found.model_dump(exclude={"command", "result"})
    details({name.replace("_", " "): value for name, value in values.items()})
    if found.command:
        said = {name: value for name, value in found.command.items() if name not in values}
        lines = said.pop("lines", ())
        line("")
        details({"asked": found.type, **said})
        for each in lines:
            line(f"  line  {worded(each)}")
    if found.result:
        _tell_result(found.result["data"])


async def sent(
    relay: "Client", asked: Sequence[Mapping[str, Any]], wait: timedelta, *, pause: float = PAUSE
) -> "list[CommandView]":
    """All of them on their way first, in their order; then each as it is when it is over, or when the time is.

    relay may ask for a pause of `pause` seconds among many calls.
    """
    found: list[CommandView] = []
    while len(found) < len(asked):
        try:
            found.append(await relay.send_command(asked[len(found)]))
        except Throttled:
            await asyncio.sleep(pause)
    until = time.monotonic() + wait.total_seconds()
    for place, each in enumerate(asked):
        while (left := until - time.monotonic()) >= 1 and found[place].done_at is None:
            found[place] = await relay.send_command(each, wait=min(LONGEST_WAIT, timedelta(seconds=left)))
    return found


def _code(found: "Sequence[CommandView]", wait: timedelta) -> int:
    if any(each.outcome in BAD for each in found):
        return REFUSED
    return UNFINISHED if wait and any(each.done_at is None for each in found) else 0


def _tell_all(found: "Sequence[CommandView]") -> None:
    table(
        ("id", "command", "connection", "type", "order", "came", "outcome", "waits for", "why"),
        [_row(each) for each in found],
        empty="no commands",
    )


def _tell_result(data: dict[str, Any]) -> None:
    for each in data.get("refusals", ()):
        place = f" at {each['field']}" if each.get("field") else ""
        fix = f" What to do: {each['fix']}." if each.get("fix") else ""
        line(f"\nrefused, {each['reason']}{place}: {each['message'].rstrip('.')}.{fix}")
    if data.get("said"):
        line(f"\nthe ERP said: {data['said']}")
    if sent := data.get("would_send"):
        line(f"\nwould be sent: {sent['method']} {sent['path']}")
        if sent.get("body") is not None:
            document(sent["body"]) if isinstance(sent["body"], dict) else line(str(sent["body"]))
    if order := data.get("order"):
        line(f"\nthe order is {order['status']} now: {order.get('number') or order['remote_id']}, {order['id']}")


def _row(each: "CommandView") -> tuple[object, ...]:
    of = (each.id, each.command_id, f"{each.customer}/{each.connection}", each.type, each.remote_id, each.created_at)
    outcome = f"{each.outcome} (dry run)" if each.dry_run else each.outcome
    return (*of, outcome, each.waits_for, brief(each.why))
