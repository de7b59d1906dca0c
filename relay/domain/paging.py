"""Paging: where a list goes on, as text that a caller gives back unread.

    cursor = base64url(JSON of the list's name and the last item's key)

Each list has cursors of its own: one of another list is refused.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from relay.domain.errors import UserError

Key = tuple[str | int, ...]

_TEXT = re.compile(r"[A-Za-z0-9_-]{1,2000}")


def page_cursor(of: str, key: Sequence[str | int]) -> str:
    """The cursor after the item with this key, in the list called `of`."""
    return urlsafe_b64encode(json.dumps([of, *key], separators=(",", ":")).encode()).decode().rstrip("=")


def page_key(of: str, text: str | None, *kinds: type[str] | type[int]) -> Key | None:
    """The key in a cursor of the list called `of`, which has parts of these kinds; None without a cursor.

    Raises:
        UserError: It is no cursor, or one of another list. Never repeats the text.
    """
    if text is None:
        return None
    found = _parts(text)
    if len(found) != len(kinds) + 1 or found[0] != of:
        raise UserError("after: this is no cursor of this list: give `next` as it came, or nothing to begin anew")
    key = tuple(found[1:])
    if not all(type(part) is kind for part, kind in zip(key, kinds, strict=True)) or page_cursor(of, key) != text:
        raise UserError("after: the cursor cannot be read: give `next` exactly as it came")
    if any(isinstance(part, int) and not 0 <= part < 2**63 for part in key) or any("\x00" in str(part) for part in key):
        raise UserError("after: the cursor cannot be read: give `next` exactly as it came")
    return key


def _parts(text: str) -> list[str | int]:
    if not _TEXT.fullmatch(text) or len(text) % 4 == 1:
        return []
    try:
        found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
