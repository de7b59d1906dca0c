"""`relay connectors`: which ERPs relay speaks, and what each one asks for."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from relay.cli.completion import connector_names
from relay.cli.options import AsJson
from relay.cli.shown import document, line, table
from relay.domain.capability_words import COMMAND_COLUMNS, FIELD_COLUMNS, READ_ONLY, command_rows, field_rows

if TYPE_CHECKING:
    from relay.control import FormField

app = typer.Typer(help="ERPs that relay speaks.", invoke_without_command=True)


@app.callback()
def listed(context: typer.Context, *, as_json: AsJson = False) -> None:
    """ERPs that relay speaks; without a command, lists them."""
    if not context.invoked_subcommand:
        list_(as_json=as_json)


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the ERPs that relay speaks."""
    from relay.connectors import CONNECTORS
    from relay.control import connector_form

    forms = [connector_form(kind) for kind in CONNECTORS.values()]
    if as_json:
        document(forms)
    else:
        table(("name", "system"), [(form.name, form.title) for form in forms], empty="none")


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a connector: see `relay connectors`.", metavar="CONNECTOR", autocompletion=connector_names
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """List a connector's settings and credentials, and what can be written: commands, and fields until when."""
    from relay.connectors import CONNECTORS
    from relay.control import connector_form, connector_named
    from relay.control.systems import system_of

    kind = connector_named(CONNECTORS, name)
    form, system = connector_form(kind), asyncio.run(system_of(kind))
    if as_json:
        document({**form.model_dump(mode="json"), "capabilities": system.model_dump(mode="json")})
        return
    line(f"{form.title}: relay connections add {form.name} --customer CUSTOMER --set NAME=VALUE ...")
    line("\nSettings, each by --set NAME=VALUE; members of a map by --set MAP.MEMBER=VALUE or as JSON")
    _fields(form.settings)
    line("\nCredentials, asked for, or from --credentials-file")
    _fields(form.credentials)
    line("\nCommands that it takes")
    table(COMMAND_COLUMNS, list(command_rows(system.commands)), empty=READ_ONLY)
    if system.commands:
        line("\nFields that are written")
        table(FIELD_COLUMNS, list(field_rows(system)), empty="none")


def _fields(fields: "tuple[FormField, ...]") -> None:
    rows = [(each.name, each.type, _default(each), each.description) for each in fields]
    table(("name", "type", "default", "meaning"), rows, empty="none")


def _default(field: "FormField") -> str:
    if field.required:
        return "required"
    return "" if field.default is None else orjson.dumps(field.default).decode()
