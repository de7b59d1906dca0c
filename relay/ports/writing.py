"""How an ERP is written to: what a connector's writing half does, and where commands are kept.

prepare (reads only) -> row says "sending" -> write (exactly one request) -> applied | refused | in doubt -> find
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from relay.domain.commands import Command, Create
from relay.domain.connections import Connection, Lease
from relay.domain.events import Snapshot
from relay.domain.orders import PurchaseOrder
from relay.domain.results import Preview
from relay.ports.events import OutboxEntry


@dataclass(frozen=True, slots=True)
class Prepared:
    """One command ready to be sent. `inner` is its connector's own, and holds what `write` needs."""

    preview: Preview
    inner: Any = field(default=None, repr=False)


class Writer(Protocol):
    """The writing half of a connector. Checks against the capabilities have been made before it is asked.

    Every method raises the errors that `Connector` names, and WriteRefused when nothing was or will be written for
    a reason that trying again does not change; its refusals name canonical fields and keep the ERP's own words.
    """

    async def prepare(self, command: Command, order: PurchaseOrder | None) -> Prepared:
        """What is to be sent for `command` to `order` as it was just read (None: a new one). Only reads.

        Codes are looked up here (vendors, items, terms), so that an unknown one is refused by name. A version that
        the ERP itself can guard (`_timestamp`, ETag) is taken from `order` into the request.
        """
        ...

    async def write(self, prepared: Prepared) -> str:
        """Send it: one request, one transaction in the ERP, header and lines together. The order's remote id.

        Whatever it raises leaves open whether it was done, but for WriteRefused, Throttled, CredentialsRefused,
        Unsupported, and Unavailable with `unsent`: these say that nothing was.
        """
        ...

    async def find(self, command: Create) -> str | None:
        """The remote id of the order that bears `mark(command)`; None when the ERP shows none."""
        ...

    @property
    def finds(self) -> bool:
        """Whether a new order keeps its mark at all: without, one that is in doubt stays unknown."""
        ...


@dataclass(frozen=True, slots=True)
class OpenCommand:
    """A command that is not over, as it is stored. `before` is the order's state when it was last sent.

    `sent_at` is set while its outcome is open: from just before it is sent until the ERP has answered or been asked.
    `problem` is the last one that `save_waiting` was told.
    """

    id: str
    command: Command
    expires_at: datetime
    due_at: datetime
    accepted_at: datetime
    attempts: int = 0
    sent_at: datetime | None = None
    before: dict[str, Any] | None = field(default=None, repr=False)
    caller: str = ""
    problem: str = ""
    written: str | None = None
    """Its order's remote id, once it is certain that it was written; it is over when the order has been read back."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over: the entry that tells its result, and what was observed of its order."""

    id: str
    outcome: str
    entries: Sequence[OutboxEntry]
    snapshots: Sequence[Snapshot] = ()
    remote_id: str | None = None


class Commands(Protocol):
    """The commands of one connection, for its runner. Every write names a lease and raises LeaseLost without it."""

    async def heads(self, connection_id: str, most: int) -> list[OpenCommand]:
        """The first open command of each lane: those in doubt that are due, then the others by when they are due."""
        ...

    async def in_doubt(self, connection_id: str) -> list[OpenCommand]:
        """All of which the outcome is open, or whose order has still to be read back."""
        ...

    async def save_sending(self, lease: Lease, id: str, now: datetime, before: dict[str, Any] | None) -> None:  # noqa: A002
        """It is about to be sent: one more attempt, and its outcome is open from here on."""
        ...

    async def save_waiting(self, lease: Lease, id: str, due_at: datetime, problem: str, *, doubt: bool) -> None:  # noqa: A002
        """It is due again then. Without `doubt` it is certain that nothing was written.

        `problem` begins with the class of its reason, as in `upstream_down: no answer from erp.example`.
        """
        ...

    async def save_written(self, lease: Lease, id: str, remote_id: str, due_at: datetime) -> None:  # noqa: A002
        """It was written, to this order, which could not be read back yet: that is tried again then."""
        ...

    async def save_ended(self, lease: Lease, origin: Connection, ended: Ended) -> None:
        """It is over: its result, and the snapshot and change event of its order, all or nothing."""
        ...
