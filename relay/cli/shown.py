"""Shown: tables on a terminal, aligned plain text elsewhere, JSON when asked. Only results go to standard output.

Text from outside (names, an ERP's messages, a receiver's answers) is shown without control characters, which could
otherwise write anywhere on a terminal, and is never read as markup.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

LONGEST_CELL = 60


def document(value: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    typer.echo(orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2).decode())


def document_line(value: Mapping[str, Any]) -> None:
    """One JSON document on one line, for streams of them."""
    typer.echo(orjson.dumps(value).decode())


def line(text: str) -> None:
    """A line of the result."""
    typer.echo("\n".join(clean(each) for each in text.splitlines()))


def told(value: BaseModel | Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """What was done: as a JSON document, or in a line."""
    if as_json:
        document(value)
    else:
        line(text)


def note(text: str) -> None:
    """A line about the work, to standard error."""
    typer.echo("\n".join(clean(each) for each in text.splitlines()), err=True)


def failure(code: str, exit_code: int, message: str, *, as_json: bool) -> None:
    """Why a command failed, to standard error."""
    if as_json:
        error = {"code": code, "exit_code": int(exit_code), "message": message}
        typer.echo(orjson.dumps({"error": error}).decode(), err=True)
    else:
        note(f"relay: {message}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Rows under their columns; `empty` is said when there are none."""
    cells = [[worded(each) for each in row] for row in rows]
    console = Console()
    if not cells:
        line(empty)
    elif console.is_terminal:
        shown = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in cells:
            shown.add_row(*map(Text, row))
        console.print(shown)
    else:
        lines = [list(columns), *cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for row in lines:
            line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def details(values: Mapping[str, object]) -> None:
    """Names with their values, one a line; what is empty is left out."""
    told = {name: worded(value) for name, value in values.items()}
    width = max(map(len, told))
    for name, text in told.items():
        if text:
            line(f"{name.ljust(width)}  {text}")


def worded(value: object) -> str:  # noqa: PLR0911 - a table
    """A value in the words of a table."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone().isoformat(" ", "seconds")
        case timedelta():
            return f"{value.total_seconds():g} s"
        case dict():
            return ", ".join(f"{name}={worded(each)}" for name, each in value.items())
        case list() | tuple():
            return ", ".join(map(worded, value))
        case _:
            return clean(str(value))


def brief(text: str | None) -> str:
    """The beginning of a text, for a column of a table; the whole is told where there is room."""
    text = text or ""
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3].rstrip()}..."


def clean(text: str) -> str:
    """Text without control characters."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _plain(value: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return dict(value) if isinstance(value, Mapping) else [each.model_dump(mode="json") for each in value]
