"""Given: settings from `--set`, and secrets from a prompt, a file or standard input, never from an argument."""

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer
from pydantic import BaseModel

from relay.cli.options import span
from relay.domain.errors import UserError

if TYPE_CHECKING:
    from relay.control import FormField


def settings_of(model: type[BaseModel], pairs: Sequence[str]) -> dict[str, Any]:
    """`name=value` pairs as a connector's settings. `map.member=value` fills a map; values in {} or [] are JSON.

    Raises UserError for a pair that cannot be read.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair!r} cannot be read: write it as --set NAME=VALUE")
        first, *steps = name.split(".")
        field = model.model_fields.get(first)
        value = span(text) if field and field.annotation is timedelta else _value(name, text)
        place = settings
        for step in [first, *steps][:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {name}: {step} was set as a whole before")
        place[[first, *steps][-1]] = value
    return settings


def credentials_of(fields: "Sequence[FormField]", file: Path | None) -> dict[str, Any]:
    """Credentials from a file (`-`: standard input), or asked for on the terminal. Raises UserError."""
    if file is not None:
        return _read(_text(file, "--credentials-file"))
    if not sys.stdin.isatty():
        names = ", ".join(each.name for each in fields)
        raise UserError(f"no terminal to ask for {names}: give --credentials-file FILE, or - for standard input")
    return {each.name: typer.prompt(each.name, hide_input=each.secret, err=True) for each in fields}


def signing_secrets_of(file: Path | None, variable: str, environment: Mapping[str, str]) -> list[str]:
    """Signing secrets from a file, the environment, or asked for on the terminal. Raises UserError."""
    if file is not None:
        found = _text(file, "--secret-file").split()
    elif variable in environment:
        found = environment[variable].split()
    elif sys.stdin.isatty():
        found = [typer.prompt("signing secret (whsec_... or whpk_...)", hide_input=True, err=True).strip()]
    else:
        raise UserError(f"no terminal to ask for the signing secret: give --secret-file FILE or set {variable}")
    if not found:
        raise UserError(
            "there is no signing secret: give the whsec_... or whpk_... that `relay endpoints add` has shown"
        )
    return found


def access_of(file: Path) -> dict[str, Any]:
    """What an endpoint asks for beside the signature, from a file of JSON. Raises UserError, which repeats nothing."""
    try:
        found = orjson.loads(_text(file, "--access-file"))
    except orjson.JSONDecodeError as error:
        raise UserError(f"--access-file {file} is not JSON: see line {error.lineno}") from None
    if not isinstance(found, dict):
        raise UserError(f"--access-file {file} holds no JSON object: write it as docs/webhooks.md shows")
    return found


def confirm(question: str, *, yes: bool) -> None:
    """Go on when a person says yes, or has. Raises typer.Abort, and UserError when there is no terminal to ask on."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"no terminal to ask: {question} Give --yes")
    typer.confirm(question, abort=True, err=True)


def _value(name: str, text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UserError(f"--set {name}: the value begins like JSON and is none: {error}") from None


def _text(file: Path, option: str) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.expanduser().read_text()
    except OSError as error:
        raise UserError(f"{option} {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{option} {file} is not text in UTF-8") from None


def _read(text: str) -> dict[str, Any]:
    """JSON, or name=value lines; errors name the line and never repeat it."""
    if text.lstrip().startswith("{"):
        try:
            return dict(orjson.loads(text))
        except orjson.JSONDecodeError:
            raise UserError("the credentials begin like JSON and are none: check quotes and commas") from None
    found = {}
    for number, each in enumerate(text.splitlines(), 1):
        name, equals, value = each.partition("=")
        if not each.strip() or each.lstrip().startswith("#"):
            continue
        if not equals:
            raise UserError(f"line {number} of the credentials is not name=value")
        found[name.strip()] = value.strip()
    return found
