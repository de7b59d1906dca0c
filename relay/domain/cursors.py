"""Cursors: where a receiver stands in its endpoint's log, as text that it keeps and gives back.

    cursor = base64url("1|" + endpoint id + "|" + number)      1: the version of this shape

`number` is the delivery's, without gaps per endpoint from 1; a cursor means "all up to this one". Receivers treat
it as opaque: only its owner's log takes it, and only in the one spelling that was given.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from relay.domain.errors import UserError

START = 0
"""The number before the first event."""

_TEXT = re.compile(r"[A-Za-z0-9_-]{1,400}")
_CONTENT = re.compile(r"1\|([^|]+)\|(0|[1-9][0-9]{0,17})")
_UNREADABLE = "the cursor cannot be read: give it exactly as it came, or none to begin with the oldest event"


def cursor_of(endpoint_id: str, number: int) -> str:
    """The cursor of an endpoint's delivery `number`: visible ASCII, fit for a header and a query."""
    return urlsafe_b64encode(f"1|{endpoint_id}|{number}".encode()).decode("ascii").rstrip("=")


def read_cursor(endpoint_id: str, text: str) -> int:
    """The number in a cursor of this endpoint.

    Raises:
        UserError: It is no cursor, or another endpoint's. Never repeats the text.
    """
    found = _CONTENT.fullmatch(_content(text))
    if found is None:
        raise UserError(_UNREADABLE)
    if found[1] != endpoint_id:
        raise UserError("the cursor belongs to another endpoint: each endpoint has cursors of its own")
    number = int(found[2])
    if cursor_of(endpoint_id, number) != text:
        raise UserError(_UNREADABLE)
    return number


def _content(text: str) -> str:
    if not _TEXT.fullmatch(text) or len(text) % 4 == 1:
        return ""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", errors="replace")
