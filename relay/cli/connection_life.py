"""`relay connections check`, `token`, `disconnect` and `export`: what becomes of a connection that is there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.handed_over import TokenFile, hand_over_token, private, tell_token
from relay.cli.options import AsJson, Data, Name, Yes
from relay.cli.running import with_relay
from relay.cli.shown import document, line, told

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control import FirstLook


def check(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Look at the ERP again with what is stored, and say what was found; nothing is changed."""
    look = with_relay(data, lambda relay: relay.check_connection(name))
    if as_json:
        document(look)
    else:
        tell_look(look)


def token(
    name: Name,
    *,
    token_file: TokenFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a new token for the control API, shown once; the one before it is good no more."""
    with private(token_file, "--token-file") as file:
        made = with_relay(data, lambda relay: relay.rotate_token(name))
        hand_over_token(made, file)
    of = made.connection
    good_for = f"{of.customer}/{of.name} ({of.id}) only"
    tell_token(made, token_file, "token of this connection", good_for, as_json=as_json)


def disconnect(
    name: Name,
    *,
    yes: Yes = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Erase a connection's credentials and token; its orders and events are kept."""
    from relay.cli.given import confirm

    confirm(f"Erase the credentials and the token of connection {name}?", yes=yes)
    seen = with_relay(data, lambda relay: relay.disconnect(name))
    done = f"disconnected {seen.customer}/{seen.name} ({seen.id}): its orders and events are kept"
    told(seen, done, as_json=as_json)


def export(
    name: Name,
    *,
    file: Annotated[Path, typer.Option(help="Where to write it, mode 0600: a new file.", show_default=False)],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write all that is known of a connection to a file, as lines of JSON: its orders and its events."""

    async def work(relay: "Client") -> int:
        lines = 0
        with private(file, "--file") as out:
            assert out is not None
            async with relay.exported(name) as pieces:
                async for each in pieces:
                    out.buffer.write(each)
                    lines += each.count(b"\n")
        return lines

    written = with_relay(data, work)
    told({"file": str(file), "lines": written}, f"{written} lines written to {file}", as_json=as_json)


def tell_look(look: "FirstLook") -> None:
    """What the first page of orders looked like."""
    example = f", {look.example} among them" if look.example else ""
    in_all = "" if look.orders_in_all is None else f"; there are about {look.orders_in_all} in all"
    line(f"the first page has {look.orders} orders{example}{in_all}")
    if look.found.version:
        line(f"version {look.found.version}")
    line(f"changes are found {look.found.changes}; {look.found.time_zone}")
    if look.missing_fields:
        line(f"not given by this system: {', '.join(look.missing_fields)}")
    for each in look.rejected:
        line(f"rejected record {each.remote_id or '?'}: {each.field}: {each.reason}")
    for warning in look.warnings:
        if warning not in look.fix:
            line(f"warning: {warning}")
    for advice in look.fix:
        line(f"to fix: {advice}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (check, token, disconnect, export):
        app.command(command.__name__)(command)
