"""RM's movements over HTTP: log in, list, read one; tell an answer from the many shapes of a fault.

GET {base}/api/mov/v1/movements?page=2&pageSize=100&order=CompanyId,MovementId&expand=Items   -> records, more
GET {base}/api/mov/v1/Movements/1%7C4711?expand=Items                                         -> record, or gone
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from relay.connectors.kit.replies import checked, json_of, parsed, text_of, words
from relay.connectors.kit.token_auth import TokenAuth, Tokens
from relay.connectors.rm.settings import RmCredentials, RmSettings
from relay.connectors.rm.spelling import MISSPELT, spelling_of
from relay.domain.errors import UnexpectedReply

TOKEN_PATH: Final = "/api/connect/token/"  # noqa: S105 - a path
LIST_PATH: Final = "/api/mov/v1/movements"
ONE_PATH: Final = "/api/mov/v1/Movements"
ITEMS: Final = "Items"
NAMING: Final = ("InternalId", "CompanyId", "MovementId", "MovementTypeCode", "RECMODIFIEDON")
"""The fields that say whose a record is and when it changed."""

_HEADERS: Final = {"Accept": "application/json", "Accept-Language": "pt-BR"}
_SAID: Final = ("message", "Message", "errorMessage", "Mensagem")
_DETAILS: Final = ("detailedMessage", "DetailedMessage")


class Movements:
    """One login and the calls of one RM."""

    def __init__(
        self, settings: RmSettings, credentials: RmCredentials, client: httpx.AsyncClient, expand: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._base = str(settings.url).rstrip("/")
        self._filter = settings.filter
        self._expand = ",".join((ITEMS, *expand))
        self.spelling = MISSPELT
        """How this RM writes vendors, as far as it has shown it."""
        self._auth: httpx.Auth = (
            httpx.BasicAuth(credentials.username, credentials.password.get_secret_value())
            if settings.login == "basic"
            else TokenAuth(PasswordGrant(self._base, credentials))
        )

    async def page(self, order: str, page: int, size: int, *, fields: Sequence[str] = ()) -> tuple[Sequence[Any], bool]:
        """Records of one page, whole or with these fields only, and whether more follow; raises the tree's errors."""
        params = {
            "page": str(page),
            "pageSize": str(size),
            "order": order,
            **({"fields": ",".join(fields)} if fields else {"expand": self._expand}),
            **({"$filter": self._filter} if self._filter else {}),
        }
        content = content_of(await self._get(f"{LIST_PATH}?{urlencode(params, quote_via=quote)}"))
        records = content.get("items")
        if not isinstance(records, list):
            raise UnexpectedReply(_without("a list of items", content))
        self._learn(records)
        more = content.get("hasNext")
        # An RM that does not say whether more follow gives a full page while there are more.
        return records, len(records) >= size if more is None else str(more).lower() == "true"

    async def read(self, remote_id: str) -> Mapping[str, Any] | None:
        """One record with its items; None when RM says that there is no such movement."""
        reply = await self._get(f"{ONE_PATH}/{quote(remote_id, safe='')}?expand={quote(self._expand, safe='')}")
        if reply.status_code == httpx.codes.NOT_FOUND and fault_of(text_of(reply)):
            return None
        content = content_of(reply)
        if "MovementId" not in content:
            raise UnexpectedReply(_without("a movement", content))
        self._learn([content])
        return content

    async def send(self, method: str, path: str, content: str | None) -> httpx.Response:
        """One writing call, and what came back, whatever it says."""
        headers = _HEADERS if content is None else {**_HEADERS, "Content-Type": "application/json; charset=utf-8"}
        body = None if content is None else content.encode()
        return await self._client.request(method, f"{self._base}{path}", content=body, headers=headers, auth=self._auth)

    async def _get(self, path: str) -> httpx.Response:
        return await self._client.get(f"{self._base}{path}", headers=_HEADERS, auth=self._auth)

    def _learn(self, records: Sequence[Any]) -> None:
        told = next((spelling for each in records if isinstance(each, dict) and (spelling := spelling_of(each))), None)
        self.spelling = told or self.spelling


class PasswordGrant:
    """RM's token endpoint: user and password as JSON, tokens of five minutes and one to renew them with."""

    def __init__(self, base: str, credentials: RmCredentials) -> None:
        self._url = f"{base}{TOKEN_PATH}"
        self._credentials = credentials

    def login(self) -> httpx.Request:
        """The request that logs in."""
        password = self._credentials.password.get_secret_value()
        return self._request({"username": self._credentials.username, "password": password})

    def refresh(self, token: str) -> httpx.Request:
        """The request that renews both tokens."""
        return self._request({"grant_type": "refresh_token", "refresh_token": token})

    def tokens(self, reply: httpx.Response) -> Tokens:
        """The tokens of an answer; raises UnexpectedReply."""
        given = json_of(reply)
        access = given.get("access_token") if isinstance(given, dict) else None
        lasts = given.get("expires_in") if access else None
        if not isinstance(access, str) or isinstance(lasts, bool) or not isinstance(lasts, int) or lasts <= 0:
            raise UnexpectedReply("the token endpoint answered without access_token and expires_in")
        refresh = given.get("refresh_token")
        return Tokens(access, float(lasts), refresh if isinstance(refresh, str) and refresh else None)

    def _request(self, body: Mapping[str, str]) -> httpx.Request:
        return httpx.Request("POST", self._url, json=body, headers=_HEADERS)


def fault_of(text: str) -> str:
    """What a fault's body says: its message when it is JSON, nothing of an HTML page."""
    try:
        content = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return ""
    return _said(content)


def content_of(reply: httpx.Response) -> dict[str, Any]:
    """The answer's object; a fault in any of its shapes raises, with RM's own words."""
    text = text_of(reply)
    if not reply.is_success:
        checked(reply, said=fault_of(text))
    content = parsed(text)
    if not isinstance(content, dict):
        raise UnexpectedReply("RM answered with something else than an object")
    return content


def _without(what: str, content: Mapping[str, Any]) -> str:
    said = _said(content)
    return f"RM answered without {what}{': ' if said else ''}{said}"


def _said(content: Any) -> str:
    if not isinstance(content, dict):
        return ""
    said = [next((content[name] for name in names if content.get(name)), "") for names in (_SAID, _DETAILS)]
    return words(" - ".join(str(part) for part in said if part))
