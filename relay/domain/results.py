"""Results: what became of a command, told once it is taken and once when it is over.

    accepted -> applied | rejected | unknown | expired        a dry run: accepted -> checked | rejected | expired

Refusals say which class of reason it is, which field, by which rule, and what to do; the ERP's own words are kept.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import AwareDatetime, Field, JsonValue

from relay.domain.commands import CommandType
from relay.domain.errors import Permanent
from relay.domain.orders import OrderDocument, Text, Value, order_key

RESULT_PREFIX: Final = "purchase_order.command_"


class Outcome(StrEnum):
    """What became of a command."""

    ACCEPTED = "accepted"
    """It is stored and will be done; another result follows."""
    APPLIED = "applied"
    REJECTED = "rejected"
    """Nothing was written."""
    UNKNOWN = "unknown"
    """It was sent, and the ERP can tell nobody whether it was done: a person must look. It is not sent again."""
    EXPIRED = "expired"
    """Its time ran out before it could be done; nothing was written."""
    CHECKED = "checked"
    """A dry run that would have been sent."""


RESULT_TYPES: Final = tuple(RESULT_PREFIX + outcome for outcome in Outcome)
"""Every type of result event there is."""


class RefusalReason(StrEnum):
    """Why a command was not done: a closed vocabulary."""

    VALIDATION = "validation"
    """A value is missing, wrong or unknown to the system."""
    NOT_PERMITTED = "not_permitted"
    """The system, or this user in it, may not do this at all."""
    WORKFLOW_STATE = "workflow_state"
    """Not in the status that the order has now."""
    CONFLICT = "conflict"
    """The order is not as the sender saw it, or is there already."""
    NOT_WRITABLE_FIELD = "not_writable_field"
    """The system does not take this field here."""
    RATE_LIMITED = "rate_limited"
    AUTH_REQUIRED = "auth_required"
    """The connection's credentials are refused: reconnect."""
    UPSTREAM_DOWN = "upstream_down"


class Refusal(Value):
    """One reason: the canonical `field` it is about, the rule that it breaks, and what to do."""

    reason: RefusalReason
    message: Text
    field: Text | None = Field(default=None, description="Canonical path, lines as `lines[0].quantity`.")
    fix: Text | None = None


class WriteRefused(Permanent):
    """The ERP, or what is known of it, says no for good, and nothing was written. `said` are the ERP's own words."""

    def __init__(self, refusals: Sequence[Refusal], *, said: str = "") -> None:
        super().__init__("; ".join(each.message for each in refusals))
        self.refusals = tuple(refusals)
        self.said = said


class Preview(Value):
    """What would be sent, or was: never a credential."""

    method: Text
    path: Text
    body: JsonValue = None


class ResultData(Value):
    """What became of one command."""

    id: Text = Field(description="relay's own id of the command, `cmd_...`.")
    command_id: Text
    type: CommandType | None = Field(description="Null when what was sent has no type that relay knows.")
    customer_id: Text
    connection_id: Text
    outcome: Outcome
    dry_run: bool = False
    external_reference: Text | None = None
    remote_id: Text | None = Field(default=None, description="The order's; of a new one once it is there.")
    order_id: Text | None = None
    refusals: tuple[Refusal, ...] = ()
    said: Text | None = Field(default=None, description="The ERP's own words, as they came, shortened.")
    attempts: int = Field(default=0, ge=0, description="How often it was sent to the ERP.")
    would_send: Preview | None = Field(default=None, description="Of a dry run: what would be sent.")
    order: OrderDocument | None = Field(default=None, description="The order as it is after, when it was applied.")


class CommandResult(Value):
    """The body of a result event."""

    type: Text
    timestamp: AwareDatetime
    data: ResultData


def result_of(data: ResultData, now: datetime) -> CommandResult:
    """The event that tells it."""
    return CommandResult(type=RESULT_PREFIX + data.outcome, timestamp=now, data=data)


def result_key(data: Mapping[str, Any]) -> str:
    """The Kafka key of a command's results: that of its order, or of the command itself while it has none."""
    new = data["type"] == CommandType.CREATE or not data.get("remote_id")
    return order_key(data["connection_id"], data["command_id"] if new else data["remote_id"])


def result_id(command_key: str, number: int) -> str:
    """The event's id: the same for the same step of the same command. `number` is 1 for accepted, 2 for the end."""
    return "res_" + hashlib.sha256(f"{command_key}\n{number}".encode()).hexdigest()[:32]
