"""Send one webhook, and say what came back.

    url, headers, body -> resolve, check, connect, TLS, send, read -> Answer(status | error)

The one thing to know: the network never raises here. Whatever a receiver does (nothing, one byte a second, an endless
body, noise) ends as an `Answer`, at the deadline at the latest. Each endpoint has its own client, so its connections
and its troubles are its own. The client does not resolve: it is pinned to an address that the policy has passed.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import IPv4Address

from pyreqwest.client import Client
from pyreqwest.exceptions import ClientClosedError, NetworkError, RequestError, RequestTimeoutError
from pyreqwest.http import Url
from pyreqwest.response import Response

from relay.domain.deliveries import Answer
from relay.domain.egress import Policy, literal
from relay.domain.errors import UserError
from relay.domain.retry import parse_retry_after
from relay.wire.egress import Resolver, checked, lookup
from relay.wire.pinned import Dialling, PinnedClients

BODY_CAP = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
EXCERPT = 4 * 1024
"""Bytes of it that are kept."""
LONGEST_URL = 2048
LONGEST_DETAIL = 200
MOST_TRIED = 4
"""Addresses of a host that one attempt may try."""
USER_AGENT = f"relay/{version('erp-relay')}"

_REDIRECTS = range(300, 400)

# The texts of pyreqwest's (reqwest's) causes that tell the phases apart; each has its test over a real socket.
_CONNECTING, _DIALLING = "client error (Connect)", "tcp connect error"
_BROKE_OFF = "end of file before message length reached"


class WebhookSender:
    """One endpoint's clients: they keep up to `at_once` connections to `url` for the next webhook.

    `deadline` is for one whole attempt, from resolving the name to the last byte of the answer; `connect_timeout` is
    within it. `url` is one that `check_url` gave back. Only addresses that `policy` does not refuse are called. Proxies
    of the environment are not used.
    """

    def __init__(self, url: str, dialling: Dialling) -> None:
        self._url = Url(url)
        self._deadline = dialling.deadline.total_seconds()
        self._clients = PinnedClients(self._url, dialling, USER_AGENT)

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`, once. Redirects are not followed and nothing is decompressed.

        When no connection can be made, the host's other addresses are tried, too: nothing of the request was sent.
        Raises only for headers that HTTP cannot carry (ValueError), never for what the network or the receiver does.
        """
        now = asyncio.get_running_loop().time
        ends = now() + self._deadline
        found = await self._clients.found()
        answer = Answer(error=found.error, detail=found.detail[:LONGEST_DETAIL])
        for address in found.addresses[:MOST_TRIED]:
            if (left := ends - now()) <= 0:
                break
            async with self._clients.to(address) as client:
                reply = await self._post(client, headers, body, timedelta(seconds=left))
            answer = reply.answer()
            if not reply.unconnected:
                break
            self._clients.avoid(address)
        return answer

    async def close(self) -> None:
        """Close the connections. An attempt still in flight ends as `reset`."""
        await self._clients.close()

    async def _post(self, client: Client, headers: Mapping[str, str], body: bytes, within: timedelta) -> "_Reply":
        request = (
            client.post(self._url)
            .headers(headers)
            .timeout(within)
            .body_bytes(body)
            .streamed_read_buffer_limit(0)  # or the status would wait for the body's first bytes, and be lost with them
            .build_streamed()
        )
        reply = _Reply()
        try:
            async with request as response:
                await reply.read(response)
        except RequestError as error:
            reply.error, reply.detail, reply.unconnected = _kind(error), _detail(error), _unconnected(error)
        return reply


def check_url(url: str, *, allow_http: bool = False) -> str:
    """The address in the one spelling that the client uses, so that what is checked is what is called.

    Raises:
        UserError: It cannot be an endpoint's address. Says what to change and never repeats the address, whose path and
            query may hold secrets.
    """
    if len(url) > LONGEST_URL:
        raise UserError(f"the endpoint's URL has {len(url)} characters: at most {LONGEST_URL} are allowed")
    if not url.isprintable() or " " in url or "\\" in url:
        raise UserError("the endpoint's URL has spaces, backslashes or control characters: percent-encode them")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"https", "http"}:
        raise UserError("the endpoint's URL must begin with https://")
    if not rest or rest[0] in "/?#":
        raise UserError("the endpoint's URL has no host after ://, as in https://example.com/hooks")
    return _checked(url, allow_http=allow_http)


async def check_host(url: str, policy: Policy, *, within: timedelta, resolve: Resolver = lookup) -> tuple[str, ...]:
    """Whether the host of a URL may be called now; notices, when that cannot be known yet. `url` is from `check_url`.

    Raises:
        UserError: `policy` refuses one of its addresses.
    """
    parsed = Url(url)
    found = await checked(
        parsed.host_str or "", parsed.port_or_known_default or 0, policy=policy, within=within, resolve=resolve
    )
    if found.error == "policy":
        raise UserError(f"the endpoint's URL may not be called: {found.detail}. RELAY_EGRESS__ALLOW can allow it")
    return (f"{found.detail}: webhooks wait until it can be resolved",) if found.error else ()


def _checked(url: str, *, allow_http: bool) -> str:
    try:
        parsed = Url(url)
    except ValueError as error:
        # The parser names the part (port, IPv6 address, domain name) and repeats nothing of it.
        raise UserError(f"the endpoint's URL cannot be read: {error}") from None
    if parsed.scheme == "http" and not allow_http:
        raise UserError("the endpoint's URL must begin with https://: anybody on the way can read plain http")
    if parsed.username or parsed.password is not None:
        raise UserError("the endpoint's URL has a user name or password before the host: remove it")
    if parsed.fragment is not None:
        raise UserError("the endpoint's URL has a # part, which is never sent: remove it")
    if parsed.port == 0:
        raise UserError("the endpoint's URL has port 0: use a port from 1 to 65535")
    if isinstance(literal(parsed.host_str or ""), IPv4Address) and _authority(url) != parsed.host_str:
        # Decimal, octal, hexadecimal, shortened or in other digits: nobody writes so who has nothing to hide.
        raise UserError("the endpoint's URL has an address in an unusual form: write it as four decimal numbers")
    return str(parsed)


def _authority(url: str) -> str:
    """The host as it was written, of a URL that was parsed and has no user name."""
    return re.split(r"[/?#:]", url.partition("://")[2], maxsplit=1)[0]


@dataclass(slots=True)
class _Reply:
    """What has come back so far: it survives a connection that breaks off."""

    status: int | None = None
    retry_after: float | None = None
    excerpt: bytearray = field(default_factory=bytearray)
    error: str = ""
    detail: str = ""
    unconnected: bool = False
    """No connection was made: another address may do."""

    async def read(self, response: Response) -> None:
        self.status = response.status
        self.retry_after = _retry_after(response)
        size = 0
        while size <= BODY_CAP and (chunk := await response.body_reader.read_chunk()) is not None:
            size += len(chunk)
            if (wanted := EXCERPT - len(self.excerpt)) > 0:
                self.excerpt += chunk.to_bytes()[:wanted]

    def answer(self) -> Answer:
        detail = self.detail
        if self.status in _REDIRECTS and not self.error:
            detail = "redirects are not followed: give the final URL"
        return Answer(
            status=self.status,
            error=self.error,
            detail=detail,
            excerpt=bytes(self.excerpt),
            retry_after=self.retry_after,
        )


def _retry_after(response: Response) -> float | None:
    try:
        value = response.get_header("retry-after")
    except ValueError:  # it is not ASCII
        return None
    return None if value is None else parse_retry_after(value, datetime.now(UTC))


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
    return text[:LONGEST_DETAIL] if "://" not in text else "the request could not be completed"


def _causes(error: RequestError) -> list[str]:
    return [cause["message"] for cause in error.details["causes"] or ()]
