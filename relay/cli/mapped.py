"""Mapped: a mapping as people type it, `--map PART.NAME=VALUE`, or keep it in a file."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from relay.domain.errors import UserError


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be said, what is not any more, and a file that says all instead."""

    mapped: tuple[str, ...] = ()
    unmapped: tuple[str, ...] = ()
    file: Path | None = None


def changed(stands: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The overrides that stand with these changes. Raises UserError for what cannot be read, or was never said."""
    wanted: dict[str, Any] = {part: dict(names) for part, names in stands.items()}
    for each in changes.unmapped:
        part, dot, name = each.partition(".")
        if part not in wanted or (dot and name not in wanted[part]):
            raise UserError(f"--unmap {each}: the mapping says nothing of it")
        if dot:
            del wanted[part][name]
        else:
            del wanted[part]
    for part, names in mapping_of(changes.mapped).items():
        new = dict.fromkeys(names, "auto") if isinstance(names, list) else names
        wanted[part] = {**wanted.get(part, {}), **new}
    return wanted


def overrides_of(file: Path) -> dict[str, Any]:
    """All overrides from a file of JSON (`-`: standard input). Raises UserError."""
    try:
        found = orjson.loads(sys.stdin.read() if str(file) == "-" else file.expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--file {file} cannot be read: {getattr(error, 'strerror', '') or 'it is no text'}") from None
    except orjson.JSONDecodeError as error:
        raise UserError(f"--file {file} is not JSON: see line {error.lineno}") from None
    if not isinstance(found, dict):
        raise UserError(f"--file {file} holds no JSON object: write it as docs/mapping.md shows")
    return found


def mapping_of(pairs: Sequence[str]) -> dict[str, Any]:
    """`part.name=value` pairs as overrides; `part=` with JSON gives a whole part, and a name alone stands for `auto`.

    A name may hold dots. Raises UserError for a pair that cannot be read.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        part, dot, member = name.partition(".")
        if dot and member:
            names = overrides.setdefault(part, {})
            if not isinstance(names, dict):
                raise UserError(f"--map {name}: {part} was given as a whole before")
            names[member] = value if equals else "auto"
        elif equals and value.startswith(("{", "[")):
            overrides[part] = _json(part, value)
        else:
            raise UserError(f"--map {pair!r} cannot be read: write it as --map PART.NAME=VALUE, like units.CX=BX")
    return overrides


def _json(part: str, value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UserError(f"--map {part}: the value begins like JSON and is none: {error}") from None
