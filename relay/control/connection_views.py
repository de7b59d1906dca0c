"""Connections as people and scripts see them: what was found, how they stand, and what is being read."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Self

from pydantic import Field

from relay.control.views import View
from relay.domain.connections import Connection, ConnectionState
from relay.domain.mapping import MappingOverrides
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce, SyncKind, SyncState, pace
from relay.ports import Found, Rejected
from relay.store.named import Sighting


class ReadingView(View):
    """Orders that are read beside the polls, or before the first: why, and how far that is."""

    id: str
    kind: SyncKind
    announce: Announce
    begin_on: date | None
    """The first day of its window; None: everything."""
    state: SyncState
    read: int
    total: int | None
    """About how many orders there are to read, if the ERP could say."""
    told: int
    rejected: int
    problem: str | None
    """Why its next page could not be read yet; it is tried again."""
    started_at: datetime | None
    moved_at: datetime | None
    """When its last page was stored."""
    per_second: float | None
    """Orders read per second since it began."""
    ends_about: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the store."""
        at = pace(row["read"], row["total"], row["started_at"], row["ended_at"] or row["seen_at"])
        ends = at.ends_about if row["ended_at"] is None else None
        return cls.model_validate({**row, "per_second": at.per_second, "ends_about": ends})


class ConnectionView(View):
    """A connection. `counts` is empty in lists."""

    id: str
    customer: str
    name: str
    connector: str
    state: ConnectionState
    settings: dict[str, Any]
    mapping: MappingOverrides
    mapping_version: int
    poll_every: timedelta
    reconcile_every: timedelta
    schedule: Schedule
    history_from: date | None
    """The first day of the window of its first sync; None: everything."""
    synced: bool
    failures: int
    due_at: datetime | None
    """When it is polled next, and why then:"""
    due_why: str | None
    compare_due_at: datetime | None
    """When all orders are compared next, or in the night after."""
    polled_at: datetime | None
    problem: str | None
    notices: tuple[str, ...]
    reading: ReadingView | None
    """Its first sync or a re-sync that has not ended; None in lists."""
    counts: dict[str, int]

    @classmethod
    def of(cls, seen: Sighting) -> Self:
        """The view of what the registry has seen."""
        subject: Connection = seen.subject
        return cls(
            id=subject.id,
            customer=subject.customer_id,
            name=subject.name,
            connector=subject.connector,
            state=subject.state,
            settings=subject.settings,
            mapping=subject.mapping.overrides,
            mapping_version=subject.mapping.number,
            poll_every=subject.poll_every,
            reconcile_every=subject.reconcile_every,
            schedule=subject.schedule,
            history_from=subject.history_from,
            synced=subject.synced,
            failures=subject.failures,
            due_at=subject.due_at,
            due_why=subject.due_why,
            compare_due_at=subject.compare_due_at if subject.schedule.compare_every else None,
            polled_at=seen.seen_at,
            problem=seen.problem,
            notices=seen.notices,
            reading=ReadingView.of(seen.reading) if seen.reading else None,
            counts=seen.counts,
        )


class RejectedView(View):
    """A record that could not be read; its bytes go to the dead letters, not here."""

    remote_id: str
    field: str
    reason: str

    @classmethod
    def of(cls, rejected: Rejected) -> Self:
        """The view of a rejected record."""
        return cls(remote_id=rejected.remote_id, field=rejected.field, reason=rejected.reason)


class FirstLook(View):
    """What the first page of orders looked like, read before a connection is stored."""

    orders: int = Field(0, description="Orders on the first page; those after it were not read.")
    orders_in_all: int | None = Field(default=None, description="About how many there are; null: the ERP does not say.")
    found: Found = Field(Found(), description="What the ERP said of itself.")
    currency_gaps: tuple[str, ...] = Field((), description="Codes of currencies that no ISO code is known for.")
    unit_gaps: tuple[str, ...] = Field((), description="Codes of units that no UN/ECE code is known for.")
    missing_fields: tuple[str, ...] = Field((), description="Fields that this system does not give.")
    fix: tuple[str, ...] = Field((), description="What to do about all of this, in sentences.")
    example: str | None = Field(default=None, description="Number of one order that was read.")
    rejected: tuple[RejectedView, ...] = ()
    warnings: tuple[str, ...] = ()


class ConnectionAdded(View):
    """A connection with new credentials; `look` is None when they were stored without asking the ERP."""

    connection: ConnectionView
    look: FirstLook | None
    token: str = Field(
        repr=False, description="The connection's token, shown only now: `Authorization: Bearer rlyc_...`."
    )


class ConnectionToken(View):
    """A connection's new token, in the one answer that shows it."""

    connection: ConnectionView
    token: str = Field(repr=False, description="Shown only now; the one before it is good no more.")
