"""The program: every command under one name, and every way to end told in one line and one exit code."""

import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated

import structlog
import typer
from typer.exceptions import TyperException

from relay import __version__
from relay.cli import (
    connections,
    connectors,
    deliveries,
    demo,
    doctor,
    endpoints,
    explain,
    keys,
    listen,
    operators,
    processes,
    replay,
    simulate,
    verify,
)
from relay.cli.options import AsJson
from relay.cli.shown import document, failure, line
from relay.domain.errors import AlreadyThere, KeyTrouble, NotFound, RelayError, Transient, UserError, causes
from relay.log import configure

log = structlog.get_logger()


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

app = typer.Typer(
    name="relay",
    help="Watches purchase orders inside ERPs and tells everybody who must know: Kafka topics and signed webhooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
processes.add_to(app)
app.add_typer(connectors.app, name="connectors")
app.add_typer(connections.app, name="connections")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(replay.app, name="replay")
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.command("listen")(listen.listen)
app.command("verify")(verify.verify_by_hand)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.add_typer(keys.app, name="keys")
app.add_typer(operators.app, name="operators")


@app.command("version")
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
