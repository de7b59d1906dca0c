"""`relay customers`: whose orders and endpoints they are."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.options import AsJson, Data, Yes
from relay.cli.running import with_relay
from relay.cli.shown import details, document, table, told

if TYPE_CHECKING:
    from relay.control.customers import CustomerView

app = typer.Typer(help="Whose connections and endpoints they are.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The customer: see `relay customers list`.", metavar="CUSTOMER")]


@app.command("list")
def listed(*, data: Data = None, as_json: AsJson = False) -> None:
    """List all customers, and how many connections and endpoints each has."""
    found = with_relay(data, lambda relay: relay.customers())
    if as_json:
        document(found)
        return
    table(
        ("customer", "connections", "endpoints", "added"),
        [(each.id, each.connections, each.endpoints, each.created_at) for each in found],
        empty="no customers yet: relay connections add CONNECTOR --customer CUSTOMER",
    )


@app.command("show")
def show(customer: Id, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one customer."""
    _tell(with_relay(data, lambda relay: relay.customer(customer)), as_json=as_json)


@app.command("add")
def add(
    customer: Annotated[
        str,
        typer.Argument(help="What to call it: 1 to 80 letters, digits, blanks or . _ - @.", metavar="CUSTOMER"),
    ],
    *,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add a customer. A new connection or endpoint does so by itself, so that this is seldom needed."""
    added = with_relay(data, lambda relay: relay.add_customer(customer))
    told(added, f"added {added.id}", as_json=as_json)


@app.command("remove")
def remove(
    customer: Id,
    *,
    yes: Yes = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove a customer that has no connections and endpoints left, with its data keys."""
    from relay.cli.given import confirm

    confirm(f"Remove customer {customer} and its data keys?", yes=yes)
    removed = with_relay(data, lambda relay: relay.remove_customer(customer))
    told(removed, f"removed {removed.id}", as_json=as_json)


def _tell(seen: "CustomerView", *, as_json: bool) -> None:
    if as_json:
        document(seen)
    else:
        details({"customer": seen.id, **{n.replace("_", " "): v for n, v in seen.model_dump(exclude={"id"}).items()}})
