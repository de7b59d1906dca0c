"""`relay orders`: purchase orders as they were last told, and what happened to each. No ERP is asked."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data, past
from relay.cli.running import with_relay
from relay.cli.shown import brief, details, document, line, table

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control.commands import CommandView
    from relay.control.orders import OrderView
    from relay.domain.events import ChangeEvent

app = typer.Typer(help="Purchase orders as they were last told, and their histories.", no_args_is_help=True)

Connection = Annotated[
    str,
    typer.Argument(
        help="Connection: name, CUSTOMER/NAME, or id.",
        metavar="CONNECTION",
        show_default=False,
        autocompletion=connection_names,
    ),
]
Order = Annotated[
    str, typer.Argument(help="The order's number, remote id, or id in relay.", metavar="ORDER", show_default=False)
]
Most = Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")]
LATEST = 20
"""Commands of an order that are looked through for those that are not over."""
PLACES = 3
"""Changed places that a row of a history names."""


@app.command("list")
def listed(  # noqa: PLR0913 - one per option
    connection: Connection,
    *,
    since: Annotated[
        datetime | None,
        typer.Option(parser=past, metavar="TIME", help="Changed from this time on, or from so long ago."),
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that were deleted, too.")] = False,
    most: Most = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the orders of a connection, the latest change first."""
    found = with_relay(data, lambda relay: relay.orders(connection, changed_since=since, deleted=deleted, most=most))
    if as_json:
        document(found)
        return
    table(
        ("number", "remote id", "status", "vendor", "total", "currency", "lines", "events", "changed"),
        [_row(each) for each in found],
        empty="no orders: `relay connections show CONNECTION` tells when it was polled",
    )


@app.command("show")
def show(connection: Connection, order: Order, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one order with its lines, as its last event told of it, and the commands for it that are not over."""

    async def work(relay: "Client") -> "tuple[OrderView, list[CommandView]]":
        found = await relay.order(connection, order)
        commands = await relay.commands(found.connection_id, remote_id=found.remote_id, most=LATEST)
        return found, [each for each in commands if each.done_at is None]

    found, commands = with_relay(data, work)
    if as_json:
        document(found)
        return
    tree = dict(found.order)
    lines = tree.pop("lines", [])
    told = {name: value for name, value in tree.items() if name not in {"raw", "custom_fields", "field_presence"}}
    known = {"sequence": found.sequence, "first_seen_at": found.first_seen_at, "changed_at": found.changed_at}
    values = {"id": found.id, **told, **known, **(tree.get("custom_fields") or {})}
    details({name.replace("_", " "): _without_nothing(value) for name, value in values.items()})
    line("")
    table(
        ("line", "status", "item", "description", "quantity", "unit", "price", "amount", "received", "open"),
        [_line(each) for each in lines],
        empty="no lines",
    )
    if commands:
        line("\ncommands for it that are not over:")
        rows = [(each.id, each.command_id, each.type, each.created_at, each.waits_for, each.why) for each in commands]
        table(("id", "command", "type", "came", "waits for", "why"), rows, empty="none")


@app.command("history")
def history(
    connection: Connection, order: Order, *, most: Most = 50, data: Data = None, as_json: AsJson = False
) -> None:
    """List what happened to an order, newest first; with --json the events whole, as receivers got them."""
    found = with_relay(data, lambda relay: relay.order_history(connection, order, most=most))
    if as_json:
        document(found)
        return
    table(
        ("sequence", "event", "seen", "in the ERP", "status", "changed", "id"),
        [_event(each) for each in found],
        empty="no events are kept of it",
    )


def _row(order: "OrderView") -> tuple[object, ...]:
    tree = order.order
    state = "deleted" if order.deleted else order.status
    lines = len(tree.get("lines", ()))
    of = (order.number, order.remote_id, state, _named(tree.get("vendor")))
    return (*of, tree.get("total"), tree.get("currency"), lines, order.sequence, order.changed_at)


def _named(one: Mapping[str, Any] | None) -> str:
    return brief(one.get("name") or one.get("code") or one.get("remote_id")) if one else ""


def _line(one: Mapping[str, Any]) -> tuple[object, ...]:
    item = one.get("item") or {}
    called = (one.get("line_number") or one["remote_id"], one.get("status"), item.get("code"))
    prices = (one.get("quantity"), one.get("unit") or one.get("unit_raw"), one.get("unit_price"), one.get("amount"))
    return (*called, brief(item.get("description")), *prices, one.get("received_quantity"), one.get("open_quantity"))


def _event(event: "ChangeEvent") -> tuple[object, ...]:
    data = event.data
    paths = [each.path for each in data.changes]
    more = f" and {len(paths) - PLACES} more" if len(paths) > PLACES else ""
    when = (data.observed_at, data.occurred_at)
    kind = event.type.rpartition(".")[2]
    return (data.sequence, kind, *when, data.order.status, f"{', '.join(paths[:PLACES])}{more}", data.event_id)


def _without_nothing(value: object) -> object:
    """A group without its empty members, and no group at all when it has none left."""
    if isinstance(value, Mapping):
        return {name: each for name, each in value.items() if each is not None} or None
    return value
