"""Send one webhook, and say what came back.

    url, headers, body -> resolve, connect, TLS, send, read -> Answer(status | error)

The one thing to know: the network never raises here. Whatever a receiver does (nothing, one byte a second, an endless
body, noise) ends as an `Answer`, at the deadline at the latest. Each endpoint has its own client, so its connections
and its troubles are its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ClientClosedError, NetworkError, RequestError, RequestTimeoutError
from pyreqwest.http import Url
from pyreqwest.response import Response

from relay.domain.deliveries import Answer
from relay.domain.errors import UserError
from relay.domain.retry import parse_retry_after

BODY_CAP = 64 * 1024
"""Bytes of an answer's body that are read before the connection is closed."""
EXCERPT = 4 * 1024
"""Bytes of it that are kept."""
LONGEST_URL = 2048
LONGEST_DETAIL = 200
USER_AGENT = f"relay/{version('erp-relay')}"

_IDLE = timedelta(seconds=50)  # under the 60 s after which common load balancers drop an idle connection
_REDIRECTS = range(300, 400)

# The texts of pyreqwest's (reqwest's) causes that tell the phases apart; each has its test over a real socket.
_CONNECTING, _RESOLVING, _DIALLING = "client error (Connect)", "dns error", "tcp connect error"
_BROKE_OFF = "end of file before message length reached"


class WebhookSender:
    """One endpoint's client: keeps up to `at_once` connections to `url` for the next webhook.

    `deadline` is for one whole attempt, from resolving the name to the last byte of the answer; `connect_timeout` is
    within it. `url` is one that `check_url` gave back. Proxies of the environment are not used.
    """

    def __init__(self, url: str, *, deadline: timedelta, connect_timeout: timedelta, at_once: int) -> None:
        self._url = Url(url)
        self._client = _client(deadline, connect_timeout, at_once)

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`, once. Redirects are not followed and nothing is decompressed.

        Raises only for headers that HTTP cannot carry (ValueError), never for what the network or the receiver does.
        """
        request = (
            self._client.post(self._url)
            .headers(headers)
            .body_bytes(body)
            .streamed_read_buffer_limit(0)  # or the status would wait for the body's first bytes, and be lost with them
            .build_streamed()
        )
        reply = _Reply()
        try:
            async with request as response:
                await reply.read(response)
        except RequestError as error:
            return reply.answer(_kind(error), _detail(error))
        return reply.answer()

    async def close(self) -> None:
        """Close the connections. An attempt still in flight ends as `reset`."""
        await self._client.close()


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
    return str(parsed)


def _client(deadline: timedelta, connect_timeout: timedelta, at_once: int) -> Client:
    return (
        ClientBuilder()
        .timeout(deadline)
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(at_once)
        .pool_idle_timeout(_IDLE)
        .user_agent(USER_AGENT)
        .default_headers({"accept-encoding": "identity"})
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .follow_redirects(False)
        .referer(False)
        .no_proxy()
        .http1_only()
        .min_tls_version("TLSv1.2")
        .build()
    )


@dataclass(slots=True)
class _Reply:
    """What has come back so far: it survives a connection that breaks off."""

    status: int | None = None
    retry_after: float | None = None
    excerpt: bytearray = field(default_factory=bytearray)

    async def read(self, response: Response) -> None:
        self.status = response.status
        self.retry_after = _retry_after(response)
        size = 0
        while size <= BODY_CAP and (chunk := await response.body_reader.read_chunk()) is not None:
            size += len(chunk)
            if (wanted := EXCERPT - len(self.excerpt)) > 0:
                self.excerpt += chunk.to_bytes()[:wanted]

    def answer(self, error: str = "", detail: str = "") -> Answer:
        if self.status in _REDIRECTS and not error:
            detail = "redirects are not followed: give the final URL"
        return Answer(
            status=self.status,
            error=error,
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
    if _RESOLVING in causes:
        return "resolve"
    if _CONNECTING in causes:
        return "refused" if _DIALLING in causes else "tls"
    if _BROKE_OFF in causes or isinstance(error, NetworkError | ClientClosedError):
        return "reset"
    return "protocol"


def _detail(error: RequestError) -> str:
    """The innermost cause. The outer ones hold the whole URL."""
    if isinstance(error, RequestTimeoutError):
        return "not connected in time" if _CONNECTING in _causes(error) else "no whole answer before the deadline"
    text = (_causes(error) or [error.message])[-1]
    return text[:LONGEST_DETAIL] if "://" not in text else "the request could not be completed"


def _causes(error: RequestError) -> list[str]:
    return [cause["message"] for cause in error.details["causes"] or ()]
