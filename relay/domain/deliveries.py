"""A delivery: one event on its way to one endpoint, and the attempts made.

    waiting -> (attempt) -> delivered | waiting, due later | dead

Deliveries of one purchase order to one endpoint form a lane: only the lane's head has a due time, the others wait
behind it.
"""

from datetime import datetime
from enum import StrEnum
from typing import NewType

from relay.domain.values import value

DeliveryId = NewType("DeliveryId", str)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    """Left out for a newer event of its order, with ordering latest_only."""


class Outcome(StrEnum):
    """What an attempt's answer means for its delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    GONE = "gone"


class Wish(StrEnum):
    """What a receiver asks for with the response header `webhook-delivery`."""

    NONE = ""
    DISABLE = "disable"
    """Send nothing more to this endpoint."""
    ABORT = "abort-message"
    """Never send this event again."""


@value
class Delivery:
    """The head of a lane, ready to be sent. `body` is the event's frozen bytes."""

    id: DeliveryId
    event_id: str
    lane: str
    position: int
    due_at: datetime
    attempts: int
    body: bytes
    number: int = 0
    """Grows by one with each event of the endpoint: a receiver that sees a gap has missed something."""
    replay: str = ""
    """The replay that sends it again, if one does."""


@value
class Answer:
    """What came back from one attempt: a status, or the class of error that stood in its way."""

    status: int | None = None
    error: str = ""
    """Closed vocabulary: "", resolve, refused, tls, timeout, reset, protocol, policy, auth, proxy.

    The last two are not the receiver's doing: its token server gives no token, the forward proxy cannot be used.
    """
    detail: str = ""
    """A short text for people; never a secret."""
    excerpt: bytes = b""
    retry_after: float | None = None
    """Seconds."""
    wish: Wish = Wish.NONE
    location: str = ""
    """Where a redirect points, without its query; it is not followed."""
    address: str = ""
    """The address that was called, or the proxy's name."""
    resolve_seconds: float = 0.0
    """Until the address was known."""
    answer_seconds: float | None = None
    """Until the status was known, from the start; None: it never was."""


@value
class Attempt:
    """One try, as recorded. `due_at` is the next try's time when the outcome is RETRY."""

    delivery: Delivery
    number: int
    started_at: datetime
    seconds: float
    answer: Answer
    outcome: Outcome
    due_at: datetime | None = None
