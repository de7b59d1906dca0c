"""Options that several commands share, and how their values are read."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from relay.cli.completion import names
from relay.domain.spans import Span


class Erp(StrEnum):
    """An ERP that runs on this machine: a simulated Protheus or RM, or a real Tryton."""

    PROTHEUS = "protheus"
    RM = "rm"
    TRYTON = "tryton"


_SPAN: TypeAdapter[timedelta] = TypeAdapter(Span)


def span(text: str | timedelta) -> timedelta:
    """A time span as people write it: 250ms, 15s, 2m, 1h, 3d."""
    try:
        return _SPAN.validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is not a time span: write it like 250ms, 15s, 2m, 1h or 3d") from None


def moment(text: str | datetime) -> datetime:
    """A time as people write it, with its zone: 2026-12-01T08:00Z, 2026-12-01T08:00+02:00."""
    return _moment(text, "2026-12-01T08:00Z")


def past(text: str | datetime) -> datetime:
    """A time as for `moment`, or how long ago it was: 2h, 3d."""
    try:
        return moment(text) if isinstance(text, datetime) else datetime.now(UTC) - _SPAN.validate_python(text)
    except ValidationError:
        return _moment(text, "2026-12-01T08:00Z, or how long ago: 2h, 3d")


def _moment(text: str | datetime, like: str) -> datetime:
    try:
        found = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time: write it like {like}") from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} names no time zone: end it with Z for UTC, or with one like +02:00")
    return found


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and errors as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Directory of the embedded parts (default: RELAY_DATA, or ~/.relay).", metavar="DIR"),
]
Customer = Annotated[
    str, typer.Option("--customer", help="Whose it is; made when it is new.", metavar="CUSTOMER", show_default=False)
]
Name = Annotated[
    str,
    typer.Argument(help="Name, CUSTOMER/NAME, or id.", metavar="NAME", show_default=False, autocompletion=names),
]
