"""`relay audit`: who changed what, when, from where, and how it ended."""

from typing import Annotated

import typer

from relay.cli.options import AsJson, Data
from relay.cli.running import with_relay
from relay.cli.shown import document, table


def audit(
    *,
    subject: Annotated[
        str | None, typer.Option(help="Only what was done to this id: con_..., end_..., key_... or a customer.")
    ] = None,
    caller: Annotated[
        str | None, typer.Option(help="Only what this caller did: a key's id, a connection's id, or local.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, the latest first. Nothing can be removed from this log."""
    found = with_relay(data, lambda relay: relay.audit(most=most, subject=subject, caller=caller))
    if as_json:
        document(found)
        return
    table(
        ("when", "caller", "id", "from", "action", "subject", "customer", "status"),
        [
            (
                *(each.at, each.caller_name, each.caller_id, each.address, each.action),
                *(each.subject, each.customer_id, "broke off" if each.ended_at is None else each.status),
            )
            for each in found
        ],
        empty="nothing was changed yet" if subject is None and caller is None else "nothing that fits",
    )
