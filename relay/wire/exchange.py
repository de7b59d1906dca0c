"""One request to a URL, and what came back.

    method, headers, body -> resolve, check, connect, TLS, send, read -> Reply(status | error)

The one thing to know: the network never raises here. Whatever the other side does (nothing, one byte a second, an
endless body, noise) ends as a `Reply`, at the deadline at the latest. Of its body so much is read and no more, packed
as it comes; its head is bounded by the client (100 headers, some 400 KB).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from pyreqwest.client import Client
from pyreqwest.exceptions import ClientClosedError, NetworkError, RequestError, RequestTimeoutError
from pyreqwest.http import Url
from pyreqwest.response import Response

from relay.domain.access import Access
from relay.domain.deliveries import Answer, Wish
from relay.domain.egress import Proxy
from relay.domain.retry import parse_retry_after
from relay.wire.pinned import Dialling, PinnedClients

BODY_CAP = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
EXCERPT = 4 * 1024
"""Bytes of it that are kept of a webhook's answer."""
MOST_CHUNKS = 2048
"""Pieces of an answer's body that are read: each costs this process some work, however small it is."""
LONGEST_DETAIL, LONGEST_LOCATION = 200, 512
MOST_TRIED = 4
"""Addresses of a host that one attempt may try."""
USER_AGENT = f"relay/{version('erp-relay')}"
WISH = "webhook-delivery"
"""The response header of a receiver that wants no more."""

_REDIRECTS = range(300, 400)
_WISHES = {str(each): each for each in Wish if each}

# The texts of pyreqwest's (reqwest's) causes that tell the phases apart; each has its test over a real socket.
_CONNECTING, _DIALLING = "client error (Connect)", "tcp connect error"
_BROKE_OFF = "end of file before message length reached"
_TUNNELLING, _NO_LOGIN, _PROXY_LOGIN = "tunnel error: ", "proxy authorization required", 407
_TUNNEL = {
    _NO_LOGIN: "the proxy wants a login (407)",
    "unsuccessful": "the proxy did not connect: it refuses this host or port, or does not reach it",
    "unexpected end of file": "the proxy hung up",
    "proxy response headers too long": "the proxy's answer is too long",
}


class Caller:
    """One URL's clients; of an answer's body at most `keep` bytes are kept."""

    def __init__(self, url: str, dialling: Dialling, access: Access, *, keep: int = EXCERPT) -> None:
        self._url, self._keep = Url(url), keep
        self._clients = PinnedClients(self._url, dialling, access, USER_AGENT)

    async def call(self, method: str, headers: Mapping[str, str], body: bytes, *, ends: float) -> "Reply":
        """Send, once, until `ends` on the loop's clock. Redirects are not followed and nothing is decompressed.

        When no connection can be made, the host's other addresses are tried, too: nothing of the request was sent.
        Raises only for headers that HTTP cannot carry (ValueError). A cancelled call goes on unseen to its end: the
        client cannot take a request back.
        """
        now = asyncio.get_running_loop().time
        began = now()
        found = await self._clients.found()
        resolved = now() - began
        reply = Reply(error=found.error or "timeout", detail=found.detail or "no time was left to connect")
        for address in found.addresses[:MOST_TRIED]:
            if (left := ends - now()) <= 0:
                break
            async with self._clients.to(address) as pinned:
                reply = Reply(address=pinned.name)
                await self._exchange(reply, pinned.client, method, headers, body, left)
                if reply.error == "timeout" and not reply.unconnected:
                    self._clients.set_apart()
            if isinstance(address, Proxy):
                reply = self._blamed(reply)
            if not reply.unconnected:
                break
            self._clients.avoid(address)
        reply.resolve_seconds = resolved
        if reply.status_at is not None:
            reply.answer_seconds = reply.status_at - began
        return reply

    async def close(self) -> None:
        """Close the connections. A call still in flight ends as `reset`."""
        await self._clients.close()

    async def _exchange(  # noqa: PLR0913, PLR0917 - a request has this many parts
        self, reply: "Reply", client: Client, method: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> None:
        request = (
            client.request(method, self._url)
            .headers(headers)
            .timeout(timedelta(seconds=seconds))
            .body_bytes(body)
            .streamed_read_buffer_limit(0)  # or the status would wait for the body's first bytes, and be lost with them
            .build_streamed()
        )
        try:
            async with request as response:
                reply.status_at = asyncio.get_running_loop().time()
                await reply.read(response, self._url, self._keep)
        except RequestError as error:
            reply.causes = _causes(error)
            reply.error, reply.detail, reply.unconnected = _kind(error), _detail(error), _unconnected(error)

    def _blamed(self, reply: "Reply") -> "Reply":
        """Tell the proxy's faults from the receiver's. Not told apart: who is silent, and a 5xx over plain http."""
        plain = self._url.scheme == "http"
        if plain and reply.status == _PROXY_LOGIN:
            return Reply(error="proxy", detail=_TUNNEL[_NO_LOGIN], address=reply.address)
        failed = next((each for each in reply.causes if each.startswith(_TUNNELLING)), "")
        connecting = _CONNECTING in reply.causes and reply.error != "timeout"
        if connecting and (failed or plain or _DIALLING in reply.causes):
            why = failed.removeprefix(_TUNNELLING)
            reply.error, reply.detail = "proxy", _TUNNEL.get(why, f"the proxy is not reached: {reply.detail}")
        return reply


@dataclass(slots=True)
class Reply:
    """What has come back so far: it survives a connection that breaks off."""

    status: int | None = None
    error: str = ""
    detail: str = ""
    address: str = ""
    resolve_seconds: float = 0.0
    answer_seconds: float | None = None
    status_at: float | None = None
    """On the loop's clock."""
    location: str = ""
    retry_after: float | None = None
    body: bytearray = field(default_factory=bytearray)
    unconnected: bool = False
    """No connection was made: another address may do."""
    response: Response | None = None
    causes: Sequence[str] = ()
    """The error's, outermost first."""

    async def read(self, response: Response, asked: Url, keep: int) -> None:
        """Take the status, and the body up to the cap, of which `keep` bytes are kept."""
        self.status, self.response = response.status, response
        if waiting := self.header("retry-after"):
            self.retry_after = parse_retry_after(waiting, datetime.now(UTC))
        if self.status in _REDIRECTS:
            self.location = _location(asked, self.header("location"))
        size = chunks = 0
        while size <= BODY_CAP and chunks < MOST_CHUNKS:
            if (chunk := await response.body_reader.read_chunk()) is None:
                break
            size, chunks = size + len(chunk), chunks + 1
            if (wanted := keep - len(self.body)) > 0:
                self.body += chunk.to_bytes()[:wanted]

    def header(self, name: str) -> str:
        """A header of the answer; empty when it has none, or one that is not ASCII."""
        try:
            return (self.response.get_header(name) or "") if self.response else ""
        except ValueError:
            return ""

    def answer(self) -> Answer:
        """The reply as a webhook's answer."""
        detail = self.detail
        if self.status in _REDIRECTS and not self.error:
            detail = "redirects are not followed: give the final URL"
            detail += f", {self.location}" if self.location else ""
        return Answer(
            status=self.status,
            error=self.error,
            detail=detail[:LONGEST_DETAIL],
            excerpt=bytes(self.body),
            retry_after=self.retry_after,
            wish=_WISHES.get(self.header(WISH).strip().lower(), Wish.NONE),
            location=self.location,
            address=self.address,
            resolve_seconds=self.resolve_seconds,
            answer_seconds=self.answer_seconds,
        )


def _location(asked: Url, value: str) -> str:
    """Where a redirect leads, without user name, query and fragment, which may hold secrets; empty when unreadable."""
    try:
        leads = asked.join(value) if value else None
    except ValueError:
        return ""
    if leads is None or leads.scheme not in {"http", "https"}:
        return ""
    bare = leads.with_username("").with_password(None).with_query_string(None).with_fragment(None)
    return str(bare)[:LONGEST_LOCATION]


def _kind(error: RequestError) -> str:
    causes = _causes(error)
    if isinstance(error, RequestTimeoutError):
        return "timeout"
    if _CONNECTING in causes:
        return "refused" if _DIALLING in causes else "tls"
    if _BROKE_OFF in causes or isinstance(error, NetworkError | ClientClosedError):
        return "reset"
    return "protocol"


def _unconnected(error: RequestError) -> bool:
    """Whether no connection was made, for a reason that another address may not have. A bad certificate is no such."""
    causes = _causes(error)
    return _CONNECTING in causes and (_DIALLING in causes or isinstance(error, RequestTimeoutError))


def _detail(error: RequestError) -> str:
    """The innermost cause. The outer ones hold the whole URL."""
    if isinstance(error, RequestTimeoutError):
        return "not connected in time" if _CONNECTING in _causes(error) else "no whole answer before the deadline"
    text = (_causes(error) or [error.message])[-1]
    return text if "://" not in text else "the request could not be completed"


def _causes(error: RequestError) -> list[str]:
    return [cause["message"] for cause in error.details["causes"] or ()]
