"""`relay commands`: what is asked of ERPs, where each stands, and what became of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data
from relay.cli.running import with_relay
from relay.cli.shown import brief, details, document, line, table, worded
from relay.domain.commands import CommandType
from relay.domain.results import Outcome

if TYPE_CHECKING:
    from relay.control.commands import CommandView

app = typer.Typer(help="What is asked of ERPs: new orders, other values, lines cancelled.", no_args_is_help=True)

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
    table(
        ("id", "command", "connection", "type", "order", "came", "outcome", "waits for", "why"),
        [_row(each) for each in found],
        empty="no commands",
    )


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
