"""A delivery: one event on its way to one endpoint, and the attempts made.

    waiting -> (attempt) -> delivered | waiting, due later | dead

Deliveries of one purchase order to one endpoint form a lane: only the lane's head has a due time, the others wait
behind it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

DeliveryId = NewType("DeliveryId", str)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class Outcome(StrEnum):
    """What an attempt's answer means for its delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The head of a lane, ready to be sent. `body` is the event's frozen bytes."""

    id: DeliveryId
    event_id: str
    lane: str
    position: int
    due_at: datetime
    attempts: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one attempt: a status, or the class of error that stood in its way."""

    status: int | None = None
    error: str = ""
    """Closed vocabulary: "", resolve, refused, tls, timeout, reset, protocol, policy."""
    detail: str = ""
    """A short text for people; never a secret."""
    excerpt: bytes = b""
    retry_after: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, as recorded. `due_at` is the next try's time when the outcome is RETRY."""

    delivery: Delivery
    number: int
    started_at: datetime
    seconds: float
    answer: Answer
    outcome: Outcome
    due_at: datetime | None = None
