"""A connection: one customer's ERP, how far it has been read, and who may touch it now."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NewType

from relay.domain.mapping import MappingVersion
from relay.domain.schedules import Schedule

CustomerId = NewType("CustomerId", str)
ConnectionId = NewType("ConnectionId", str)
Cursor = NewType("Cursor", str)
"""Opaque to all but the connector that wrote it: where its next poll begins."""


class ConnectionState(StrEnum):
    """Whether a connection is polled."""

    ACTIVE = "active"
    PAUSED = "paused"
    NEEDS_RECONNECT = "needs_reconnect"
    DISCONNECTED = "disconnected"
    """Its credentials are erased; what it told is kept. New credentials connect it again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row: every write under it names its epoch."""

    subject: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Polled:
    """How a poll ended: `failures` in a row (0: it went well), the problem, what people should know, the next time.

    `why` says why the next is then; `quiet` counts polls in a row that found nothing, `read` and `told` are of this.
    """

    state: ConnectionState
    due_at: datetime
    failures: int = 0
    problem: str | None = None
    notices: tuple[str, ...] = ()
    why: str = ""
    quiet: int = 0
    read: int = 0
    told: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    """One customer's ERP as a runner needs it; credentials stay sealed."""

    id: ConnectionId
    customer_id: CustomerId
    name: str
    connector: str
    settings: dict[str, Any]
    mapping: MappingVersion = field(default_factory=MappingVersion)
    rules: int = 1
    """The version of its connector's rules with which all its orders were read, or are being read."""
    state: ConnectionState = ConnectionState.ACTIVE
    poll_every: timedelta = timedelta(seconds=60)
    reconcile_every: timedelta = timedelta(hours=1)
    cursor: Cursor | None = None
    synced: bool = False
    failures: int = 0
    due_at: datetime | None = None
    due_why: str | None = None
    quiet: int = 0
    reconcile_due_at: datetime | None = None
    compare_due_at: datetime | None = None
    history_from: date | None = None
    """The first day of the window of the first sync; None: everything."""
    schedule: Schedule = field(default_factory=Schedule)
    sealed: bytes = field(default=b"", repr=False)
