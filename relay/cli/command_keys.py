"""`relay connections command-key`: whose signature commands from Kafka need, if RELAY_COMMANDS__SIGNED asks for one."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.handed_over import private
from relay.cli.options import AsJson, Data, Name
from relay.cli.running import with_relay
from relay.cli.shown import document, line
from relay.domain.ed25519_keys import SEED_BYTES, new_private_key, public_key
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from relay.control.command_keys import CommandKeyView

app = typer.Typer(help="Whose signature commands from Kafka need.", no_args_is_help=True)


@app.command("show")
def show(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show the public key that a connection's commands from Kafka are verified with."""
    _tell(with_relay(data, lambda relay: relay.command_key(name)), as_json=as_json)


@app.command("set")
def set_(
    name: Name,
    *,
    given: Annotated[
        str | None, typer.Option("--public-key", help="The sender's public key, whpk_....", metavar="KEY")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Make a new pair here, and write its private key to this file, mode 0600.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take commands from Kafka that the holder of this key signed; the key before it is good no more.

    With --key-file a new pair is made on this machine: the private key is written to the file, for who sends commands,
    and only the public one goes to relay.
    """
    if (given is None) == (key_file is None):
        raise UserError("give --public-key KEY, or --key-file FILE for a new pair")
    with private(key_file, "--key-file") as file:
        if file:
            made = new_private_key(secrets.token_bytes(SEED_BYTES))
            file.write(f"{made}\n")
            given = public_key(made)
        wanted = str(given)
        found = with_relay(data, lambda relay: relay.set_command_key(name, wanted))
    _tell(found, as_json=as_json)
    if key_file and not as_json:
        line(f"private key written to {key_file}: give it to who sends commands, and to nobody else")


@app.command("clear")
def clear(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Forget the key: where signatures are required, no command from Kafka is taken for this connection any more."""
    _tell(with_relay(data, lambda relay: relay.clear_command_key(name)), as_json=as_json)


def _tell(found: "CommandKeyView", *, as_json: bool) -> None:
    if as_json:
        document(found)
        return
    line(f"{found.customer}/{found.connection} ({found.connection_id}): {found.public_key or 'no command key'}")
