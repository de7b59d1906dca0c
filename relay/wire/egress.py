"""A host's addresses: resolved once, each one checked, and nothing else to be called.

    host, port, policy -> resolve -> every address checked -> Found(addresses | error)

The one thing to know: one refused address refuses the whole name. A name that answers with a public and a private
address is a mistake or an attack, and choosing among them would be left to chance.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Literal, TypeAlias

from relay.domain.egress import Address, Policy, Proxy, literal

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> addresses in the order to try them; raises OSError."""

MOST_ADDRESSES = 64
_LONGEST_HOST = 80

# The system's resolver blocks a thread. These are not the loop's own (uvloop has four, shared with files), so that a
# name server that is silent stops names only.
_THREADS = ThreadPoolExecutor(64, "relay-resolve")


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses in the order to try them; or "policy" or "resolve", and a text that names the host and why.

    Where everything goes through a proxy, it stands in the place of addresses that were checked.
    """

    addresses: tuple[Address | Proxy, ...] = ()
    error: Literal["", "policy", "resolve"] = ""
    detail: str = ""


async def lookup(host: str, port: int) -> Sequence[str]:
    """The system's resolver, hosts file and all. Raises OSError, and ValueError for what cannot be a name."""

    def ask() -> list[str]:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

    return await asyncio.get_running_loop().run_in_executor(_THREADS, ask)


async def checked(host: str, port: int, *, policy: Policy, within: timedelta, resolve: Resolver = lookup) -> Found:
    """What may be called for a URL's host (a name, or an address as URLs write it) and port.

    Resolves names `within` this time; raises nothing for what the name server says. Through a proxy, too, an address
    that is refused here is not called; but the proxy resolves once more, so what it reaches is in its hands.
    """
    found = await _found(host, port, policy, within, resolve)
    if policy.proxy and (found.addresses or (found.error == "resolve" and policy.proxy.resolves)):
        return Found((policy.proxy,))
    return found


async def _found(host: str, port: int, policy: Policy, within: timedelta, resolve: Resolver) -> Found:
    if address := literal(host):
        return _judged(host, port, [address], policy)
    shown = host[:_LONGEST_HOST]
    try:
        async with asyncio.timeout(within.total_seconds()):
            found = await resolve(host, port)
        # A zone (fe80::1%eth0) names a network card of ours; the address is judged without it.
        addresses = list(dict.fromkeys(ip_address(each.partition("%")[0]) for each in found))
    except TimeoutError:
        return Found(error="resolve", detail=f"{shown} was not resolved in time")
    except OSError as error:
        return Found(error="resolve", detail=f"{shown}: {error.strerror or 'the name cannot be looked up'}")
    except ValueError:
        return Found(error="resolve", detail=f"{shown}: the name cannot be looked up")
    if not 0 < len(addresses) <= MOST_ADDRESSES:
        return Found(
            error="resolve", detail=f"{shown} has {len(addresses)} addresses: it must have 1 to {MOST_ADDRESSES}"
        )
    return _judged(shown, port, addresses, policy)


def _judged(host: str, port: int, addresses: list[Address], policy: Policy) -> Found:
    for address in addresses:
        if words := policy.refusal(address, port, own=_is_own(address)):
            shown = host if literal(host) else f"{host} ({address})"
            return Found(error="policy", detail=f"{shown} is {words}")
    return Found(tuple(addresses))


def _is_own(address: Address) -> bool:
    """Whether this machine has the address: only then a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP's version
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
