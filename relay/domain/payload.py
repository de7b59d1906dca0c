"""Payload: what the body of a webhook holds: the whole event, or only what names it.

    fat   the event's frozen bytes, the same as on the topic; above 1 MiB thin instead
    thin  type, timestamp, data: ids, kinds, and the places that changed, without values; of a result the outcome

The same event always gives the same bytes: an attempt that is made again is signed over what it was signed over before.
"""

from typing import Any, Literal

import orjson
from pydantic import AwareDatetime, Field

from relay.domain.changes import ChangeKind
from relay.domain.commands import CommandType
from relay.domain.endpoints import Payload
from relay.domain.orders import Text, Value
from relay.domain.results import Outcome, RefusalReason

LARGEST_FAT = 1024 * 1024
"""Bytes. Most receivers take no more by default; a body that they refuse would be tried in vain, and given up."""
MOST_PATHS = 100
LONGEST_PATH = 500
"""Characters: custom fields may have names of any length."""


class ThinData(Value):
    """What names one change of one purchase order. The names are those of the whole event."""

    payload: Literal["thin"] = Field(description="Tells it from the whole event, which has `order` and `changes`.")
    event_id: Text
    customer_id: Text
    connection_id: Text
    connector: Text
    order_id: Text
    remote_id: Text
    number: Text | None = None
    sequence: int = Field(ge=1, description="Number of this event among the order's events, without gaps from 1.")
    kinds: tuple[ChangeKind, ...] = Field(description="Every kind of change in the event, sorted.")
    paths: tuple[str, ...] = Field(
        max_length=MOST_PATHS,
        description="Where the order changed, as in `changes[].path`; none on its first event. "
        f"The first {MOST_PATHS}, and none of more than {LONGEST_PATH} characters.",
    )
    path_count: int = Field(ge=0, description="How many places changed.")
    before_hash: Text | None = None
    after_hash: Text = Field(description="Of the order after the change, as in the whole event.")
    occurred_at: AwareDatetime | None = None
    observed_at: AwareDatetime


class ThinResult(Value):
    """What names the result of one command. The names are those of the whole result, but `reasons`."""

    payload: Literal["thin"] = Field(description="Tells it from the whole result, which may have `order`.")
    id: Text = Field(description="relay's own id of the command, `cmd_...`.")
    command_id: Text
    type: CommandType | None
    customer_id: Text
    connection_id: Text
    outcome: Outcome
    dry_run: bool
    external_reference: Text | None
    remote_id: Text | None
    order_id: Text | None
    reasons: tuple[RefusalReason, ...] = Field(description="Of the refusals, which say more.")
    attempts: int


class ThinEvent(Value):
    """The body of a thin webhook."""

    type: Text
    timestamp: AwareDatetime
    data: ThinData | ThinResult


_COPIED = tuple(name for name in ThinData.model_fields if name not in {"payload", "paths", "path_count"})
_RESULT_COPIED = tuple(name for name in ThinResult.model_fields if name not in {"payload", "reasons"})


def shaped(body: bytes, payload: Payload) -> bytes:
    """The body of a webhook for the event with this `body`: itself when the whole is wanted and fits.

    And itself when it is no event that this version can read: one that another wrote must not hold up its endpoint.
    """
    if payload is Payload.FAT and len(body) <= LARGEST_FAT:
        return body
    try:
        event = orjson.loads(body)
        return orjson.dumps({"type": event["type"], "timestamp": event["timestamp"], "data": _thin(event["data"])})
    except (KeyError, TypeError, ValueError):
        return body


def _thin(data: dict[str, Any]) -> dict[str, Any]:
    if "outcome" in data:
        named = {name: data[name] for name in _RESULT_COPIED}
        return {"payload": "thin", **named, "reasons": [each["reason"] for each in data["refusals"]]}
    paths = [change["path"] for change in data["changes"]]
    short = [path for path in paths if len(path) <= LONGEST_PATH]
    named = {name: data[name] for name in _COPIED}
    return {"payload": "thin", **named, "paths": short[:MOST_PATHS], "path_count": len(paths)}
