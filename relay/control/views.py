"""Views: connections, endpoints and deliveries as people and scripts see them. Field names here are promises.

Nothing secret has a field: credentials never leave the vault this way, and an address is shown without its query.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field

from relay.domain.connections import Connection, ConnectionState
from relay.domain.ed25519_keys import public_key
from relay.domain.endpoints import Endpoint, EndpointOptions, EndpointState
from relay.domain.mapping import MappingOverrides
from relay.domain.rotation import LiveSecret, Signing
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce, SyncKind, SyncState, pace
from relay.ports import Found, Rejected
from relay.store.named import Sighting


class View(BaseModel):
    """What is shown; extra columns of a row are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


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


class AttemptView(View):
    """One try. `excerpt` is the beginning of what the receiver answered."""

    number: int
    started_at: datetime
    seconds: float
    outcome: str
    status: int | None
    error: str
    detail: str
    excerpt: str
    address: str
    """The address that was called, or the proxy's name; empty when it did not come to that."""
    resolve_seconds: float
    """Until the address was known."""
    answer_seconds: float | None
    """Until the status was known, from the start; None: it never was."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of attempts."""
        return cls.model_validate({**row, "excerpt": row["excerpt"].decode(errors="replace")})


class EndpointView(View):
    """An endpoint. Empty `event_types` or `connections` means all; `counts` is empty in lists."""

    id: str
    customer: str
    name: str
    url: str
    state: EndpointState
    event_types: tuple[str, ...]
    connections: tuple[str, ...]
    at_once: int
    deadline: timedelta
    options: EndpointOptions
    access: bool
    """Whether it is shown more than the signature: headers, a login, a certificate."""
    verified: bool
    """It has proved what `options.verification` asks for, if anything."""
    allowed_per_minute: int | None
    """The most webhooks that the receiver wants, as its handshake said."""
    failing_since: datetime | None
    """The first failed attempt after the last delivered one."""
    suspended_at: datetime | None
    problem: str | None
    last_attempt: AttemptView | None
    """What came of the last attempt, while it is failing; None in lists."""
    counts: dict[str, int]

    @classmethod
    def of(cls, seen: Sighting) -> Self:
        """The view of what the registry has seen."""
        subject: Endpoint = seen.subject
        return cls(
            id=subject.id,
            customer=subject.customer_id,
            name=subject.name,
            url=_without_query(subject.url),
            state=subject.state,
            event_types=subject.event_types,
            connections=subject.connections,
            at_once=subject.at_once,
            deadline=subject.deadline,
            options=subject.options,
            access=bool(subject.access),
            verified=subject.verified,
            allowed_per_minute=subject.allowed_per_minute,
            failing_since=subject.health.failing_since,
            suspended_at=subject.health.suspended_at,
            problem=seen.problem,
            last_attempt=AttemptView.of(seen.last_attempt) if seen.last_attempt else None,
            counts=seen.counts,
        )


class ForReceiver(View):
    """What a receiver verifies with. A secret is in the answer that made it, and is never shown again."""

    secret: str | None = Field(repr=False)
    """`whsec_...` of signing with HMAC."""
    public_key: str | None
    """`whpk_...` of signing with ed25519."""

    @property
    def for_receiver(self) -> tuple[str, ...]:
        """Those of the two that there are."""
        return tuple(each for each in (self.secret, self.public_key) if each)


class EndpointAdded(ForReceiver):
    """A new endpoint with what its receiver verifies with."""

    endpoint: EndpointView
    notices: tuple[str, ...] = ()


class KeyView(View):
    """A signing secret, without the secret. `since` is None when it began at once, `until` when it has no end."""

    signing: Signing
    since: datetime | None
    until: datetime | None
    public_key: str | None

    @classmethod
    def of(cls, each: LiveSecret) -> Self:
        """The view of an opened secret."""
        return cls(
            signing=each.signing,
            since=_moment(each.since),
            until=_moment(each.until),
            public_key=public_key(each.secret) if each.signing is Signing.ED25519 else None,
        )


class SecretRotated(ForReceiver):
    """An endpoint's new secret, and all that are live or planned, the new ones first."""

    endpoint: EndpointView
    keys: tuple[KeyView, ...]


class DeliveryView(View):
    """One event on its way to one endpoint. `attempts_made` is None in lists."""

    id: str
    state: str
    endpoint: str
    endpoint_id: str
    number: int
    """Which of its endpoint's deliveries it is, without gaps: `relay-number`, and where pulling has got to."""
    event_id: str
    type: str
    connection_id: str
    remote_id: str
    sequence: int
    attempts: int
    last_status: int | None
    last_error: str | None
    due_at: datetime | None
    created_at: datetime
    done_at: datetime | None
    attempts_made: tuple[AttemptView, ...] | None = None
    position: int = Field(default=0, exclude=True)
    """Of its event in the outbox: with the id its place in lists."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the registry."""
        made = row.get("attempts_made")
        attempts = None if made is None else tuple(map(AttemptView.of, made))
        return cls.model_validate({**row, "attempts_made": attempts})


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="***" if parts.query else ""))
