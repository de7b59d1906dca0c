"""What becomes of orders that were read: snapshots, the outbox, syncs, and admission."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from relay.domain.admission import Admitted
from relay.domain.connections import Connection, Cursor, Lease, Polled
from relay.domain.events import Snapshot
from relay.domain.mapping import MappingVersion
from relay.domain.syncs import Moved, OpenSync


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One event to be published: `stream` is "changes", "command-results", "notices" or "dead-letters".

    Of a dead letter `problem` says why it is one, and `origin` where its bytes came from, if they were a message.
    """

    event_id: str
    stream: str
    remote_id: str
    sequence: int
    type: str
    occurred_at: datetime
    body: bytes
    problem: str | None = None
    origin: bytes | None = None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event that waits to be published."""

    position: int
    event_id: str
    stream: str
    customer_id: str
    connection_id: str
    remote_id: str
    sequence: int
    type: str
    occurred_at: datetime
    body: bytes
    problem: str | None
    latest: bool = True
    """Whether it is its order's last event: only that one tells the state topic."""
    origin: bytes | None = None


class Orders(Protocol):
    """Snapshots, outbox and cursor of connections. Every write names a lease and raises LeaseLost without it."""

    async def snapshots(self, connection_id: str, remote_ids: Sequence[str]) -> dict[str, Snapshot]:
        """The last told states of these orders, by remote id."""
        ...

    async def save_page(
        self,
        lease: Lease,
        origin: Connection,
        snapshots: Sequence[Snapshot],
        entries: Sequence[OutboxEntry],
        cursor: Cursor | None,
    ) -> None:
        """New snapshots, their events and the cursor (None: unchanged), all or nothing."""
        ...

    async def save_polled(self, lease: Lease, polled: Polled) -> None:
        """How a poll ended and when the next is due."""
        ...

    async def alive(self, connection_id: str) -> set[str]:
        """Remote ids of all orders that are not known to be deleted."""
        ...

    async def save_missing(self, lease: Lease, remote_ids: Sequence[str]) -> dict[str, int]:
        """Count one more full pass without these orders, and none for all others; passes missed so far, by id."""
        ...

    async def save_reconciled(self, lease: Lease, *, problem: str | None, due_at: datetime) -> None:
        """A full pass ended: when the next is due, and what people should know (None: nothing)."""
        ...


class FormerMappings(Protocol):
    """What a connection's runner needs of the mappings that its orders were read with."""

    async def former_mappings(self, connection_id: str) -> Mapping[int, MappingVersion]:
        """The versions that some order is still known under, and those after them, by number."""
        ...

    async def begin_rules(self, lease: Lease, rules: int, sync_id: str) -> None:
        """All orders are read again with this version of the connector's own rules. Raises LeaseLost."""
        ...


class Syncs(Protocol):
    """Syncs of connections. Every write names a lease and raises LeaseLost without it."""

    async def open_syncs(self, connection_id: str) -> list[OpenSync]:
        """The syncs that have not ended: one that reads orders at most, and one poll that was asked for at most."""
        ...

    async def start_compare(self, lease: Lease, due_at: datetime) -> None:
        """Begin to compare all orders, unless they are being read already; it is due again at `due_at`."""
        ...

    async def save_poll_asked(self, lease: Lease, sync_id: str, polled: Polled) -> None:
        """What came of a poll that was asked for."""
        ...

    async def begin_sync(self, lease: Lease, sync_id: str, total: int | None) -> None:
        """It runs now; so many orders are to be read, if that is known."""
        ...

    async def save_sync_page(
        self,
        lease: Lease,
        origin: Connection,
        snapshots: Sequence[Snapshot],
        entries: Sequence[OutboxEntry],
        moved: Moved,
    ) -> bool:
        """New snapshots, their events and how far the sync is, all or nothing; False: it was cancelled meanwhile."""
        ...

    async def save_sync_failure(self, lease: Lease, sync_id: str, failures: int, problem: str) -> None:
        """A page could not be read; it will be tried again."""
        ...

    async def end_sync(self, lease: Lease, sync_id: str) -> None:
        """All of it was read."""
        ...


class Outbox(Protocol):
    """The outbox of one connection. Every write names a lease and raises LeaseLost without it."""

    async def to_publish(self, lease: Lease, most: int) -> list[OutboxRow]:
        """Events to publish now, in order: new ones, and published ones that did not come back."""
        ...

    async def save_published(self, lease: Lease, positions: Sequence[int]) -> None:
        """The broker has these."""
        ...

    async def save_refused(self, lease: Lease, row: OutboxRow, letter: OutboxEntry) -> None:
        """The broker will never take `row`: a dead letter takes its place on Kafka."""
        ...


class Admissions(Protocol):
    """Events that came back from Kafka become deliveries."""

    async def admit(self, event_ids: Sequence[str]) -> Admitted:
        """Insert the deliveries of these events, in order per purchase order, all or nothing."""
        ...
