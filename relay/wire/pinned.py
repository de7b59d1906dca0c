"""Clients that are pinned: each calls one checked address of a host, whatever the host's name may mean meanwhile.

    found() -> Found    resolved and checked at most once in a DNS lifetime, by one question for all who wait
    to(address)         that address's client, with its connections; closed when the name no longer leads there

The one thing to know: a client never resolves. Connections are kept over the check when the address stays.
Through a proxy there is one client, and the proxy resolves.
"""

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder

from relay.domain.access import Access
from relay.domain.egress import Address, Policy, Proxy, literal
from relay.wire.egress import Found, Resolver, checked, lookup

DNS_LIFETIME = timedelta(seconds=60)
"""How long an address is called before its name is resolved and checked again."""
APART = timedelta(hours=1)
"""How long an address that did not answer in time is called from threads of its own kind: longer than a rest between
probes, so that one who attacks stays there."""

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that they trust, all in one file."""

_IDLE = timedelta(seconds=50)  # under the 60 s after which common load balancers drop an idle connection


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


def trust_one_bundle(environment: MutableMapping[str, str], bundles: Sequence[str] = BUNDLES) -> None:
    """Name the system's file of trusted authorities, unless somebody has named a file or folder.

    Each client reads them anew: from the one file in a millisecond, from a folder with hundreds of files in six, which
    is half a minute for thousands of endpoints.
    """
    if not environment.keys() & {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
        found = next((path for path in bundles if Path(path).is_file()), None)
        if found:
            environment["SSL_CERT_FILE"] = found


class PinnedClients:
    """The clients of one URL."""

    def __init__(self, url: Url, dialling: Dialling, access: Access, user_agent: str) -> None:
        self._host, self._port = url.host_str or "", url.port_or_known_default or 0
        self._dialling, self._access, self._user_agent = dialling, access, user_agent
        self._found, self._fresh_until, self._apart_until = Found(), 0.0, 0.0
        self._asking: asyncio.Task[Found] | None = None
        self._clients: dict[Address | Proxy, Pinned] = {}
        self._former: set[Pinned] = set()

    async def found(self) -> Found:
        """The addresses that may be called now, in the order to try them, or why none may."""
        if self._found.addresses and asyncio.get_running_loop().time() < self._fresh_until:
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

    @asynccontextmanager
    async def to(self, address: Address | Proxy) -> AsyncIterator["Pinned"]:
        """The client of one of the addresses that were found, in use for as long as the block runs."""
        pinned = self._clients.get(address)
        if pinned is None or (pinned.apart and not self._is_apart()):
            if pinned:
                self._former.add(pinned)
            pinned = self._clients[address] = Pinned(self._client(address), str(address), apart=self._is_apart())
        pinned.users += 1
        try:
            yield pinned
        finally:
            pinned.users -= 1
            if self._former:
                await self._close_unused()

    def set_apart(self) -> None:
        """Call from other threads than those of everybody else, for a while.

        A receiver that floods with interim answers keeps the thread that reads them busy until the deadline, and with
        it all who are called from there.
        """
        self._apart_until = asyncio.get_running_loop().time() + APART.total_seconds()
        for address in [address for address, each in self._clients.items() if not each.apart]:
            self._former.add(self._clients.pop(address))

    async def close(self) -> None:
        """Close all connections, whoever uses them."""
        if self._asking:
            self._asking.cancel()
        every = [*self._clients.values(), *self._former]
        self._clients.clear()
        self._former.clear()
        for each in every:
            await each.client.close()

    async def _ask(self) -> Found:
        dialling, loop = self._dialling, asyncio.get_running_loop()
        try:
            found = await checked(
                self._host,
                self._port,
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
        for address in self._clients.keys() - set(found.addresses):
            self._former.add(self._clients.pop(address))
        await self._close_unused()
        return self._found

    async def _close_unused(self) -> None:
        for each in [each for each in self._former if not each.users]:
            self._former.discard(each)
            await each.client.close()

    def _is_apart(self) -> bool:
        return asyncio.get_running_loop().time() < self._apart_until

    def _client(self, address: Address | Proxy) -> Client:
        dialling = self._dialling
        builder = (
            ClientBuilder()
            .runtime_multithreaded(self._is_apart())
            .timeout(dialling.deadline)
            .connect_timeout(dialling.connect_timeout)
            .pool_max_idle_per_host(dialling.at_once)
            .pool_idle_timeout(_IDLE)
            .user_agent(self._user_agent)
            .default_headers({"accept-encoding": "identity", **self._access.sent_headers()})
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .follow_redirects(False)
            .referer(False)
            .no_proxy()
            .http1_only()
            .min_tls_version("TLSv1.2")
        )
        builder = identified(builder, self._access)
        if isinstance(address, Proxy):
            builder = builder.proxy(ProxyBuilder.all(address.url))
        elif literal(self._host) is None:
            builder = builder.resolve(self._host, str(address), self._port)
        return builder.build()


def identified(builder: ClientBuilder, access: Access) -> ClientBuilder:
    """The builder with the client certificate, and the authorities that are trusted beside the public ones.

    Raises ValueError, here or when the client is built, for what this TLS cannot use.
    """
    for certificate in access.authorities():
        builder = builder.add_root_certificate_der(certificate)
    identity = access.identity()
    return builder.identity_pem(identity) if identity else builder


@dataclass(slots=True, eq=False)
class Pinned:
    """A client and the address that it calls."""

    client: Client
    name: str
    apart: bool
    users: int = 0
