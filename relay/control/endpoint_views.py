"""Endpoints as people and scripts see them, and what their receivers verify with."""

from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from relay.control.delivery_views import AttemptView
from relay.control.views import View
from relay.domain.ed25519_keys import public_key
from relay.domain.endpoints import Endpoint, EndpointOptions, EndpointState
from relay.domain.rotation import LiveSecret, Signing
from relay.store.named import Sighting


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


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="***" if parts.query else ""))
