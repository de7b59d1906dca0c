"""Notices: what operators must know of endpoints and connections, as CloudEvents on a topic of their own.

    {"type": "endpoint.failing", "timestamp": "...", "data": {...}}     the form of change events

Those about connections are webhooks, too; those about endpoints never are.

A notice is written in the transaction that changes the state it tells of, and then published. Ids are derived: telling
twice of the same moment gives the same id.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from relay.domain.cloudevents import cloudevent_headers
from relay.domain.messages import Message, without_secrets
from relay.domain.orders import Text, Value

HOUR = timedelta(hours=1)


class NoticeType(StrEnum):
    """Every type of notice there is; the first word says what it is about."""

    ENDPOINT_FAILING = "endpoint.failing"
    """It has taken nothing for an hour, and again for 24 hours."""
    ENDPOINT_SUSPENDED = "endpoint.suspended"
    """It has failed for days: only a probe is sent now and then."""
    ENDPOINT_RECOVERED = "endpoint.recovered"
    """It takes webhooks again, after a notice of failing or suspension."""
    ENDPOINT_DISABLED = "endpoint.disabled"
    """Nothing is sent to it any more until a person enables it."""
    CONNECTION_NEEDS_RECONNECT = "connection.needs_reconnect"
    """The ERP refused the login: nothing is read until a person acts."""
    CONNECTION_RECONNECTED = "connection.reconnected"
    """A person gave it other credentials, or resumed it: it is read again."""


CONNECTION_TYPES: Final = tuple(each for each in NoticeType if each.startswith("connection."))
"""Those that the customer's endpoints hear of, too."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `occurred_at` is the moment at which the told state began, `after` how long it had failed."""

    type: NoticeType
    customer_id: str
    subject_id: str
    subject_name: str
    occurred_at: datetime
    reason: str = ""
    failing_since: datetime | None = None
    after: timedelta | None = None

    @property
    def id(self) -> str:
        """Derived from what is told, of whom and of when."""
        moment = self.occurred_at.astimezone(UTC).isoformat()
        seed = "\n".join((self.type, self.subject_id, moment, _hours(self.after) or ""))
        return "ntc_" + hashlib.sha256(seed.encode()).hexdigest()[:32]

    @property
    def subject(self) -> Literal["endpoint", "connection"]:
        """What the notice is about."""
        return "endpoint" if self.type.startswith("endpoint.") else "connection"


class NoticeData(Value):
    """What happened to one endpoint or connection."""

    notice_id: Text = Field(description="Derived from type, subject and moment: a repeat has the same id.")
    customer_id: Text
    subject: Literal["endpoint", "connection"]
    subject_id: Text
    subject_name: Text = Field(description="The name that people gave it.")
    occurred_at: AwareDatetime = Field(description="When the state began that the notice tells of.")
    reason: Text | None = Field(None, description="Why, in a sentence for people.")
    failing_since: AwareDatetime | None = Field(None, description="The first failure since the last success.")
    after: Text | None = Field(None, description="How long it had failed: `1h`, then `24h`.")


class NoticeEvent(Value):
    """The body of a notice."""

    type: NoticeType
    timestamp: AwareDatetime
    data: NoticeData


def notice_event(notice: Notice) -> NoticeEvent:
    """The body. What looks like a credential in the reason is masked, and it is cut to 500 characters."""
    data = NoticeData(
        notice_id=notice.id,
        customer_id=notice.customer_id,
        subject=notice.subject,
        subject_id=notice.subject_id,
        subject_name=notice.subject_name,
        occurred_at=notice.occurred_at,
        reason=without_secrets(notice.reason) or None,
        failing_since=notice.failing_since,
        after=_hours(notice.after),
    )
    return NoticeEvent(type=notice.type, timestamp=notice.occurred_at, data=data)


def notice_message(notice: Notice, topic: str) -> Message:
    """The notice as a binary-mode CloudEvent; its subject's id is the key, so each subject's notices stay in order."""
    headers = cloudevent_headers(
        id=notice.id,
        source=f"/relay/{notice.subject}s/{notice.subject_id}",
        type=notice.type,
        time=notice.occurred_at,
        subject=notice.subject_id,
        extensions={"partitionkey": notice.subject_id},
    )
    return Message(topic, notice.subject_id.encode(), notice_event(notice).model_dump_json().encode(), headers)


def _hours(span: timedelta | None) -> str | None:
    return None if span is None else f"{span // HOUR}h"
