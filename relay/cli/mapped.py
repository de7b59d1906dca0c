"""Mapped: a mapping as people type it, `--map PART.NAME=VALUE`."""

from collections.abc import Sequence
from typing import Any

import orjson

from relay.domain.errors import UserError


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
