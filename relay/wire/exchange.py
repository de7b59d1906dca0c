"""One request to a URL, and what came back.

    method, headers, body -> resolve, check, connect, TLS, send, read -> Reply(status | error)

The one thing to know: the network never raises here. Whatever the other side does (nothing, one byte a second, an
endless body, noise) ends as a `Reply`, at the deadline at the latest.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from pyreqwest.http import Url

from relay.domain.access import Access
from relay.domain.egress import Proxy
from relay.domain.retry import parse_retry_after
from relay.wire.dial import PROXY_LOGIN, WANTS_LOGIN, Unconnected, Way, login
from relay.wire.pinned import Dialling, Pinned, Spot
from relay.wire.reply import Reply
from relay.wire.tls import Trust

EXCERPT = 4 * 1024
"""Bytes of an answer's body that are kept of a webhook's answer."""
MOST_TRIED = 4
"""Addresses of a host that one attempt may try."""
USER_AGENT = f"relay/{version('erp-relay')}"

_PRINTABLE = bytes(each for each in range(256) if chr(each).isprintable())


class Caller:
    """One URL's connections; of an answer's body at most `keep` bytes are kept."""

    def __init__(self, url: str, dialling: Dialling, access: Access, *, keep: int = EXCERPT) -> None:
        self._now = asyncio.get_running_loop().time
        self._url = Url(url)
        self._plain = self._url.scheme == "http"
        host, port = self._url.host_str or "", self._url.port_or_known_default or 0
        self._pinned = Pinned(Way(host, port, None if self._plain else Trust(access), keep), dialling)
        self._target = self._asked(dialling.policy.proxy).encode("latin-1")
        self._headers = self._always(dialling.policy.proxy, access)
        self._head = _lines(self._headers)

    async def call(self, method: str, headers: Mapping[str, str], body: bytes, *, ends: float) -> Reply:
        """Send, once, until `ends` on the loop's clock. Redirects are not followed and nothing is decompressed.

        When no connection can be made, the host's other addresses are tried, too: nothing of the request was sent.
        Raises only for headers that HTTP cannot carry (ValueError). A call that is cancelled closes its connection.
        """
        request = self._request(method, headers, body)
        now = self._now
        began = now()
        try:
            spots = await self._pinned.spots(began)
        except Unconnected as why:
            return Reply(self._url, error=why.error, detail=why.detail, resolve_seconds=now() - began)
        resolved = now() - began
        reply = Reply(self._url, error="timeout", detail="no time was left to connect")
        for spot in spots[:MOST_TRIED]:
            if ends <= now():
                break
            reply = await self._exchange(spot, request, body, ends)
            if not reply.unconnected:
                break
            self._pinned.avoid(spot)
        reply.resolve_seconds = resolved
        if reply.status_at is not None:
            reply.answer_seconds = reply.status_at - began
            if waits := reply.header(b"retry-after"):
                reply.retry_after = parse_retry_after(waits, datetime.now(UTC))
        return reply

    async def close(self) -> None:
        """Close the connections. A call still in flight ends as `reset`."""
        self._pinned.close()

    async def _exchange(self, spot: Spot, request: bytes, body: bytes, ends: float) -> Reply:
        reply = Reply(self._url, address=spot.name)
        try:
            connection = await self._pinned.taken(spot, ends - self._now())
        except Unconnected as why:
            reply.error, reply.detail, reply.unconnected = why.error, why.detail, why.elsewhere
            return reply
        try:
            await connection.exchange(reply, request, body, ends)
        finally:
            self._pinned.given_back(spot, connection)
        if reply.status == PROXY_LOGIN and self._plain and isinstance(spot.address, Proxy):
            return Reply(error="proxy", detail=WANTS_LOGIN, address=reply.address)
        return reply

    def _request(self, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The head. Headers of the call go before those that are always the same."""
        always = self._head
        if not self._headers.keys().isdisjoint(headers):
            always = _lines({name: value for name, value in self._headers.items() if name not in headers})
        lines = _lines(headers)
        if len(lines.translate(None, _PRINTABLE)) != 2 * len(headers):
            raise ValueError("a header has characters that HTTP cannot carry")
        length = b"content-length: %d\r\n" % len(body) if body or method == "POST" else b""
        return b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (method.encode(), self._target, always, lines, length)

    def _asked(self, proxy: Proxy | None) -> str:
        """What stands in the request's first line: to a proxy, for plain http, the whole URL."""
        target = self._url.path + (f"?{query}" if (query := self._url.query_string) is not None else "")
        return f"http://{self._authority()}{target}" if proxy and self._plain else target

    def _always(self, proxy: Proxy | None, access: Access) -> dict[str, str]:
        return {
            "host": self._authority(),
            "user-agent": USER_AGENT,
            "accept": "*/*",
            "accept-encoding": "identity",
            **access.sent_headers(),
            **dict(login(proxy) if proxy and self._plain else ()),
        }

    def _authority(self) -> str:
        port = self._url.port
        return f"{self._url.host_str}:{port}" if port is not None else self._url.host_str or ""


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
