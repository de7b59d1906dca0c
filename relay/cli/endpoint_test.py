"""`relay endpoints test`: a signed sample now, and what came back."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.options import AsJson, Data, Name
from relay.cli.running import with_relay
from relay.cli.shown import document, line
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from relay.control import EndpointTested

NOT_TAKEN = 1
LONGEST_ANSWER = 200


def send_samples(
    name: Name,
    *,
    event_types: Annotated[
        list[str] | None,
        typer.Option("--type", help="An event type to send a sample of, such as approved; again for more."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A sample of each type that the endpoint wants.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send a signed sample now and tell what came back, and what to do when it was not taken.

    Nothing is recorded, and what waits is not touched. Ends with 0 when every sample was answered 2xx, and with 1 when
    not. Receivers know a test by its webhook-id, which begins with test_.
    """
    if every and event_types:
        raise UserError("give --type or --all, not both")
    tested = with_relay(data, lambda relay: relay.test_endpoint(name, event_types or (), every=every))
    if as_json:
        document(tested)
    else:
        _tell_tries(tested)
    if not tested.ok:
        raise typer.Exit(NOT_TAKEN)


def _tell_tries(tested: "EndpointTested") -> None:
    for each in tested.tries:
        where = f" from {each.address}" if each.address else ""
        line(f"{each.type}  {each.error or each.status} in {each.milliseconds} ms{where}  {each.webhook_id}")
        if answered := " ".join(each.excerpt.split()):
            line(f"  answered: {answered[:LONGEST_ANSWER]}{'...' if len(answered) > LONGEST_ANSWER else ''}")
        if each.advice:
            line(f"  {each.advice}")
