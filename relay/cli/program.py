"""The program: every command under one name, and every way to end told in one line and one exit code."""

import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Any

import structlog
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from relay import __version__
from relay.cli import (
    audit,
    commands,
    connections,
    connectors,
    customers,
    dead_letters,
    deliveries,
    demo,
    doctor,
    endpoints,
    explain,
    keys,
    listen,
    operators,
    orders,
    processes,
    replay,
    simulate,
    verify,
)
from relay.cli.options import AsJson
from relay.cli.processes import RUN
from relay.cli.shown import document, failure, line
from relay.domain.errors import AlreadyThere, KeyTrouble, NotFound, RelayError, Transient, UserError, causes
from relay.log import configure

log = structlog.get_logger()

NOUNS, TROUBLE, ACCESS, TRIAL = (
    "Connect, read, write, deliver",
    "When something is wrong",
    "Keys and callers",
    "Try it",
)
ARRANGED = (RUN, NOUNS, TROUBLE, ACCESS, TRIAL)
"""Groups of commands in `relay --help`."""


class Code(IntEnum):
    """Exit codes, for scripts."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    INTERRUPTED = 130


# The first that fits counts.
_CODES: tuple[tuple[type[RelayError], Code], ...] = (
    (NotFound, Code.NOT_FOUND),
    (AlreadyThere, Code.FAILED),
    (KeyTrouble, Code.FAILED),
    (UserError, Code.USAGE),
    (Transient, Code.UNAVAILABLE),
    (RelayError, Code.FAILED),
)


class _Arranged(TyperGroup):
    """Groups of commands in the order of `ARRANGED`; Typer shows single commands before nouns."""

    def list_commands(self, ctx: Any) -> list[str]:
        groups = {name: ARRANGED.index(vars(command)["rich_help_panel"]) for name, command in self.commands.items()}
        return sorted(super().list_commands(ctx), key=groups.__getitem__)


app = typer.Typer(
    name="relay",
    cls=_Arranged,
    help="Watches purchase orders inside ERPs and tells everybody who must know: Kafka topics and signed webhooks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
processes.add_to(app)
for noun, group in (
    ("connectors", connectors.app),
    ("customers", customers.app),
    ("connections", connections.app),
    ("orders", orders.app),
    ("commands", commands.app),
    ("endpoints", endpoints.app),
    ("deliveries", deliveries.app),
    ("replay", replay.app),
    ("dead-letters", dead_letters.app),
):
    app.add_typer(group, name=noun, rich_help_panel=NOUNS)
for command in (doctor.doctor, explain.explain):
    app.command(command.__name__, rich_help_panel=TROUBLE)(command)
app.add_typer(keys.app, name="keys", rich_help_panel=ACCESS)
app.add_typer(operators.app, name="operators", rich_help_panel=ACCESS)
app.command("audit", rich_help_panel=ACCESS)(audit.audit)
app.command("demo", rich_help_panel=TRIAL)(demo.demo)
app.command("simulate", rich_help_panel=TRIAL)(simulate.simulate)
app.command("listen", rich_help_panel=TRIAL)(listen.listen)
app.command("verify", rich_help_panel=TRIAL)(verify.verify_by_hand)


@app.command("version", rich_help_panel=RUN)
def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        document({"version": __version__})
    else:
        line(f"relay {__version__}")


def _version_asked(asked: bool) -> None:  # noqa: FBT001 - Typer's form of a callback
    if asked:
        line(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def _relay(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version_asked, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    _ = version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    as_json = "--json" in arguments
    # Until the settings are read; structlog's own default would show local variables in a traceback.
    configure("warning", json_lines=None)
    try:
        ended = typer.main.get_command(app).main(list(arguments), prog_name="relay", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`); what Python still holds for it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Code.FAILED
    except typer.Abort:  # Ctrl-C or Ctrl-D at a question, or a no
        ended = Code.INTERRUPTED
    except TyperException as wrong:
        return _misused(wrong, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last place: told in one line instead of a traceback
        return _failed(error, as_json=as_json)
    if ended == Code.INTERRUPTED:
        failure("interrupted", Code.INTERRUPTED, "interrupted", as_json=as_json)
    return ended if isinstance(ended, int) else Code.DONE


def _misused(wrong: TyperException, *, as_json: bool) -> int:
    context = getattr(wrong, "ctx", None)
    message = wrong.format_message()
    if not message.strip():  # `relay connections`: its help has been printed
        return Code.USAGE
    hint = f" See `{context.command_path} --help`." if context else ""
    failure("usage", Code.USAGE, f"{_sentence(message)}{hint}", as_json=as_json)
    return Code.USAGE


def _sentence(message: str) -> str:
    message = message.replace("Value error, ", "").rstrip(".")
    return message if message.endswith("?") else f"{message}."


def _failed(error: Exception, *, as_json: bool) -> int:
    found = list(causes(error))
    known = next((each for each in found if isinstance(each, RelayError)), None)
    if known is None or not all(isinstance(each, RelayError) for each in found):
        log.error("relay.failed", exc_info=error)
        message = f"unexpected {type(found[0]).__name__}: this is a bug in relay; the log above says where"
        failure("failed", Code.FAILED, message, as_json=as_json)
        return Code.FAILED
    code = next(code for kind, code in _CODES if isinstance(known, kind))
    failure(code.name.lower(), code, str(known), as_json=as_json)
    return code
