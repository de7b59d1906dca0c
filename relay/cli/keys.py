"""`relay keys`: master keys, which wrap every customer's data key; both are shown, checked and replaced here."""

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from relay.cli.options import AsJson, Data
from relay.cli.progress import progress
from relay.cli.running import settings_at, with_control, with_relay
from relay.cli.shown import document, line, table
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relay.client import Client
    from relay.control import Control, KeyProblem, KeysChecked, KeysRotated, KeysShown

Answer = TypeVar("Answer")

NOT_WELL = 1
"""Exit code when something does not open."""
MOST_TOLD = 100

app = typer.Typer(help="Master keys and customers' data keys.", no_args_is_help=True)


@app.callback()
def _keys() -> None:
    """Master keys, which wrap the data key of every customer, and those data keys."""


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


@app.command("show")
def show(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the master keys, how many data keys each has wrapped, and which are missing."""
    shown = _asked(data, lambda relay: relay.keys(), lambda control: control.keys.show())
    if as_json:
        document(shown)
    else:
        _tell_shown(shown)


@app.command("check")
def check(*, data: Data = None, as_json: AsJson = False) -> None:
    """Open every data key and every sealed value, and name what does not open; exit code 1 then."""

    async def work(control: "Control") -> "KeysChecked":
        with progress("data keys opened") as told:
            return await control.keys.check(told)

    checked = _asked(data, lambda relay: relay.check_keys(), work)
    if as_json:
        document(checked)
    else:
        line(f"{checked.data_keys} data keys and {checked.values} sealed values were opened")
        _tell_problems(checked.problems)
    if not checked.ok:
        raise typer.Exit(NOT_WELL)


@app.command("rotate")
def rotate(
    *,
    data_keys: Annotated[
        bool, typer.Option("--data-keys", help="Make new data keys and seal everything anew with them.")
    ] = False,
    customer: Annotated[str | None, typer.Option(help="Only this customer's data key; with --data-keys.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Wrap every data key by the current master key; the others may then be removed.

    With --data-keys the data keys are replaced, too. Workers go on meanwhile. It may be stopped and given again: it
    goes on where it was.
    """
    if customer is not None and not data_keys:
        raise UserError("--customer goes with --data-keys: wrapping anew is done for all customers at once")

    async def turned(control: "Control") -> "KeysRotated":
        if data_keys:
            with progress("customers with a new data key") as told:
                return await control.keys.renew(customer, told)
        with progress("data keys looked at") as told:
            return await control.keys.rewrap(told)

    async def work(control: "Control") -> "KeysRotated":
        from relay.control.noted import noted

        what = "data_keys" if data_keys else "master_keys"
        return await noted(
            control.registry.database, "rotate_keys", lambda: turned(control), subject=what, customer=customer
        )

    rotated = _asked(data, lambda relay: relay.rotate_keys(data_keys=data_keys, customer=customer), work)
    if as_json:
        document(rotated)
    else:
        _tell_rotated(rotated, data_keys=data_keys)
    if not rotated.ok:
        raise typer.Exit(NOT_WELL)


def _asked(
    data: Path | None, there: "Callable[[Client], Awaitable[Answer]]", here: "Callable[[Control], Awaitable[Answer]]"
) -> Answer:
    """Of the relay that RELAY_API__URL names and its keys; or here, with a bar that tells how far it is."""
    return with_relay(data, there) if settings_at(data).api.url else with_control(data, here)


def _tell_shown(shown: "KeysShown") -> None:
    table(
        ("master key", "state", "data keys", "needed by"),
        [
            (
                each.id,
                "missing" if not each.here else "current" if each.current else "there",
                each.data_keys,
                each.customers,
            )
            for each in shown.masters
        ],
        empty="no master keys",
    )
    line(f"{shown.customers} customers with {shown.data_keys} data keys")
    for customer in shown.damaged:
        line(f"the data key of {customer} is damaged: see `relay keys check`")
    if shown.rotation_began:
        line("a rotation of all data keys is not done: `relay keys rotate --data-keys` goes on with it")
    elif shown.exchanging:
        line(f"something is sealed with older data keys of {', '.join(shown.exchanging)}: see `relay keys check`")


def _tell_rotated(rotated: "KeysRotated", *, data_keys: bool) -> None:
    if data_keys:
        line(f"{rotated.done} customers have a new data key; {rotated.values} values were sealed anew")
    else:
        line(f"{rotated.done} data keys were wrapped by the current master key")
    _tell_problems(rotated.problems)


def _tell_problems(problems: "tuple[KeyProblem, ...]") -> None:
    for each in problems[:MOST_TOLD]:
        where = f"{each.purpose} of {each.subject}" if each.subject else f"data key {each.version}"
        values = f" ({each.values} values are sealed with it)" if each.values else ""
        line(f"{each.customer}: {where}: {each.problem}{values}")
    if len(problems) > MOST_TOLD:
        line(f"and {len(problems) - MOST_TOLD} more: --json tells all")
