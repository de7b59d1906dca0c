"""The writing calls that a command becomes, between `prepare` and `write`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.connectors.tryton.refusals import Sent


@dataclass(frozen=True, slots=True)
class Call:
    """One writing call."""

    method: str
    params: tuple[Any, ...]
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The calls of one command; of more than one, `undo` takes the first back when a later one is refused."""

    calls: tuple[Call, ...]
    sent: Sent
    remote_id: str | None
    undo: Call | None = None
