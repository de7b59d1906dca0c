"""Times and spans of time in requests: as text, never as a bare number whose unit or zone must be guessed."""

import re
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

from relay.domain.spans import Span

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def _text(value: object) -> object:
    if isinstance(value, str):
        return value
    raise ValueError("write a time span as text: PT15S, or 15s")


def _moment(value: object) -> object:
    if not isinstance(value, str) or not _DAY.match(value):
        raise ValueError("write a time with its zone: 2026-12-01T08:00:00Z")
    return value


Duration = Annotated[Span, BeforeValidator(_text)]
"""A span of time, ISO 8601 (`PT15S`) or as people write it (`15s`)."""
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""A time with its zone, RFC 3339."""
