"""`relay endpoints`: who is told, and where."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import endpoint_keys, endpoint_test
from relay.cli.given import access_of, settings_of
from relay.cli.handed_over import SecretFile, hand_over, private, tell_keys
from relay.cli.options import AsJson, Customer, Data, Name, Yes, span
from relay.cli.running import with_relay
from relay.cli.shown import brief, details, document, line, note, table, told
from relay.domain.endpoints import EndpointOptions
from relay.domain.errors import UserError
from relay.domain.rotation import Signing
from relay.domain.spans import span_words

if TYPE_CHECKING:
    from relay.control import EndpointView, FormField

app = typer.Typer(help="URLs that webhooks are sent to.", no_args_is_help=True)

Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option: see `relay endpoints options`; again for more.", metavar="NAME=VALUE"),
]
AccessFile = Annotated[
    Path | None,
    typer.Option(help="What the receiver asks for beside the signature, JSON: docs/webhooks.md; - is standard input."),
]


@app.command("add")
def add(  # noqa: PLR0913 - one per option
    *,
    customer: Customer,
    name: Annotated[str, typer.Option(help="What to call it.", show_default=False)],
    url: Annotated[str, typer.Option(help="Where to send, https://...", show_default=False)],
    event_types: Annotated[
        list[str] | None,
        typer.Option("--type", help="An event type to send, such as approved; again for more (default: all)."),
    ] = None,
    connections: Annotated[
        list[str] | None,
        typer.Option("--connection", help="A connection to hear of; again for more (default: all of the customer)."),
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(help="Most attempts in flight (default: RELAY_DELIVER__AT_ONCE, or 64).")
    ] = None,
    deadline: Annotated[
        timedelta | None,
        typer.Option(parser=span, help="For one attempt (default: RELAY_DELIVER__DEADLINE, or 15s).", metavar="SPAN"),
    ] = None,
    signing: Annotated[
        Signing, typer.Option(help="Sign with a shared secret, a key pair (the receiver gets the public key), or both.")
    ] = Signing.HMAC,
    options: Options = None,
    access_file: AccessFile = None,
    secret_file: SecretFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add an endpoint. Its signing secret is shown once, here: the receiver needs it to verify webhooks.

    With ed25519 there is no secret to hand over: the receiver verifies with the public key.
    """
    access = access_of(access_file) if access_file else {}
    with private(secret_file) as file:
        added = with_relay(
            data,
            lambda relay: relay.add_endpoint(
                customer=customer,
                name=name,
                url=url,
                event_types=event_types or (),
                connections=connections or (),
                at_once=at_once,
                deadline=deadline,
                signing=signing,
                options=settings_of(EndpointOptions, options or []),
                access=access,
            ),
        )
        hand_over(added, file)
    if as_json:
        document({**added.model_dump(mode="json", exclude={"secret"} if secret_file else None)})
        return
    line(f"added {added.endpoint.customer}/{added.endpoint.name} ({added.endpoint.id})")
    tell_keys(added, secret_file)
    for each in added.notices:
        note(f"note: {each}")


@app.command("change")
def change(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    url: Annotated[str | None, typer.Option(help="Where to send from now on.", show_default=False)] = None,
    event_types: Annotated[
        list[str] | None, typer.Option("--type", help="An event type to send; again for more; `all` for every one.")
    ] = None,
    connections: Annotated[
        list[str] | None, typer.Option("--connection", help="A connection to hear of; again for more; `all` for each.")
    ] = None,
    at_once: Annotated[int | None, typer.Option(help="Most attempts in flight.", show_default=False)] = None,
    deadline: Annotated[
        timedelta | None, typer.Option(parser=span, help="For one attempt.", metavar="SPAN", show_default=False)
    ] = None,
    options: Options = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="An option that is the default again.", metavar="NAME")
    ] = None,
    access_file: AccessFile = None,
    no_access: Annotated[bool, typer.Option("--no-access", help="Send the signature and nothing more.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint: what is given, and nothing else. What waits is sent by the new rules."""
    if access_file and no_access:
        raise UserError("give --access-file or --no-access, not both")
    if not no_access and all(
        each is None for each in (url, event_types, connections, at_once, deadline, options, unset, access_file)
    ):
        raise UserError(
            "nothing to change: give at least one of the options that `relay endpoints change --help` lists"
        )
    access = access_of(access_file) if access_file else None
    _tell(
        with_relay(
            data,
            lambda relay: relay.change_endpoint(
                name,
                url=url,
                event_types=_all_or(event_types),
                connections=_all_or(connections),
                at_once=at_once,
                deadline=deadline,
                options=settings_of(EndpointOptions, options or []),
                defaults=unset or (),
                access={} if no_access else access,
            ),
        ),
        as_json=as_json,
    )


@app.command("options")
def options_(*, as_json: AsJson = False) -> None:
    """List the options of endpoints, for --set: what each does, what it takes, and its default."""
    from relay.control import form_fields

    found = form_fields(EndpointOptions)
    if as_json:
        document(found)
        return
    table(
        ("option", "takes", "default", "what it does"),
        [(each.name, each.type, _default(each), each.description) for each in found],
        empty="none",
    )


@app.command("list")
def listed(*, data: Data = None, as_json: AsJson = False) -> None:
    """List all endpoints."""
    found = with_relay(data, lambda relay: relay.endpoints())
    if as_json:
        document(found)
        return
    table(
        ("customer", "name", "state", "url", "types", "problem", "id"),
        [(e.customer, e.name, e.state, e.url, e.event_types or "all", brief(e.problem), e.id) for e in found],
        empty="no endpoints yet: relay endpoints add",
    )


@app.command("show")
def show(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show one endpoint: address, filters, state, problem and counts."""
    _tell(with_relay(data, lambda relay: relay.endpoint(name)), as_json=as_json)


@app.command("enable")
def enable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Send again; what has waited goes first."""
    _tell(with_relay(data, lambda relay: relay.enable_endpoint(name)), as_json=as_json)


@app.command("disable")
def disable(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Send nothing more; deliveries wait until it is enabled."""
    _tell(with_relay(data, lambda relay: relay.disable_endpoint(name)), as_json=as_json)


app.command("rotate")(endpoint_keys.rotate)
app.command("keys")(endpoint_keys.keys)
app.command("pull-token")(endpoint_keys.pull_token)
app.command("test")(endpoint_test.send_samples)


@app.command("remove")
def remove(
    name: Name,
    *,
    yes: Yes = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove an endpoint with its deliveries. This cannot be undone."""
    from relay.cli.given import confirm

    confirm(f"Remove endpoint {name} with its deliveries?", yes=yes)
    removed = with_relay(data, lambda relay: relay.remove_endpoint(name))
    told(removed, f"removed {removed.customer}/{removed.name} ({removed.id})", as_json=as_json)


def _all_or(names: list[str] | None) -> list[str] | None:
    return [] if names == ["all"] else names


def _default(field: "FormField") -> str:
    if field.default in (None, [], ""):
        return ""
    return span_words(span(field.default)) if field.type == "time span" else str(field.default)


def _tell(endpoint: "EndpointView", *, as_json: bool) -> None:
    if as_json:
        document(endpoint)
        return
    values = endpoint.model_dump(exclude={"last_attempt"}) | {"event_types": endpoint.event_types or "all"}
    values |= {"connections": endpoint.connections or "all"}
    values |= {"options": ", ".join(f"{name}={value}" for name, value in _set(endpoint).items()) or "as by default"}
    if last := endpoint.last_attempt:
        values |= {
            "last answer": last.status or last.error,
            "came at": last.started_at,
            "after": f"{last.seconds:.3f} s",
        }
        values |= {"from": last.address, "because": last.detail, "it began": last.excerpt}
    details({name.replace("_", " "): value for name, value in values.items()})


def _set(endpoint: "EndpointView") -> dict[str, object]:
    return endpoint.options.model_dump(mode="json", exclude_defaults=True)
