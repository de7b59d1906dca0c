"""From an ERP's bytes to JSON with exact numbers, or to the error that says what to do next.

    json_of(reply)    status checked -> text decoded -> parsed, fractions as Decimal

The transport below has already retried what may be retried; what arrives here is final.
"""

import json
import re
from decimal import Decimal
from typing import Any, Final

import httpx

from relay.domain.errors import (
    CredentialsRefused,
    Permanent,
    Throttled,
    Transient,
    Unavailable,
    UnexpectedReply,
    Unsupported,
)

_WORDS_KEPT: Final = 200
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def json_of(reply: httpx.Response) -> Any:
    """The JSON of a 2xx reply; see `checked` for what other statuses raise. Fractions are Decimal, NaN is text.

    Raises UnexpectedReply for HTML, half a body or anything else that is not JSON.
    """
    return parsed(text_of(checked(reply)))


def parsed(text: str) -> Any:
    """JSON text as values, fractions as Decimal; raises UnexpectedReply."""
    try:
        # strict=False: ERPs put raw line breaks and tabs of a memo into JSON strings.
        return json.loads(text, parse_float=Decimal, parse_constant=str, strict=False)
    except (ValueError, RecursionError) as error:
        what = "HTML" if text.lstrip()[:1] == "<" else "no JSON" if text.strip() else "an empty body"
        raise UnexpectedReply(f"expected JSON, got {what} ({len(text)} characters)") from error


def text_of(reply: httpx.Response) -> str:
    """The body as text: UTF-8 when it is valid UTF-8, whatever the header says; else Windows-1252.

    Servers declare iso-8859-1 for UTF-8 bodies and nothing at all for CP1252 ones, so the bytes decide. Bytes that
    CP1252 does not know become U+FFFD.
    """
    try:
        return reply.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return reply.content.decode("cp1252", "replace")


def checked(reply: httpx.Response, *, said: str = "") -> httpx.Response:
    """The reply when its status is 2xx; else raises the error of its status, with the words the ERP gave.

    429, and 503 with Retry-After: Throttled. Other 5xx and 408: Unavailable. 401: CredentialsRefused. 403, 404, 405
    and 501: Unsupported. Anything else: UnexpectedReply.
    """
    if reply.is_success:
        return reply
    raise _error(reply, f"{reply.request.url.path} answered {reply.status_code}{': ' if said else ''}{said}")


def retry_after(reply: httpx.Response) -> float | None:
    """Seconds that a Retry-After header asks for; None without one, or when it holds a date."""
    value = reply.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdecimal() else None


def words(text: object, most: int = _WORDS_KEPT) -> str:
    """A foreign message made safe for an error: one line, no control characters, cut at 200 characters or `most`."""
    return _UNPRINTABLE.sub(" ", str(text)).strip()[:most]


def _error(reply: httpx.Response, message: str) -> Transient | Permanent:
    match reply.status_code:
        case 401:
            return CredentialsRefused(message)
        case 403 | 404 | 405 | 501:
            return Unsupported(message)
        case 429:
            return Throttled(message, retry_after=retry_after(reply))
        case 503 if retry_after(reply) is not None:
            return Throttled(message, retry_after=retry_after(reply))
        case status if status == 408 or status >= 500:  # noqa: PLR2004 - status codes are their own names
            return Unavailable(message, retry_after=retry_after(reply))
        case _:
            return UnexpectedReply(message)
