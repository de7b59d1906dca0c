"""Send one webhook, and say what came back; and the check of the URLs that webhooks may be sent to.

    url, headers, body -> resolve, check, connect, TLS, send, read -> Answer(status | error)

The one thing to know: each endpoint has its own connections, so its troubles are its own. To make one, no name is
resolved: each is to an address that the policy has passed.
"""

import asyncio
import re
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from pyreqwest.http import Url

from relay.domain.access import Access, ClientCredentials
from relay.domain.deliveries import Answer
from relay.domain.egress import Policy, literal
from relay.domain.errors import UserError
from relay.domain.verification import PERMISSION, Permission
from relay.wire.egress import Resolver, checked, lookup
from relay.wire.exchange import Caller
from relay.wire.pinned import Dialling
from relay.wire.reply import Reply
from relay.wire.tls import context
from relay.wire.tokens import Tokens

LONGEST_URL = 2048

_NOTHING, _UNAUTHORIZED = Access(), 401


class WebhookSender:
    """One endpoint's connections to `url`: up to `at_once` are kept for the next webhook.

    `deadline` is for one whole attempt, from resolving the name to the last byte of the answer; `connect_timeout` is
    within it. `url` is one that `check_url` gave back. Only addresses that `policy` does not refuse are called. Proxies
    of the environment are not used. `access` is what the receiver asks for; when it is a token, a 401 has it fetched
    anew and the webhook sent once more, within the same attempt.
    """

    def __init__(self, url: str, dialling: Dialling, access: Access = _NOTHING) -> None:
        self._now = asyncio.get_running_loop().time
        self._deadline = dialling.deadline.total_seconds()
        self._caller = Caller(url, dialling, access)
        auth = access.auth
        self._tokens = Tokens(auth, dialling, access) if isinstance(auth, ClientCredentials) else None

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`, once. Redirects are not followed and nothing is decompressed.

        When no connection can be made, the host's other addresses are tried, too: nothing of the request was sent.
        Raises only for headers that HTTP cannot carry (ValueError), never for what the network or the receiver does.
        """
        return (await self._call("POST", headers, body)).answer()

    async def ask(self, headers: Mapping[str, str]) -> Permission:
        """OPTIONS, once: whether this URL wants webhooks. As `send` in everything else."""
        reply = await self._call("OPTIONS", headers, b"")
        return Permission(
            reply.answer(), **{name: reply.header(header.encode()) for name, header in PERMISSION.items()}
        )

    async def close(self) -> None:
        """Close the connections. An attempt still in flight ends as `reset`."""
        if self._tokens:
            await self._tokens.close()
        await self._caller.close()

    def _call(self, method: str, headers: Mapping[str, str], body: bytes) -> Coroutine[Any, Any, Reply]:
        ends = self._now() + self._deadline
        if self._tokens is None:
            return self._caller.call(method, headers, body, ends=ends)
        return self._call_with(self._tokens, method, headers, body, ends)

    async def _call_with(
        self, tokens: Tokens, method: str, headers: Mapping[str, str], body: bytes, ends: float
    ) -> Reply:
        token = await tokens.get(ends)
        if isinstance(token, Reply):
            return token
        reply = await self._caller.call(method, _with(token, headers), body, ends=ends)
        if reply.status != _UNAUTHORIZED or reply.error:
            return reply
        other = await tokens.get(ends, instead_of=token)
        if isinstance(other, Reply):
            reply.error, reply.detail = other.error, other.detail
        elif other != token:
            reply = await self._caller.call(method, _with(other, headers), body, ends=ends)
        return reply


def _with(token: str, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "authorization": f"Bearer {token}"}


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


def check_access(access: Access, *, allow_http: bool = False) -> Access:
    """The access, its token server's URL in the one spelling that the client uses. `check_host` is for that, too.

    Raises:
        UserError: It cannot be used: says which part, and repeats nothing of it.
    """
    try:
        context(access)
    except ValueError:
        raise UserError("the client certificate, its key or the authority is of a kind that TLS cannot use") from None
    if not isinstance(access.auth, ClientCredentials):
        return access
    try:
        url = check_url(access.auth.token_url, allow_http=allow_http)
    except UserError as error:
        raise UserError(str(error).replace("the endpoint's URL", "the token server's URL")) from None
    return access.model_copy(update={"auth": access.auth.model_copy(update={"token_url": url})})


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
