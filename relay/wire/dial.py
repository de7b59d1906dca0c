"""Make a connection to one address: TCP, a tunnel where a proxy stands in the way, TLS.

    dial(way, address) -> Connection | raises Unconnected(error, detail)

The one thing to know: it never resolves the name of a receiver. The name is what the certificate is judged by, and what
a proxy is asked for.
"""

import asyncio
import base64
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from relay.domain.egress import Address, Proxy
from relay.wire.connection import Connection, told
from relay.wire.tls import Trust

TUNNEL_CAP: Final = 8 * 1024
"""Bytes of a proxy's answer to CONNECT."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
PROXY_LOGIN: Final = 407
WANTS_LOGIN: Final = "the proxy wants a login (407)"


class Unconnected(Exception):
    """There is no connection; `elsewhere`: another address may do."""

    def __init__(self, error: str, detail: str, *, elsewhere: bool = False) -> None:
        super().__init__(detail)
        self.error, self.detail, self.elsewhere = error, detail, elsewhere


@dataclass(frozen=True, slots=True)
class Way:
    """Where a URL leads. `host` is as the URL writes it: an IPv6 address in brackets."""

    host: str
    port: int
    trust: Trust | None
    """None: plain http."""
    keep: int
    """Bytes of an answer's body."""

    @property
    def name(self) -> str:
        """What a certificate must be for."""
        return self.host.strip("[]")


async def dial(way: Way, address: Address | Proxy, *, seconds: float) -> Connection:
    """A connection to this address, or through this proxy, made within so many seconds."""
    made = Connection(way.keep)
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            if isinstance(address, Proxy):
                await _through(way, address, made)
            else:
                await _connect(made, str(address), way.port)
                await _secure(made, way)
    except TimeoutError:
        _drop(made)
        raise Unconnected("timeout", "not connected in time", elsewhere=True) from None
    except BaseException:
        _drop(made)
        raise
    return made


async def _connect(made: asyncio.Protocol, host: str, port: int) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: made, host, port)
    except TimeoutError:
        raise
    except OSError as error:
        raise Unconnected("refused", told(error), elsewhere=True) from None


async def _secure(made: Connection, way: Way) -> None:
    if way.trust is not None:
        await _start_tls(made, way.trust, way.name.rstrip("."))  # no certificate is for the root's dot


async def _start_tls(made: Connection, trust: Trust, name: str) -> None:
    try:
        secured = await asyncio.get_running_loop().start_tls(
            made.transport, made, await trust.context(), server_hostname=name
        )
    except TimeoutError:
        raise
    except OSError as error:
        raise Unconnected("tls", told(error)) from None
    except ValueError as error:  # of a kind that this OpenSSL does not take any more
        raise Unconnected("tls", str(error)) from None
    if secured is None or secured.is_closing():
        raise Unconnected("tls", "the receiver hung up")
    made.transport = secured


async def _through(way: Way, proxy: Proxy, made: Connection) -> None:
    """Reach the proxy; for https, have it make a tunnel."""
    parts = urlsplit(proxy.url)
    assert parts.hostname is not None
    assert parts.port is not None
    try:
        await _connect(made, parts.hostname, parts.port)
        if parts.scheme == "https":
            await _start_tls(made, Trust(), parts.hostname)
    except Unconnected as error:
        raise Unconnected("proxy", f"the proxy is not reached: {error.detail}", elsewhere=error.elsewhere) from None
    if way.trust is not None:
        await _tunnel(made, way, proxy)
        await _secure(made, way)


async def _tunnel(made: Connection, way: Way, proxy: Proxy) -> None:
    asked = f"{way.host}:{way.port}"
    lines = [f"CONNECT {asked} HTTP/1.1", f"host: {asked}", *(f"{name}: {value}" for name, value in login(proxy))]
    tunnel = _Tunnel()
    made.transport.set_protocol(tunnel)
    made.transport.write("\r\n".join([*lines, "", ""]).encode())
    await tunnel.ended.wait()
    if why := tunnel.refusal():
        raise Unconnected("proxy", why)


def login(proxy: Proxy) -> list[tuple[str, str]]:
    """The header that the proxy wants, if it wants one."""
    parts = urlsplit(proxy.url)
    if parts.username is None:
        return []
    known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [("proxy-authorization", f"Basic {base64.b64encode(known.encode()).decode()}")]


def _drop(made: Connection) -> None:
    if made.transport is not None:
        made.transport.abort()


class _Tunnel(asyncio.Protocol):
    """What a proxy answers to CONNECT."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._head = bytearray()

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > TUNNEL_CAP:
            self.ended.set()

    def eof_received(self) -> None:
        self.ended.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended.set()

    def refusal(self) -> str:
        """Why there is no tunnel; empty when there is one. What comes before TLS has begun is no tunnel's."""
        if not self._head:
            return "the proxy hung up"
        head, end, rest = self._head.partition(b"\r\n\r\n")
        status = int(found[1]) if (found := _STATUS.match(head + b"\r")) else 0
        if not end and len(self._head) > TUNNEL_CAP:
            return "the proxy's answer is too long"
        if status == PROXY_LOGIN:
            return WANTS_LOGIN
        if not end or rest or not 200 <= status <= 299:  # noqa: PLR2004 - the class of success
            return "the proxy did not connect: it refuses this host or port, or does not reach it"
        return ""
