"""`relay endpoints rotate`, `keys` and `pull-token`: what webhooks are signed with, and what pulling needs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.handed_over import SecretFile, TokenFile, hand_over, hand_over_token, private, tell_keys, tell_token
from relay.cli.options import AsJson, Data, Name, moment, span
from relay.cli.running import with_relay
from relay.cli.shown import document, line, table, told
from relay.domain.errors import UserError
from relay.domain.rotation import Signing

if TYPE_CHECKING:
    from relay.control import KeyView


def rotate(  # noqa: PLR0913 - one per option
    name: Name,
    *,
    overlap: Annotated[
        timedelta,
        typer.Option(
            parser=span, help="How long the old secret signs, too; 0s ends it now.", metavar="SPAN", show_default="24h"
        ),
    ] = timedelta(hours=24),
    at: Annotated[
        datetime | None,
        typer.Option(parser=moment, help="When the new secret begins to sign (default: now).", metavar="TIME"),
    ] = None,
    ahead: Annotated[
        timedelta | None, typer.Option("--in", parser=span, help="The same, from now.", metavar="SPAN")
    ] = None,
    signing: Annotated[
        Signing | None, typer.Option(help="Sign with this from then on (default: as before).", show_default=False)
    ] = None,
    secret_file: SecretFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new signing secret, beside the old one until the overlap is over.

    Webhooks are signed with both meanwhile: give the new one to the receiver before the old one ends. With --at or --in
    the new one begins later, and the overlap is counted from then.
    """
    if at and ahead:
        raise UserError("--at and --in say the same: give one of them")
    begin = datetime.now(UTC) + ahead if ahead else at
    with private(secret_file) as file:
        done = with_relay(data, lambda relay: relay.rotate_secret(name, overlap=overlap, signing=signing, begin=begin))
        hand_over(done, file)
    if as_json:
        document({**done.model_dump(mode="json", exclude={"secret"} if secret_file else None)})
        return
    line(f"rotated {done.endpoint.customer}/{done.endpoint.name} ({done.endpoint.id})")
    tell_keys(done, secret_file)
    _tell_live(done.keys)


def keys(name: Name, *, data: Data = None, as_json: AsJson = False) -> None:
    """Show what webhooks are signed with: when each secret begins and ends, and the public keys; never a secret."""
    found = with_relay(data, lambda relay: relay.endpoint_keys(name))
    if as_json:
        document(found)
    else:
        _tell_live(found)


def pull_token(
    name: Name,
    *,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the token; give no new one.")] = False,
    token_file: TokenFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new pull token: with it a receiver reads the endpoint's events over HTTP. The old one ends."""
    if revoke:
        ended = with_relay(data, lambda relay: relay.revoke_pull_token(name))
        told(ended, f"no pull token is good for {ended.customer}/{ended.name} ({ended.id})", as_json=as_json)
        return
    with private(token_file, "--token-file") as file:
        made = with_relay(data, lambda relay: relay.issue_pull_token(name))
        hand_over_token(made, file)
    tell_token(made, token_file, "pull token", f"GET {made.path}", as_json=as_json)


def _tell_live(live: Sequence["KeyView"]) -> None:
    table(
        ("signing", "begins", "ends", "public key"),
        [(each.signing, each.since or "has begun", each.until or "never", each.public_key) for each in live],
        empty="no signing secrets",
    )
