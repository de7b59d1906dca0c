"""`relay deliveries`: what was sent, what came back, and sending once more."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.completion import endpoint_names
from relay.cli.options import AsJson, Data, past
from relay.cli.running import with_relay
from relay.cli.shown import details, document, line, table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.control import AttemptView, DeliveryView

app = typer.Typer(help="Events on their way to endpoints.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of a delivery: see `relay deliveries list`.", metavar="ID")]


@app.command("list")
def listed(  # noqa: PLR0913 - one per option
    *,
    endpoint: Annotated[str | None, typer.Option(help="Of this endpoint only.", autocompletion=endpoint_names)] = None,
    state: Annotated[str | None, typer.Option(help="waiting, delivered, dead or superseded.")] = None,
    order: Annotated[str | None, typer.Option(help="Of the purchase order with this remote id only.")] = None,
    event_types: Annotated[
        list[str] | None, typer.Option("--type", help="Of this event type only, such as approved; again for more.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=past, metavar="TIME", help="Made from this time on, or from so long ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(parser=past, metavar="TIME", help="Made before this time.")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the latest deliveries, newest first."""
    found = with_relay(
        data,
        lambda relay: relay.deliveries(
            endpoint=endpoint,
            state=state,
            order=order,
            event_types=event_types or (),
            since=since,
            until=until,
            most=most,
        ),
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
    """Show one delivery with all attempts: how long each part took, what came back, and from which address."""
    found = with_relay(data, lambda relay: relay.delivery(delivery_id))
    if as_json:
        document(found)
        return
    values = found.model_dump(exclude={"attempts_made"})
    details({name.replace("_", " "): value for name, value in values.items()})
    made = found.attempts_made or ()
    columns = ("attempt", "started", "seconds", "outcome", "answer", "address", "resolved", "answered", "detail")
    line("")
    table(columns, [_attempt(each) for each in made], empty="no attempts yet")
    if said := next((each.excerpt for each in reversed(made) if each.excerpt), ""):
        line("")
        line(f"the last answer began: {said}")


@app.command("retry")
def retry(
    delivery_ids: Annotated[list[str], typer.Argument(help="Ids of deliveries.", metavar="ID...")],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send deliveries now, whatever became of them. One that waits behind another of its order keeps its turn."""
    found = with_relay(data, lambda relay: _all(relay.retry_delivery, delivery_ids))
    if as_json:
        document(found)
        return
    for each in found:
        line(f"{each.id} is due now, to {each.endpoint}")


async def _all(retried: "Callable[[str], Awaitable[DeliveryView]]", ids: list[str]) -> "list[DeliveryView]":
    return [await retried(each) for each in ids]


def _attempt(each: "AttemptView") -> tuple[object, ...]:
    answered = "" if each.answer_seconds is None else _after(each.answer_seconds)
    resolved = _after(each.resolve_seconds) if each.address else ""
    answer = " ".join(str(part) for part in (each.status, each.error) if part)
    seconds = f"{each.seconds:.3f}"
    return (each.number, each.started_at, seconds, each.outcome, answer, each.address, resolved, answered, each.detail)


def _after(seconds: float) -> str:
    return f"after {seconds * 1000:.0f} ms"


def _last(delivery: "DeliveryView") -> object:
    return delivery.last_error or delivery.last_status
