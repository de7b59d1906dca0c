"""`relay deliveries`: what was sent, what came back, and sending once more."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.options import AsJson, Data
from relay.cli.running import with_control
from relay.cli.shown import details, document, line, table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.control import DeliveryView

app = typer.Typer(help="Events on their way to endpoints.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of a delivery: see `relay deliveries list`.", metavar="ID")]


@app.command("list")
def listed(  # noqa: PLR0913 - one per option
    *,
    endpoint: Annotated[str | None, typer.Option(help="Of this endpoint only.")] = None,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or dead.")] = None,
    order: Annotated[str | None, typer.Option(help="Of the purchase order with this remote id only.")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the latest deliveries, newest first."""
    found = with_control(
        data, lambda control: control.deliveries(endpoint=endpoint, state=state, order=order, most=most)
    )
    if as_json:
        document(found)
        return
    table(
        ("id", "endpoint", "type", "order", "sequence", "state", "attempts", "last answer", "due"),
        [(d.id, d.endpoint, d.type, d.remote_id, d.sequence, d.state, d.attempts, _last(d), d.due_at) for d in found],
        empty="no deliveries",
    )


@app.command("show")
def show(delivery_id: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one delivery with all attempts."""
    found = with_control(data, lambda control: control.delivery(delivery_id))
    if as_json:
        document(found)
        return
    values = found.model_dump(exclude={"attempts_made"})
    details({name.replace("_", " "): value for name, value in values.items()})
    rows = [
        (each.number, each.started_at, f"{each.seconds:.3f}", each.outcome, each.status or each.error, each.detail)
        for each in found.attempts_made or ()
    ]
    line("")
    table(("attempt", "started", "seconds", "outcome", "answer", "detail"), rows, empty="no attempts yet")


@app.command("retry")
def retry(
    delivery_ids: Annotated[list[str], typer.Argument(help="Ids of deliveries.", metavar="ID...")],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send deliveries now, whatever became of them. One that waits behind another of its order keeps its turn."""
    found = with_control(data, lambda control: _all(control.retry_delivery, delivery_ids))
    if as_json:
        document(found)
        return
    for each in found:
        line(f"{each.id} is due now, to {each.endpoint}")


async def _all(retried: "Callable[[str], Awaitable[DeliveryView]]", ids: list[str]) -> "list[DeliveryView]":
    return [await retried(each) for each in ids]


def _last(delivery: "DeliveryView") -> object:
    return delivery.last_error or delivery.last_status
