"""`relay connections mapping`: where each field comes from, and what a connection maps otherwise."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from relay.cli.mapped import Changes, changed, overrides_of
from relay.cli.options import AsJson, Data, Name
from relay.cli.running import with_relay
from relay.cli.shown import brief, document, line, note, table
from relay.domain.capability_words import COMMAND_COLUMNS, OWN_FIELDS, READ_ONLY, command_rows, taken, typed, values
from relay.domain.mapping import Retold

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control.mapping_views import MappingChecked, MappingSaved, MappingView
    from relay.domain.capabilities import FieldCapability

app = typer.Typer(help="Where each field of an order comes from, and what is mapped otherwise.", no_args_is_help=True)

Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Part of the mapping: units.CX=BX, fields.C7_XPRIOR=text; see docs/mapping.md.",
        metavar="PART.NAME=VALUE",
    ),
]
Unmapped = Annotated[
    list[str] | None, typer.Option("--unmap", help="What is no longer said: units.CX, or a part.", metavar="PART.NAME")
]
Overrides = Annotated[
    Path | None,
    typer.Option("--file", help="All overrides as JSON, instead of those that stand; - is standard input."),
]
Told = Annotated[
    Retold,
    typer.Option("--retold", help="How orders that only the mapping shows otherwise are told."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Save what loses orders, names missing columns, or cannot be tried.")
]


@app.command("show")
def show(
    name: Name,
    *,
    sample: Annotated[
        bool, typer.Option("--sample", help="Ask the ERP for some orders, and show fields that no rule reads.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show where each field of a purchase order comes from, and whether the ERP takes it."""
    found = with_relay(data, lambda client: client.mapping(name, sample=sample))
    if as_json:
        document(found)
    else:
        _tell_mapping(found)


@app.command("check")
def check(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    mapping: Mapped = None,
    unmapped: Unmapped = None,
    file: Overrides = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Try a mapping on live orders and show what it would change. Nothing is saved."""
    changes = Changes(tuple(mapping or ()), tuple(unmapped or ()), file)

    async def work(client: "Client") -> "MappingChecked":
        wanted, _ = await _wanted(client, name, changes)
        return await client.check_mapping(name, wanted)

    checked = with_relay(data, work)
    if as_json:
        document(checked)
    else:
        _tell_checked(checked)
    if not checked.works:
        raise typer.Exit(1)


@app.command("set")
def set_(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    mapping: Mapped = None,
    unmapped: Unmapped = None,
    file: Overrides = None,
    retold: Told = Retold.MAPPING_CHANGED,
    force: Force = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Save a mapping, after trying it on live orders; all orders are read again with it."""
    changes = Changes(tuple(mapping or ()), tuple(unmapped or ()), file)

    async def work(client: "Client") -> "MappingSaved":
        wanted, base = await _wanted(client, name, changes)
        return await client.set_mapping(name, wanted, retold=retold, force=force, base=base)

    if not as_json:
        note("trying it on live orders ...")
    _tell_saved(with_relay(data, work), as_json=as_json)


@app.command("versions")
def versions(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """List all versions of the overrides, newest first."""
    found = with_relay(data, lambda client: client.mapping_versions(name))
    if as_json:
        document(found)
        return
    rows = [
        (each.number, each.made_at, each.made_by, each.retold, each.reverts_to, brief(_json(each.overrides.told())))
        for each in found
    ]
    table(("version", "made", "by", "retold", "back to", "overrides"), rows, empty="no overrides yet")


@app.command("revert")
def revert(  # noqa: PLR0913 - one per option
    name: Name,
    version: Annotated[int, typer.Argument(help="Which version to bring back; 0 is no overrides.", metavar="VERSION")],
    *,
    retold: Told = Retold.MAPPING_CHANGED,
    force: Force = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Bring an older version back, as a new one."""
    saved = with_relay(data, lambda client: client.revert_mapping(name, version, retold=retold, force=force))
    _tell_saved(saved, as_json=as_json)


async def _wanted(client: "Client", name: str, changes: Changes) -> tuple[dict[str, Any], int]:
    """The overrides that are meant, and the version that they begin from."""
    stands = await client.mapping(name)
    if changes.file is not None:
        return overrides_of(changes.file), stands.version
    return changed(stands.overrides.told(), changes), stands.version


def _tell_mapping(found: "MappingView") -> None:
    rows = [(*_row(each), *taken(each), values(each)) for each in found.fields]
    table(("field", "source", "rule", "type", "in a new order", "changed", "values"), rows, empty="nothing is mapped")
    line("\ncommands:")
    table(COMMAND_COLUMNS, list(command_rows(found.commands)), empty=READ_ONLY)
    if found.custom_fields:
        line(OWN_FIELDS)
    line(f"\noverrides, version {found.version}: {_json(found.overrides.told())}")
    if sample := found.sample:
        line(f"\nfields that no rule reads, in {sample.orders} orders:")
        places = {True: "line", False: "order"}
        fields = [(each.source, places[each.per_line], ", ".join(each.samples)) for each in sample.unmapped]
        table(("source", "of", "samples"), fields, empty="none, or the ERP does not say")
        for each in (*(f"missing in the ERP: {name}" for name in sample.missing), *sample.notices):
            line(each)


def _row(each: "FieldCapability") -> tuple[object, ...]:
    if not each.readable:
        return each.path, "-", "", typed(each) if each.creatable or each.updatable else ""
    return each.path, each.source, each.rule, typed(each)


def _tell_checked(checked: "MappingChecked") -> None:
    line(f"tried on {checked.orders} orders: {'works' if checked.works else 'does not work'}")
    for problem in checked.problems:
        line(f"problem: {problem}")
    rows = [
        (field.path, field.orders, field.values, example.order, brief(example.before), brief(example.after))
        for field in checked.changed
        for example in field.examples
    ]
    table(("field", "orders", "values", "for example", "before", "after"), rows, empty="no order would differ")
    for each in checked.notices:
        line(f"notice: {each}")


def _tell_saved(saved: "MappingSaved", *, as_json: bool) -> None:
    if as_json:
        document(saved)
        return
    if not saved.saved:
        line(f"nothing to change: the mapping is version {saved.version} already")
        return
    if saved.checked:
        _tell_checked(saved.checked)
    line(f"saved as version {saved.version}; all orders are read again with it ({saved.sync_id})")


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
