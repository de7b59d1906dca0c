"""What a connector is: one ERP dialect, what it reads and what can be asked of it."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from relay.domain.capabilities import Capabilities, SourceField
from relay.domain.connections import Cursor
from relay.domain.mapping import MappingOverrides, Overridable, Revisions
from relay.domain.orders import PurchaseOrder
from relay.domain.schedules import Schedule
from relay.ports.writing import Writer

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read: why, and its bytes for the dead letters. Its neighbours are unharmed."""

    remote_id: str
    field: str
    reason: str
    raw: bytes


def _none_under(_: MappingOverrides) -> Mapping[str, PurchaseOrder]:
    return {}


@dataclass(frozen=True, slots=True)
class Page:
    """Some whole orders, oldest change first, and where to resume once they are stored."""

    orders: tuple[PurchaseOrder, ...]
    cursor: Cursor
    rejected: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()
    under: Callable[[MappingOverrides], Mapping[str, PurchaseOrder]] = _none_under
    """The same records by remote id, mapped with one of `Mappings.beside`; those that cannot be are left out."""


@dataclass(frozen=True, slots=True)
class Mappings:
    """The overrides that a connector maps with, and others that its pages may be asked for as well."""

    current: MappingOverrides = field(default_factory=MappingOverrides)
    beside: tuple[MappingOverrides, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """Some records as the ERP has them now: mapped, and what of them no rule reads.

    `missing` are columns of the current overrides that the ERP does not have, or keeps back from this user.
    """

    page: Page
    unmapped: tuple[SourceField, ...] = ()
    missing: tuple[str, ...] = ()


class Found(BaseModel):
    """What an ERP said of itself while its first page was read."""

    model_config = ConfigDict(frozen=True)

    version: str | None = None
    changes: str = ""
    """How changes are found in it."""
    time_zone: str = ""
    """What its times and dates mean."""
    fix: tuple[str, ...] = ()


class Connector(Protocol):
    """One ERP dialect: translation only. Retries, limits and storage belong to others.

    Every method raises the errors of `relay.domain.errors` (CredentialsRefused, Throttled, Unavailable,
    UnexpectedReply, Unsupported) and nothing else. Nothing here writes to the ERP but `writer`.
    """

    def changed_since(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Pages of whole orders that changed since `cursor` (None: everything), oldest change first.

        Ends when the ERP has nothing newer. A page's cursor is safe to store as soon as its orders are. Orders may
        come again (overlap); none may be missed.
        """
        ...

    def walk(self, cursor: Cursor | None, begin: date | None) -> AsyncIterator[Page]:
        """Pages of all orders, whole and each once, in one pass; it goes on behind the page of `cursor`.

        With `begin` only orders that were issued, made or changed on that day or later, as far as the ERP can tell
        them apart, or all. The last page's cursor is one for `changed_since`: it gives what changed since the pass
        began; to go on from there gives nothing, or begins anew where changes are found by passes only.
        """
        ...

    async def count(self, begin: date | None) -> int | None:
        """About how many orders `walk` will give; None when the ERP cannot say at the price of a call."""
        ...

    def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        """Batches of the ids of every order that the ERP shows now: one full pass, for finding deletes."""
        ...

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        """One order as it is now; None when the ERP says that it is gone."""
        ...

    async def sample(self, most: int) -> Sample:
        """Up to `most` orders with everything that their records hold, the latest ones where the ERP can tell."""
        ...

    async def found(self) -> Found:
        """What the ERP says of itself; asked once something has been read."""
        ...

    def capabilities(self) -> Capabilities:
        """Per field: where it comes from, its type, whether this system gives it or takes it."""
        ...

    def writer(self) -> Writer | None:
        """How it is written to, with the same session and pace; None when nothing can be written."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """What one ERP stands: calls per second, how many at once, and the burst allowed after a quiet time."""

    per_second: float
    burst: int
    at_once: int
    timeout: float = 60.0
    """Seconds for one whole call."""
    floor: timedelta = timedelta(milliseconds=100)
    """The shortest wait between two polls."""

    def set_by(self, schedule: Schedule) -> "Pace":
        """The same where people have not set another; a burst is twice as many calls as there may be at once."""
        per_second = schedule.calls_per_second or self.per_second
        at_once = schedule.calls_at_once or self.at_once
        burst = self.burst if per_second == self.per_second and at_once == self.at_once else 2 * at_once
        timeout = schedule.answer_within.total_seconds() if schedule.answer_within else self.timeout
        return replace(self, per_second=per_second, at_once=at_once, burst=burst, timeout=timeout)


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One line of the registry: a connector's models, its default pace, and how to build one."""

    name: str
    title: str
    settings: type[BaseModel]
    credentials: type[BaseModel]
    pace: Pace
    build: "Callable[[Any, Any, httpx.AsyncClient, Mappings], Connector]"
    """(settings, credentials, client, mappings) -> connector. The client is the polite one: its transport paces,
    retries reads and maps errors; the connector adds its own `auth`, base URL and headers per request."""
    overridable: Overridable = field(default_factory=dict)
    """The parts of a mapping that people may override, and how the names in them look."""
    shown_with: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which all that it can do is shown before there is a connection, as its model holds them."""
    revisions: Revisions = field(default_factory=Revisions)
    """The versions of its own rules; a new one makes relay read all orders again."""
