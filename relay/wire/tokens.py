"""Access tokens for webhooks: OAuth 2.0 client credentials, RFC 6749 section 4.4.

    get(ends) -> a token that holds | Reply(error="auth")      fetched once for all who wait, kept until shortly before
    get(ends, instead_of=refused) -> another one, or the same when the token server gives no other

The one thing to know: the token server is called like a receiver: checked address, no redirects, a deadline, a cap.
What it answers is never shown, but for its status and the standard's own words for errors.
"""

import asyncio
import base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson

from relay.domain.access import LONGEST_VALUE, Access, ClientCredentials
from relay.wire.connection import BODY_CAP
from relay.wire.exchange import Caller
from relay.wire.pinned import Dialling
from relay.wire.reply import Reply

LIFETIME, LONGEST_LIFETIME = 300.0, 24 * 3600.0
"""Seconds: of a token that does not say how long it holds, and the most that is believed."""
MARGIN, MARGIN_SHARE = 30.0, 0.25
"""A token is replaced so many seconds before it ends, or this part of its life when that is less."""
REST = 1.0
"""Seconds for which a failed token server is left alone."""

_ERRORS = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope"),
        *("unauthorized_client", "unsupported_grant_type"),
    }
)
"""RFC 6749 section 5.2."""
_OK = 200


class Tokens:
    """The tokens of one endpoint. `access` gives certificate and authority, which hold for the token server, too."""

    def __init__(self, auth: ClientCredentials, dialling: Dialling, access: Access) -> None:
        self._auth, self._deadline = auth, dialling.deadline.total_seconds()
        self._caller = Caller(auth.token_url, dialling, access.tls(), keep=BODY_CAP)
        self._token, self._until = "", 0.0
        self._failure, self._rests_until = Reply(), 0.0
        self._asking: asyncio.Task[str | Reply] | None = None

    async def get(self, ends: float, *, instead_of: str = "") -> str | Reply:
        """A token, or why there is none. Waits until `ends` on the loop's clock."""
        now = asyncio.get_running_loop().time()
        if self._token and self._token != instead_of and now < self._until:
            return self._token
        if now < self._rests_until:
            return replace(self._failure)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        # Waited for, not awaited: one who gives up must not end the question of the others.
        await asyncio.wait([asking], timeout=max(0.0, ends - now))
        if not asking.done():
            return _failed("gave no token before the deadline")
        return _failed("was not answered: closed meanwhile") if asking.cancelled() else asking.result()

    async def close(self) -> None:
        """Close the connections; who waits for a token gets none."""
        if self._asking:
            self._asking.cancel()
        await self._caller.close()

    async def _ask(self) -> str | Reply:
        now = asyncio.get_running_loop().time
        headers, form = _request(self._auth)
        try:
            reply = await self._caller.call("POST", headers, form, ends=now() + self._deadline)
        finally:
            self._asking = None
        told = _read(reply)
        if isinstance(told, Reply):
            self._failure, self._rests_until = told, now() + REST
            return replace(told)
        self._token, lifetime = told
        self._until = now() + lifetime - min(MARGIN, lifetime * MARGIN_SHARE)
        return self._token


def _request(auth: ClientCredentials) -> tuple[dict[str, str], bytes]:
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    form = {"grant_type": "client_credentials", "scope": auth.scope, "audience": auth.audience}
    secret = auth.client_secret.get_secret_value()
    if auth.authenticates == "body":
        form |= {"client_id": auth.client_id, "client_secret": secret}
    else:  # each is form-encoded first: RFC 6749 section 2.3.1
        login = f"{quote_plus(auth.client_id)}:{quote_plus(secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return headers, urlencode({name: value for name, value in form.items() if value}).encode()


def _read(reply: Reply) -> tuple[str, float] | Reply:
    """The token and the seconds it holds, or the failure."""
    if reply.error:
        return _failed(f"was not reached: {reply.error} ({reply.detail})")
    told = _json(reply.body)
    if reply.status != _OK:
        why = next((f" ({each})" for each in _ERRORS if each == told.get("error")), "")
        return _failed(f"answered {reply.status}{why}", reply.retry_after)
    token, kind = told.get("access_token"), told.get("token_type", "bearer")
    if not isinstance(token, str) or not token:
        return _failed("answered 200 without an access_token in JSON")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return _failed("gave a token whose token_type is not Bearer")
    if len(token) > LONGEST_VALUE * 4 or not all("!" <= each <= "~" for each in token):
        return _failed("gave a token that no header can carry")
    return token, _lifetime(told.get("expires_in"))


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _lifetime(value: Any) -> float:
    """Seconds. Some token servers write the number as text; what is no number counts as missing."""
    try:
        seconds = LIFETIME if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = LIFETIME
    # In this order a NaN ends as 0.
    return min(max(0.0, seconds), LONGEST_LIFETIME)


def _failed(how: str, retry_after: float | None = None) -> Reply:
    return Reply(error="auth", detail=f"the token server {how}", retry_after=retry_after)
