"""Asked: commands as people keep them in files: one JSON object, a list of them, or one on each line."""

import json
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from relay.domain.commands import BadCommand, read_command
from relay.domain.errors import UserError


def asked_in(file: Path, connection_id: str | None) -> list[dict[str, Any]]:
    """The commands of a file (`-`: standard input), for this connection if one is given, with an id each.

    Every one is read before the first is sent. Raises UserError naming which cannot be used, and why.
    """
    found = list(_objects(file))
    for number, each in enumerate(found, 1):
        if connection_id is not None:
            each["connection_id"] = connection_id
        each.setdefault("command_id", str(uuid.uuid4()))
        place = f", command {number}" if len(found) > 1 else ""
        try:
            read_command(each)
        except BadCommand as wrong:
            hint = " (--connection fills it in)" if wrong.field == "connection_id" else ""
            raise UserError(f"{_called(file)}{place}: {wrong}{hint}") from None
    return found


def tried(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a dry run. Under an id of its own, or the command itself could not be sent any more."""
    return {**asked, "dry_run": True, "command_id": str(uuid.uuid4())}


def _objects(file: Path) -> Sequence[dict[str, Any]]:
    text = _text(file)
    try:
        whole = _json(text)
        found = whole if isinstance(whole, list) else [whole]
    except ValueError:
        found = list(_lines(file, text))
    if not found or not all(isinstance(each, dict) for each in found):
        raise UserError(f"{_called(file)} holds no commands: see `relay commands example create`")
    return found


def _lines(file: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _json(line)
            except ValueError:
                told = f"{_called(file)} is neither JSON nor one JSON object a line: see line {number}"
                raise UserError(told) from None


def _json(text: str) -> Any:
    # Amounts keep their digits: they go on as text.
    return json.loads(text, parse_float=Decimal)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "it is no text"
        raise UserError(f"{_called(file)} cannot be read: {why}") from None


def _called(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)
