"""The simulated Protheus's login: OAuth2 password grant with its own habits, and Basic.

    POST token?grant_type=password   username, password as headers (query or form also taken), body empty
    POST token?grant_type=refresh_token&refresh_token=...   renews both; the old refresh token is used up

Counters (`logins`, `refused`) let a test prove that a client does not hammer a login.
"""

import base64
import binascii
import datetime as dt
import json
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from relay.demo.rough_http import Request

TOKEN_PATH = "/api/oauth2/v1/token"  # noqa: S105 - a path


class Logins:
    """One user, the tokens given out, and who was refused. Lifetimes are in seconds."""

    def __init__(
        self,
        username: str,
        password: str,
        *,
        lifetime: float,
        refresh_lifetime: float,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self.username = username
        self._password = password
        self._lifetime = dt.timedelta(seconds=lifetime)
        self._refresh_lifetime = dt.timedelta(seconds=refresh_lifetime)
        self._clock = clock
        self._access: dict[str, dt.datetime] = {}
        self._refresh: dict[str, dt.datetime] = {}
        self.logins = 0
        self.refreshes = 0
        self.refused = 0

    def change_password(self, password: str) -> None:
        """From now on only this password opens; tokens already given are gone."""
        self._password = password
        self.expire_tokens()
        self.expire_refresh_tokens()

    def expire_tokens(self) -> None:
        """Every access token given so far stops working."""
        self._access.clear()

    def expire_refresh_tokens(self) -> None:
        """Every refresh token given so far stops working."""
        self._refresh.clear()

    def token(self, request: Request) -> dict[str, object] | None:
        """The answer of the token endpoint, or None: refused."""
        given = {**_form(request), **request.query}
        if given.get("grant_type") == "refresh_token":
            if not self._alive(self._refresh, given.get("refresh_token", "")):
                self.refused += 1
                return None
            del self._refresh[given["refresh_token"]]
            self.refreshes += 1
            return self._pair()
        if not self._matches(_credentials(request, given)):
            self.refused += 1
            return None
        self.logins += 1
        return self._pair()

    def opens(self, authorization: str) -> bool:
        """Whether an Authorization header lets the caller in."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            known = self._matches(_basic(value))
            self.refused += not known
            return known
        return self._alive(self._access, value)

    def _matches(self, given: tuple[str, str]) -> bool:
        return given == (self.username, self._password)

    def _alive(self, tokens: Mapping[str, dt.datetime], token: str) -> bool:
        return token in tokens and self._clock() < tokens[token]

    def _pair(self) -> dict[str, object]:
        now = self._clock()
        access, refresh = _jwt(self.username, now + self._lifetime), _jwt(self.username, now + self._refresh_lifetime)
        self._access[access] = now + self._lifetime
        self._refresh[refresh] = now + self._refresh_lifetime
        return {
            "access_token": access,
            "refresh_token": refresh,
            "scope": "default",
            "token_type": "Bearer",
            "expires_in": int(self._lifetime.total_seconds()),
            "hasMFA": False,
        }


def _credentials(request: Request, given: Mapping[str, str]) -> tuple[str, str]:
    source = request.headers if "password" in request.headers else given
    return source.get("username", ""), source.get("password", "")


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode("latin-1")))


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def _jwt(subject: str, until: dt.datetime) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": subject, "exp": int(until.timestamp())})
    body = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{body}.{secrets.token_urlsafe(32)}"
