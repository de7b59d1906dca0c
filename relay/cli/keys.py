"""`relay keys`: master keys, which wrap every customer's data key."""

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.options import AsJson
from relay.cli.shown import document, line

app = typer.Typer(help="Master keys.", no_args_is_help=True)


@app.callback()
def _keys() -> None:
    """Master keys, which wrap the data key of every customer."""


@app.command("new")
def new(
    *,
    file: Annotated[
        Path | None, typer.Option(help="Write it here, mode 0600, for RELAY_VAULT__MASTER_KEY_FILE.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a master key: printed, for RELAY_VAULT__MASTER_KEY, or written to a new file.

    Keep a copy: without it nothing that was sealed opens again.
    """
    from relay.vault.envelope import KEY_BYTES
    from relay.vault.keyring import new_master_key_file

    if file is not None:
        made = new_master_key_file(file.expanduser())
        told = {"key_id": made.current, "file": str(file)}
        said = f"wrote master key {made.current} to {file}: keep a copy in a safe place"
    else:
        key = f"k{datetime.now(UTC):%Y%m%d}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"
        told, said = {"key_id": key.partition(":")[0], "master_key": key}, key
    if as_json:
        document(told)
    else:
        line(said)
