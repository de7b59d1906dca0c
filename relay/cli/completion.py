"""Completion: what a shell offers for arguments that name something. Silent when there is nobody to ask.

The shell runs relay itself for every press of Tab: nothing heavy is loaded before it is needed, and nobody waits long.
"""

import asyncio
from typing import TYPE_CHECKING

import typer

from relay.domain.errors import RelayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from relay.client import Client
    from relay.control import ConnectionView, EndpointView
    from relay.settings import Settings

    Ask = Callable[[Client], Awaitable[Sequence[ConnectionView | EndpointView]]]

PATIENCE = 2.0
"""Seconds for an answer to whoever has pressed Tab."""
_OF_ENDPOINTS = {"endpoints", "replay"}
"""Commands whose names are those of endpoints; all others name connections."""


def connector_names(incomplete: str) -> list[str]:
    """Connectors that begin so."""
    from relay.connectors import CONNECTORS

    return [name for name in CONNECTORS if name.startswith(incomplete)]


def connection_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Connections that begin so, as CUSTOMER/NAME, or by name alone."""
    return _known(ctx, incomplete, lambda relay: relay.connections())


def endpoint_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Endpoints that begin so, as CUSTOMER/NAME, or by name alone."""
    return _known(ctx, incomplete, lambda relay: relay.endpoints())


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """What the command is about: endpoints or connections."""
    named = endpoint_names if _OF_ENDPOINTS.intersection(ctx.command_path.split()) else connection_names
    return named(ctx, incomplete)


def _known(ctx: typer.Context, incomplete: str, ask: "Ask") -> list[str]:
    """A relay is asked that runs already, on this machine or where RELAY_API__URL says; none is started for it."""
    from relay.cli.here import somebody_answers
    from relay.cli.running import settings_at

    try:
        settings = settings_at(ctx.params.get("data"))
        found = asyncio.run(_asked(settings, ask)) if somebody_answers(settings) else ()
    except (RelayError, TimeoutError, ValueError):
        return []  # the command itself says what is wrong, once it is given
    full = sorted(f"{each.customer}/{each.name}" for each in found)
    alone = sorted({each.name for each in found})
    return [each for each in full if each.startswith(incomplete)] or [e for e in alone if e.startswith(incomplete)]


async def _asked(settings: "Settings", ask: "Ask") -> "Sequence[ConnectionView | EndpointView]":
    from relay.cli.reached import reached

    async with asyncio.timeout(PATIENCE), reached(settings) as client:
        return await ask(client)
