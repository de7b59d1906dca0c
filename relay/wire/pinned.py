"""Pinned connections: each to one checked address of a host, whatever the host's name may mean meanwhile.

    spots() -> Spot ...        resolved and checked at most once in a DNS lifetime, by one question for all who wait
    taken(spot) -> Connection  one that rests, or a new one
    given_back(...)            for the next request; closed when the name no longer leads there

The one thing to know: to dial an address nobody resolves. Connections are kept over the check when the address stays.
Through a proxy, it stands in the place of the addresses, and the proxy resolves.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from relay.domain.egress import Address, Policy, Proxy
from relay.wire.connection import Connection
from relay.wire.dial import Unconnected, Way, dial
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


@dataclass(slots=True, eq=False)
class Spot:
    """An address that may be called, or the proxy in its place, and the connections to it that rest."""

    address: Address | Proxy
    name: str
    resting: list[Connection] = field(default_factory=list)
    gone: bool = False
    """The name no longer leads there."""

    def leave(self) -> None:
        """Close the connections, those that are in use when they are given back."""
        self.gone = True
        while self.resting:
            self.resting.pop().close()


class Pinned:
    """The connections of one URL."""

    def __init__(self, way: Way, dialling: Dialling) -> None:
        self._way, self._dialling = way, dialling
        self._spots: tuple[Spot, ...] = ()
        self._fresh_until = 0.0
        self._asking: asyncio.Task[Found] | None = None
        self._busy: set[Connection] = set()
        self._closed = False

    async def spots(self, now: float) -> tuple[Spot, ...]:
        """Those that may be called now, in the order to try them. Raises Unconnected when none may."""
        if now < self._fresh_until and self._spots:
            return self._spots
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        # Waited for, not awaited: one who gives up must not end the question of the others.
        await asyncio.wait([asking])
        if asking.cancelled():
            raise Unconnected("resolve", "closed meanwhile")
        if (found := asking.result()).error:
            raise Unconnected(found.error, found.detail)
        return self._spots

    def avoid(self, spot: Spot) -> None:
        """Try this one last from now on."""
        if spot in self._spots:
            self._spots = (*(each for each in self._spots if each is not spot), spot)

    async def taken(self, spot: Spot, seconds: float) -> Connection:
        """A connection to one of the addresses that were found, made within so many seconds. Raises Unconnected."""
        while spot.resting:
            connection = spot.resting.pop()
            if connection.is_free():
                break
            connection.close()
        else:
            within = min(seconds, self._dialling.connect_timeout.total_seconds())
            connection = await dial(self._way, spot.address, seconds=within)
        if self._closed:
            connection.close()
        self._busy.add(connection)
        return connection

    def given_back(self, spot: Spot, connection: Connection) -> None:
        """A request is over."""
        self._busy.discard(connection)
        if spot.gone or len(spot.resting) >= self._dialling.at_once or not connection.is_whole():
            connection.close()
        else:
            connection.rest()
            spot.resting.append(connection)

    def close(self) -> None:
        """Close all connections, whoever uses them."""
        self._closed = True
        if self._asking:
            self._asking.cancel()
        for connection in list(self._busy):
            connection.close()
        for spot in self._spots:
            spot.leave()

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
        kept = [each for each in self._spots if each.address in found.addresses]
        known = [each.address for each in kept]
        new = [Spot(each, str(each)) for each in found.addresses if each not in known]
        for spot in self._spots:
            if spot not in kept:
                spot.leave()
        self._spots = (*kept, *new)
        self._fresh_until = loop.time() + dialling.lifetime.total_seconds()
        return found
