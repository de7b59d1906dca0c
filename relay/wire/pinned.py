"""Pinned connections: each to one checked address of a host, whatever the host's name may mean meanwhile.

    found() -> Found              resolved and checked at most once in a DNS lifetime, by one question for all who wait
    taken(address) -> Connection  one that rests, or a new one
    given_back(...)               for the next request; closed when the name no longer leads there

The one thing to know: to dial an address nobody resolves. Connections are kept over the check when the address stays.
Through a proxy, it stands in the place of the addresses, and the proxy resolves.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from relay.domain.egress import Address, Policy, Proxy
from relay.wire.connection import Connection
from relay.wire.dial import Way, dial
from relay.wire.egress import Found, Resolver, checked, lookup

DNS_LIFETIME = timedelta(seconds=60)
"""How long an address is called before its name is resolved and checked again."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """How addresses are found and called."""

    deadline: timedelta
    """One whole attempt."""
    connect_timeout: timedelta
    """Resolving, and connecting with TLS: each."""
    at_once: int
    """Connections that are kept."""
    policy: Policy = field(default_factory=Policy)
    resolve: Resolver = lookup
    lifetime: timedelta = DNS_LIFETIME


class Pinned:
    """The connections of one URL."""

    def __init__(self, way: Way, dialling: Dialling) -> None:
        self._way, self._dialling = way, dialling
        self._found, self._fresh_until = Found(), 0.0
        self._asking: asyncio.Task[Found] | None = None
        self._resting: dict[Address | Proxy, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False

    async def found(self, now: float) -> Found:
        """The addresses that may be called now, in the order to try them, or why none may."""
        if now < self._fresh_until and self._found.addresses:
            return self._found
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        # Waited for, not awaited: one who gives up must not end the question of the others.
        await asyncio.wait([asking])
        return Found(error="resolve", detail="closed meanwhile") if asking.cancelled() else asking.result()

    def avoid(self, address: Address | Proxy) -> None:
        """Try this address last from now on."""
        others = tuple(each for each in self._found.addresses if each != address)
        if others != self._found.addresses:
            self._found = Found((*others, address))

    async def taken(self, address: Address | Proxy, seconds: float) -> Connection:
        """A connection to one of the addresses that were found, made within so many seconds. Raises Unconnected."""
        resting = self._resting.get(address, [])
        while resting:
            connection = resting.pop()
            if connection.is_free():
                break
            connection.close()
        else:
            within = min(seconds, self._dialling.connect_timeout.total_seconds())
            connection = await dial(self._way, address, seconds=within)
        if self._closed:
            connection.close()
        self._busy.add(connection)
        return connection

    def given_back(self, address: Address | Proxy, connection: Connection) -> None:
        """A request is over."""
        self._busy.discard(connection)
        resting = self._resting.setdefault(address, [])
        # Looked up by address each time: the name may lead elsewhere by now, or nowhere.
        if address in self._found.addresses and len(resting) < self._dialling.at_once and connection.is_free():
            connection.rest()
            resting.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close all connections, whoever uses them."""
        self._closed = True
        if self._asking:
            self._asking.cancel()
        for connection in [*self._busy, *(each for some in self._resting.values() for each in some)]:
            connection.close()
        self._resting.clear()

    async def _ask(self) -> Found:
        dialling, loop = self._dialling, asyncio.get_running_loop()
        try:
            found = await checked(
                self._way.name,
                self._way.port,
                policy=dialling.policy,
                within=min(dialling.connect_timeout, dialling.deadline),
                resolve=dialling.resolve,
            )
        finally:
            self._asking = None
        # The order that has worked stays: name servers shuffle.
        kept = [each for each in self._found.addresses if each in found.addresses]
        new = [each for each in found.addresses if each not in kept]
        self._found = Found((*kept, *new), found.error, found.detail)
        self._fresh_until = loop.time() + dialling.lifetime.total_seconds()
        for address in self._resting.keys() - set(found.addresses):
            for connection in self._resting.pop(address):
                connection.close()
        return self._found
