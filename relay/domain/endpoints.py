"""An endpoint: a customer's URL that wants to hear of changes."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import NewType

EndpointId = NewType("EndpointId", str)


class EndpointState(StrEnum):
    """Whether deliveries are sent."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A customer's URL as a runner needs it; the signing secret stays sealed.

    `event_types` and `connections` narrow what it wants; empty means everything of its customer.
    """

    id: EndpointId
    customer_id: str
    name: str
    url: str
    state: EndpointState = EndpointState.ACTIVE
    event_types: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()
    at_once: int = 16
    deadline: timedelta = timedelta(seconds=15)
    sealed: bytes = field(default=b"", repr=False)
