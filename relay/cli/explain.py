"""`relay explain`: where is this order's change now, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.completion import connection_names
from relay.cli.options import AsJson, Data
from relay.cli.running import with_relay
from relay.cli.shown import document, line, worded

if TYPE_CHECKING:
    from relay.control import DeliveryTold, Explanation


def explain(
    order: Annotated[
        str,
        typer.Argument(
            help="The order's remote id, number, id in relay, or the id of one of its events.",
            metavar="ORDER",
            show_default=False,
        ),
    ],
    *,
    connection: Annotated[
        str | None,
        typer.Option(
            help="The connection that it comes from, when several have such an order.", autocompletion=connection_names
        ),
    ] = None,
    most: Annotated[int, typer.Option("--events", min=1, max=10, help="Events told of, newest first.")] = 3,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Tell where an order's change is now and why: from the ERP's poll to each receiver's answer, and what is next."""
    found = with_relay(data, lambda relay: relay.explain(order, connection))
    if as_json:
        document(found)
    else:
        _tell(found, most)


def _tell(found: "Explanation", most: int) -> None:
    called = found.order if found.number in {None, found.order} else f"{found.number} ({found.order})"
    line(f"Order {called} of {found.connection.customer}/{found.connection.name}")
    line(found.says)
    line("")
    line(f"ERP       {found.connection.says}")
    line(f"Snapshot  {found.snapshot.says}")
    for each in found.events[:most]:
        line("")
        line(f"Event {each.sequence}   {each.type}, {worded(each.occurred_at)}, {each.event_id}")
        if each.caused_by:
            line(f"  Command {', '.join(each.caused_by)} asked for it: `relay commands show ID --connection NAME`")
        line(f"  Kafka   {each.says}")
        width = max((len(delivery.endpoint) for delivery in each.deliveries), default=0)
        for delivery in each.deliveries:
            line(f"  -> {delivery.endpoint.ljust(width)}  {_delivery(delivery)}")
    if len(found.events) > most:
        line("")
        line("There are older events: --events 10")


def _delivery(delivery: "DeliveryTold") -> str:
    return delivery.says + (f" ({worded(delivery.next_at)})" if delivery.next_at else "")
