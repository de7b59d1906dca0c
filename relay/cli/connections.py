"""`relay connections`: whose ERPs are watched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import command_keys, connection_life, schedules, syncs
from relay.cli import mapping as mappings
from relay.cli.completion import connector_names
from relay.cli.connection_life import tell_look
from relay.cli.mapping import Mapped
from relay.cli.options import AsJson, Customer, Data, Name, Yes
from relay.cli.running import with_relay
from relay.cli.schedules import (
    AnswerWithin,
    Blackout,
    CallsAtOnce,
    CallsPerSecond,
    CompareEvery,
    Hours,
    PollEvery,
    PollSlowest,
    ReconcileEvery,
    TimeZone,
)
from relay.cli.shown import details, document, line, note, table, told
from relay.cli.syncs import HISTORY, Back, FirstAnnounce
from relay.domain.syncs import Announce

if TYPE_CHECKING:
    from relay.control import ConnectionAdded, ConnectionView

app = typer.Typer(help="ERPs that are watched.", no_args_is_help=True)

CredentialsFile = Annotated[
    Path | None, typer.Option(help="JSON or name=value lines; - is standard input. Without it they are asked for.")
]
Check = Annotated[bool, typer.Option(help="Read a page of orders before storing anything.")]


@app.command("add")
def add(  # noqa: PLR0913 - one per option
    kind: Annotated[
        str,
        typer.Argument(
            help="Which ERP: see `relay connectors`.",
            metavar="CONNECTOR",
            show_default=False,
            autocompletion=connector_names,
        ),
    ],
    *,
    customer: Customer,
    name: Annotated[str | None, typer.Option(help="What to call it (default: the connector's name).")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting: see `relay connectors show CONNECTOR`.", metavar="NAME=VALUE"),
    ] = None,
    mapping: Mapped = None,
    credentials_file: CredentialsFile = None,
    history: Back = HISTORY,
    announce: FirstAnnounce = Announce.SNAPSHOT,
    poll_every: PollEvery = None,
    poll_slowest: PollSlowest = None,
    reconcile_every: ReconcileEvery = None,
    compare_every: CompareEvery = None,
    hours: Hours = None,
    blackout: Blackout = None,
    time_zone: TimeZone = None,
    calls_per_second: CallsPerSecond = None,
    calls_at_once: CallsAtOnce = None,
    answer_within: AnswerWithin = None,
    check: Check = True,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add a connection to an ERP, after reading a first page of orders from it.

    Its orders of the last 90 days, or as --history says, are read first and told as snapshots; then what changes.

    Credentials are asked for or read from a file, and stored sealed.
    """
    from relay.cli.given import credentials_of, settings_of
    from relay.cli.mapped import mapping_of
    from relay.connectors import CONNECTORS
    from relay.control import (
        POLL_EVERY,
        RECONCILE_EVERY,
        connector_form,
        connector_named,
        mapping_given,
        settings_given,
    )

    schedule = schedules.given(
        poll_slowest, compare_every, hours, blackout, time_zone, calls_per_second, calls_at_once, answer_within
    )
    connector = connector_named(CONNECTORS, kind)
    given = settings_of(connector.settings, settings or [])
    settings_given(connector, given)  # before somebody types a password for nothing
    overrides = mapping_of(mapping or [])
    mapping_given(connector, overrides)
    credentials = credentials_of(connector_form(connector).credentials, credentials_file)
    if check and not as_json:
        note(f"asking {connector.title} for orders ...")
    added = with_relay(
        data,
        lambda relay: relay.add_connection(
            customer=customer,
            connector=kind,
            name=name,
            settings=given,
            credentials=credentials,
            mapping=overrides,
            poll_every=poll_every or POLL_EVERY,
            reconcile_every=reconcile_every or RECONCILE_EVERY,
            schedule=schedule,
            history=history,
            announce=announce,
            check=check,
        ),
    )
    if as_json:
        document(added)
    else:
        _tell_added(added, "added")


@app.command("list")
def listed(*, data: Data = None, as_json: AsJson = False) -> None:
    """List all connections."""
    found = with_relay(data, lambda relay: relay.connections())
    if as_json:
        document(found)
        return
    table(
        ("customer", "name", "connector", "state", "polled", "problem", "id"),
        [(c.customer, c.name, c.connector, c.state, c.polled_at, c.problem, c.id) for c in found],
        empty="no connections yet: relay connections add CONNECTOR",
    )


@app.command("show")
def show(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one connection: settings, state, problem and counts."""
    _tell(with_relay(data, lambda relay: relay.connection(name)), as_json=as_json)


@app.command("pause")
def pause(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Stop polling; what was read before is still published and delivered."""
    _tell(with_relay(data, lambda relay: relay.pause_connection(name)), as_json=as_json)


@app.command("resume")
def resume(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Poll again, from where it stopped."""
    _tell(with_relay(data, lambda relay: relay.resume_connection(name)), as_json=as_json)


@app.command("reconnect")
def reconnect(
    name: Name,
    *,
    credentials_file: CredentialsFile = None,
    check: Check = True,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give a connection new credentials, after trying them; it goes on where it stopped."""
    from relay.cli.given import credentials_of
    from relay.connectors import CONNECTORS
    from relay.control import connector_form, connector_named

    connector = connector_named(CONNECTORS, with_relay(data, lambda relay: relay.connection(name)).connector)
    credentials = credentials_of(connector_form(connector).credentials, credentials_file)
    if check and not as_json:
        note(f"asking {connector.title} for orders ...")
    added = with_relay(data, lambda relay: relay.reconnect(name, credentials, check=check))
    if as_json:
        document(added)
    else:
        _tell_added(added, "reconnected")


@app.command("remove")
def remove(
    name: Name,
    *,
    yes: Yes = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove a connection with its orders, events and deliveries. This cannot be undone."""
    from relay.cli.given import confirm

    confirm(f"Remove connection {name} with its orders, events and deliveries?", yes=yes)
    removed = with_relay(data, lambda relay: relay.remove_connection(name))
    told(removed, f"removed {removed.customer}/{removed.name} ({removed.id})", as_json=as_json)


# After its own commands: help lists them in this order.
app.command("change")(schedules.change)
connection_life.add_to(app)
syncs.add_to(app)
app.add_typer(mappings.app, name="mapping")
app.add_typer(command_keys.app, name="command-key")


def _tell_added(added: "ConnectionAdded", what: str) -> None:
    connection = added.connection
    line(f"{what} {connection.customer}/{connection.name} ({connection.id})")
    if added.look:
        tell_look(added.look)
    line(f"token of this connection, shown only now: {added.token}")
    line(f"`relay up` or a worker polls it every {connection.poll_every.total_seconds():g} s")


def _tell(connection: "ConnectionView", *, as_json: bool) -> None:
    if as_json:
        document(connection)
        return
    values = connection.model_dump()
    reading, schedule = values.pop("reading"), values.pop("schedule")
    hours = schedule.pop("hours")
    flat = {**values, **schedule, "hours": hours["open"], "blackout": hours["closed"], "time_zone": hours["zone"]}
    if reading:
        progress = ("kind", "state", "read", "total", "per_second", "started_at", "ends_about", "problem")
        flat["reading"] = {name: reading[name] for name in progress if reading[name] is not None}
    details({**flat.pop("settings"), **{name.replace("_", " "): value for name, value in flat.items()}})
