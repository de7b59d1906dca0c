"""genericQuery over HTTP: log in, ask for rows, tell an answer from the many shapes of a fault.

    GET {base}/api/framework/v1/genericQuery?tables=SC7&fields=...&where=...  ->  Answer(rows, more, hidden)
    send: one call of a write endpoint beside it, with the same login

Only page 1 is ever asked for: pages of the ERP count rows from the start and shift under the reader, so the walk
moves on by key, inside `where`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from relay.connectors.kit.replies import checked, json_of, parsed, text_of, words
from relay.connectors.kit.token_auth import TokenAuth, Tokens
from relay.connectors.protheus.settings import ProtheusCredentials, ProtheusSettings
from relay.domain.errors import Unavailable, UnexpectedReply, Unsupported

QUERY_PATH: Final = "/api/framework/v1/genericQuery"
TOKEN_PATH: Final = "/api/oauth2/v1/token"  # noqa: S105 - a path

MOST_ROWS: Final = 10**9
"""A count beyond it is no count."""
_MESSAGES: Final = ("errorMessage", "message", "Mensagem", "Message")
_DETAILS: Final = ("detailedMessage", "DetailedMessage")
_NOT_PERMITTED: Final = ("permitid", "not allowed")


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows with upper-case names, as raw as they came; whether more follow; columns kept back from this user.

    `remaining` is how many rows follow, if the ERP says.
    """

    rows: tuple[Any, ...]
    more: bool
    hidden: frozenset[str]
    remaining: int | None = None


class GenericQuery:
    """One login, one way to ask, and one to send."""

    def __init__(self, settings: ProtheusSettings, credentials: ProtheusCredentials, client: httpx.AsyncClient) -> None:
        self._client = client
        self._base = str(settings.url).rstrip("/")
        self._url = f"{self._base}{QUERY_PATH}"
        self._company = settings.company
        self._headers = _headers(settings)
        self._every_branch = "false" if settings.all_branches else "true"
        self._auth: httpx.Auth = (
            httpx.BasicAuth(credentials.username, credentials.password.get_secret_value())
            if settings.login == "basic"
            else TokenAuth(PasswordGrant(settings, credentials))
        )

    async def rows(  # noqa: PLR0913 - these are genericQuery's own parameters
        self,
        table: str,
        fields: Sequence[str],
        where: str,
        *,
        order: Sequence[str],
        size: int,
        with_deleted: bool = False,
    ) -> Answer:
        """The first `size` rows of a table, in this order, with all columns when no fields are named.

        Raises the errors of the tree.
        """
        params = {
            "tables": table,
            **({"fields": ",".join(fields)} if fields else {}),
            "where": where,
            "order": ",".join(order),
            "FilialFilter": self._every_branch,
            "DeletedFilter": "false" if with_deleted else "true",
            "page": "1",
            "pageSize": str(size),
        }
        # %20, never "+": not every server of this family reads a plus as a blank.
        url = f"{self._url}?{urlencode(params, quote_via=quote)}"
        reply = await self._client.get(url, headers=self._headers, auth=self._auth)
        return _answer(_content(reply), size)

    async def send(self, method: str, path: str, content: bytes | None, *, branch: str) -> httpx.Response:
        """One call of a write endpoint for a branch, whatever it answers. Raises what transport and login raise.

        What fails before the call itself went out says so (`unsent`).
        """
        headers = {**self._headers, b"tenantId": _header(f"{self._company},{branch}")}
        if content is not None:
            headers[b"Content-Type"] = b"application/json"
        request = self._client.build_request(method, f"{self._base}{path}", content=content, headers=headers)
        try:
            return await self._client.send(request, auth=self._auth)
        except Unavailable as failed:
            # The login puts its header on the request just before it goes out.
            failed.unsent = failed.unsent or "authorization" not in request.headers
            raise


class PasswordGrant:
    """Protheus's token endpoint: user and password in headers, the body empty; a refresh renews both tokens."""

    def __init__(self, settings: ProtheusSettings, credentials: ProtheusCredentials) -> None:
        self._url = f"{str(settings.url).rstrip('/')}{TOKEN_PATH}"
        self._credentials = credentials

    def login(self) -> httpx.Request:
        """The request that logs in."""
        headers = {
            b"username": _header(self._credentials.username),
            b"password": _header(self._credentials.password.get_secret_value()),
        }
        return httpx.Request("POST", f"{self._url}?grant_type=password", headers=headers)

    def refresh(self, token: str) -> httpx.Request:
        """The request that renews both tokens; the old ones are used up."""
        return httpx.Request("POST", f"{self._url}?grant_type=refresh_token&refresh_token={quote(token, safe='')}")

    def tokens(self, reply: httpx.Response) -> Tokens:
        """The tokens of an answer; raises UnexpectedReply."""
        given = json_of(reply)
        access = given.get("access_token") if isinstance(given, dict) else None
        lasts = given.get("expires_in") if access else None
        if not isinstance(access, str) or not isinstance(lasts, int) or lasts <= 0:
            raise UnexpectedReply("the token endpoint answered without access_token and expires_in")
        refresh = given.get("refresh_token")
        return Tokens(access, float(lasts), refresh if isinstance(refresh, str) and refresh else None)


def quoted(value: str) -> str:
    """A text value for `where`; what neither UTF-8 nor SQL can carry becomes a question mark."""
    return "'" + value.encode("utf-8", "replace").decode().replace("\0", "?").replace("'", "''") + "'"


def _headers(settings: ProtheusSettings) -> Mapping[bytes, bytes]:
    headers = {b"tenantId": _header(settings.tenant), b"Accept": b"application/json"}
    return headers | ({b"x-erp-module": settings.module.encode()} if settings.module else {})


def _header(value: str) -> bytes:
    """Header bytes in the server's own encoding, where it can say them."""
    try:
        return value.encode("cp1252")
    except UnicodeEncodeError:
        return value.encode()


def _content(reply: httpx.Response) -> dict[str, Any]:
    """The answer's object; a fault in any of its shapes raises, with the ERP's own words."""
    text = text_of(reply)
    if not reply.is_success:
        said = _said(text)
        if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE and any(
            part in said.lower() for part in _NOT_PERMITTED
        ):
            raise Unsupported(f"genericQuery is not permitted to this user or server: {said}")
        checked(reply, said=said)
    content = parsed(text)
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        said = _fault(content)
        raise UnexpectedReply(f"genericQuery answered without items{': ' if said else ''}{said}")
    return content


def _answer(content: Mapping[str, Any], size: int) -> Answer:
    rows = tuple(_upper(row) for row in content["items"])
    more = content.get("hasNext")
    hidden = {*_names(content.get("protectedDataFields")), *_names(content.get("nivelFields"))}
    # An installation may give fewer rows than asked for; one that does not say whether more follow gives a full page.
    follows = len(rows) >= size if more is None else str(more).lower() == "true"
    return Answer(rows, follows, frozenset(hidden), _count(content.get("remainingRecords")))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_ROWS else None


def _upper(row: Any) -> Any:
    return {name.upper(): value for name, value in row.items()} if isinstance(row, dict) else row


def _names(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [part.strip().upper() for part in parts if isinstance(part, str)]


def _said(text: str) -> str:
    """What a fault's body says: its message when it is JSON, nothing of an HTML page."""
    try:
        return _fault(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return ""


def _fault(content: Any) -> str:
    if not isinstance(content, dict):
        return ""
    said = [next((content[name] for name in names if content.get(name)), "") for names in (_MESSAGES, _DETAILS)]
    return words(" - ".join(str(part) for part in said if part))
