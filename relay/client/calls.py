"""Calls: one request to the control API, and its answer as a value or as the error that the operation raised."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import TypeAdapter

from relay.domain import errors
from relay.domain.errors import NotFound, RelayError, Throttled, Unavailable, UserError

Answer = TypeVar("Answer")

TIMEOUT = 120.0
"""Seconds: a first look at an ERP may take as long."""
PAGE = 200
"""Items asked for at a time."""
ALL = 10**9

_ERRORS: Mapping[str, type[RelayError]] = {
    "not_found": NotFound,
    "already_there": errors.AlreadyThere,
    "key_trouble": errors.KeyTrouble,
    "credentials_refused": errors.CredentialsRefused,
    "unsupported": errors.Unsupported,
    "unexpected_reply": errors.UnexpectedReply,
    "record_rejected": errors.RecordRejected,
    "throttled": Throttled,
    "unavailable": Unavailable,
    "too_many_requests": Throttled,
    "service_unavailable": Unavailable,
    "bad_gateway": Unavailable,
    "gateway_timeout": Unavailable,
}
_SERVER_FAILED = 500
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


class Calls:
    """Requests through an HTTP client that knows relay's address and shows a token, if one is needed."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def _get(self, kind: type[Answer], path: str, **query: Any) -> Answer:
        return await self._call(kind, "GET", path, query=query)

    async def _post(self, kind: type[Answer], path: str, body: Any = None) -> Answer:
        # A proxy in between may send it again: it is done once all the same.
        return await self._call(kind, "POST", path, body=body, headers={"idempotency-key": secrets.token_hex(16)})

    async def _patch(self, kind: type[Answer], path: str, body: Any) -> Answer:
        return await self._call(kind, "PATCH", path, body=body)

    async def _put(self, kind: type[Answer], path: str, body: Any) -> Answer:
        return await self._call(kind, "PUT", path, body=body)

    async def _delete(self, kind: type[Answer], path: str, **query: Any) -> Answer:
        return await self._call(kind, "DELETE", path, query=query)

    async def _list(self, kind: type[Answer], path: str, most: int = ALL, **query: Any) -> list[Answer]:
        """Up to `most` items, page after page."""
        found: list[Any] = []
        after = None
        while True:
            limit = min(PAGE, most - len(found))
            page = await self._get(dict[str, Any], path, **query, limit=limit, after=after)
            found += page["items"]
            after = page["next"]
            if after is None or len(found) >= most:
                return TypeAdapter(list[kind]).validate_python(found)  # type: ignore[valid-type]

    @asynccontextmanager
    async def _stream(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a 2xx answer, piece by piece."""
        with self._reachable():
            async with self._http.stream("GET", path) as reply:
                if not reply.is_success:
                    await reply.aread()
                    raise _refusal(reply)
                yield reply.aiter_bytes()

    async def _id(self, noun: str, name: str) -> str:
        """The id of what people call so. Raises NotFound, and UserError when several are called so."""
        page: dict[str, Any] = await self._get(dict[str, Any], f"/v1/{noun}s", name=name, limit=PAGE)
        found: Sequence[Any] = page["items"]
        if exact := [each for each in found if each["id"] == name]:
            found = exact
        if not found:
            raise NotFound(f"there is no {noun} {name!r}: see `relay {noun}s list`")
        if len(found) > 1:
            full = ", ".join(f"{each['customer']}/{each['name']}" for each in found)
            raise UserError(f"several customers have a {noun} {name!r}; say which: {full}")
        return str(found[0]["id"])

    async def _call(  # noqa: PLR0913 - what a request is made of
        self,
        kind: type[Answer],
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        request = self._http.build_request(
            method,
            path,
            params={
                name: _JSON.dump_python(value, mode="json") for name, value in (query or {}).items() if _given(value)
            },
            json=None if body is None else _JSON.dump_python(body, mode="json"),
            headers=headers,
        )
        with self._reachable():
            reply = await self._http.send(request)
        if reply.is_success:
            return TypeAdapter(kind).validate_json(reply.content)
        raise _refusal(reply)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            there = self._http.base_url.netloc.decode()
            raise Unavailable(f"relay does not answer at {there}: {_reason(error)}") from error


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def segment(text: str) -> str:
    """Text from a person as one segment of a path."""
    return quote(text, safe="")


def _plain(value: Any) -> Any:
    """As JSON has it: spans and times as text."""
    return _JSON.dump_python(value, mode="json")


def _given(value: Any) -> bool:
    return value is not None and value not in ((), [])


def _refusal(reply: httpx.Response) -> RelayError:
    try:
        told = orjson.loads(reply.content)
        code, detail = str(told["code"]), str(told["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        host, status = reply.request.url.host, reply.status_code
        if status >= _SERVER_FAILED:
            return Unavailable(f"{host} answered {status}, and not in relay's words: is a proxy in between?")
        return UserError(f"{host} answered {status}, and not in relay's words: check RELAY_API__URL")
    if code == "unauthorized":
        return UserError(
            f"relay at {reply.request.url.host} takes no such key: look at RELAY_API__KEY or RELAY_API__KEY_FILE, "
            "or have a new one made (`relay operators add`)"
        )
    if code == "internal_server_error":
        return RelayError(f"{detail} ({told.get('request_id', '')})")
    return _ERRORS.get(code, UserError)(detail)
