"""An endpoint: a customer's URL that wants to hear of changes, and how it wants to hear of them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, NewType

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.domain.spans import Span

EndpointId = NewType("EndpointId", str)

DEFAULT_AT_ONCE = 64
LONGEST_WAIT = timedelta(days=7)


class EndpointState(StrEnum):
    """Whether deliveries are sent. A suspended endpoint failed for days: only a probe is sent now and then."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DISABLED = "disabled"


class Ordering(StrEnum):
    """What becomes of a purchase order's later events while an earlier one cannot be delivered."""

    STRICT = "strict"
    """They wait: a failing event blocks its own purchase order, and no other."""
    LATEST_ONLY = "latest_only"
    """Only the newest waits: each event holds the whole order, so older ones are left out, and counted."""
    SKIP_AFTER = "skip_after"
    """They wait for a given number of attempts; then the failing one is dead, and they go on."""
    UNORDERED = "unordered"
    """They do not wait."""


class Payload(StrEnum):
    """What a webhook's `data` holds."""

    FAT = "fat"
    """The whole event: order, changes, previous values."""
    THIN = "thin"
    """Its ids only; whoever wants more asks for it."""


class Verification(StrEnum):
    """What an endpoint must prove before its first delivery."""

    NONE = "none"
    CHALLENGE = "challenge"
    """It answers a signed challenge with the challenge's text."""
    CLOUDEVENTS = "cloudevents"
    """It answers the OPTIONS handshake of CloudEvents' HTTP webhook specification."""


def _list(value: object) -> object:
    return [each for each in value.split(",") if each] if isinstance(value, str) else value


Wait = Annotated[Span, Field(le=LONGEST_WAIT)]
Schedule = Annotated[tuple[Wait, ...], BeforeValidator(_list)]
"""Also as text, separated by commas: 0s,5s,30s."""


class EndpointOptions(BaseModel):
    """How an endpoint is delivered to: everything a person may set that is no secret, with its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ordering: Ordering = Field(
        Ordering.STRICT, description="What becomes of an order's later events while one cannot be delivered."
    )
    skip_after: int = Field(3, ge=1, le=100, description="Attempts of one event, with ordering skip_after.")
    schedule: Schedule = Field(
        (), max_length=100, description="Waits before each attempt, as 0s,5s,30s; empty: relay's."
    )
    refused_attempts: int = Field(
        8, ge=1, le=100, description="Attempts of an event that is answered with 3xx or 4xx (not 408, 425, 429)."
    )
    per_second: float | None = Field(None, gt=0, le=100_000, description="Most attempts per second; none: no limit.")
    where: str = Field("", max_length=2000, description="A condition on the event; empty: every event.")
    payload: Payload = Field(Payload.FAT, description="Whole events, or ids only.")
    schema_version: Literal[1] = Field(1, description="The major version of the event's schema.")
    verification: Verification = Field(
        Verification.NONE, description="What the endpoint proves before its first delivery."
    )
    disable_after: Span = Field(
        timedelta(hours=72), gt=timedelta(0), le=timedelta(days=90), description="Suspended after so long in failure."
    )


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an endpoint takes anything, over hours and days."""

    failing_since: datetime | None = None
    """The first failed attempt after the last delivered one."""
    noticed: timedelta = timedelta(0)
    """How long a failure was already told of."""
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A customer's URL as a runner needs it; the signing secret and the access to it stay sealed.

    `event_types` and `connections` narrow what it wants; empty means everything of its customer.
    """

    id: EndpointId
    customer_id: str
    name: str
    url: str
    state: EndpointState = EndpointState.ACTIVE
    event_types: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    at_once: int = DEFAULT_AT_ONCE
    """The most attempts in flight; how many there are adapts to what the receiver bears."""
    deadline: timedelta = timedelta(seconds=15)
    options: EndpointOptions = field(default_factory=EndpointOptions)
    health: Health = field(default_factory=Health)
    problem: str | None = None
    """What keeps it from being sent anything, as far as is known."""
    verified: bool = False
    """What `options.verification` asks for was proved, for this URL."""
    allowed_per_minute: int | None = None
    """The most webhooks that the receiver wants, as its handshake said; None: it sets no limit."""
    sealed: bytes = field(default=b"", repr=False)
    access: bytes = field(default=b"", repr=False)
    """Sealed: what relay shows the receiver beside the signature (headers, login, client certificate); empty: nothing.
    """
