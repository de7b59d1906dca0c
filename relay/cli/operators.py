"""`relay operators`: keys for the control API."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.options import AsJson, Data
from relay.cli.running import with_relay
from relay.cli.shown import document, line, table
from relay.domain.callers import Scope

if TYPE_CHECKING:
    from relay.control.callers import OperatorView

app = typer.Typer(help="Keys for the control API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The key's name or id.", metavar="NAME", show_default=False)]


@app.command("add")
def add(
    name: Annotated[
        str, typer.Argument(help="What to call it: who has it, and what for.", metavar="NAME", show_default=False)
    ],
    *,
    scope: Annotated[Scope, typer.Option(help="How much it may do; each holds the ones before it.")] = Scope.READ,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make an operator key. It is shown once."""
    added = with_relay(data, lambda relay: relay.add_operator(name, scope))
    if as_json:
        document(added)
    else:
        line(f"operator key, shown only now: {added.key}")
        line(f"{added.operator.name} ({added.operator.id}) may {added.operator.scope}")


@app.command("list")
def listed(*, data: Data = None, as_json: AsJson = False) -> None:
    """List all operator keys, revoked ones too."""
    found = with_relay(data, lambda relay: relay.operators())
    if as_json:
        document(found)
        return
    table(
        ("name", "scope", "made", "revoked", "id"),
        [(each.name, each.scope, each.created_at, each.revoked_at, each.id) for each in found],
        empty="no operator keys yet: relay operators add NAME",
    )


@app.command("revoke")
def revoke(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Revoke an operator key: it is good for nothing from now on."""
    revoked: OperatorView = with_relay(data, lambda relay: relay.revoke_operator(name))
    if as_json:
        document(revoked)
    else:
        line(f"revoked {revoked.name} ({revoked.id})")
