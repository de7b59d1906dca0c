"""The borders between rooms: what a connector is, and what the stages ask of store, Kafka and sender."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from relay.domain.admission import Admitted
from relay.domain.capabilities import Capabilities, SourceField
from relay.domain.connections import Connection, Cursor, Lease, Polled
from relay.domain.deliveries import Answer, Attempt, Delivery, DeliveryId
from relay.domain.endpoints import Endpoint
from relay.domain.events import Snapshot
from relay.domain.health import Verdict
from relay.domain.mapping import MappingOverrides, MappingVersion, Overridable, Revisions
from relay.domain.messages import Message, Published
from relay.domain.orders import PurchaseOrder
from relay.domain.replays import Criteria, Match
from relay.domain.syncs import Moved, OpenSync
from relay.domain.verification import Permission

if TYPE_CHECKING:
    import httpx

Clock = Callable[[], datetime]
"""The time now, in UTC."""
Dice = Callable[[], float]
"""Chance, from 0 to 1."""


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
    UnexpectedReply, Unsupported) and nothing else. Nothing here writes to the ERP.
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
    revisions: Revisions = field(default_factory=Revisions)
    """The versions of its own rules; a new one makes relay read all orders again."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One event to be published: `stream` is "changes" or "dead-letters", `problem` why it is a dead letter."""

    event_id: str
    stream: str
    remote_id: str
    sequence: int
    type: str
    occurred_at: datetime
    body: bytes
    problem: str | None = None


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


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of lanes that are due, and when the next one will be (None: nothing waits for a time)."""

    due: tuple[Delivery, ...]
    next_due: datetime | None = None
    more: bool = False
    """Whether more are due than these."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What recording goes by: whether only an order's newest event waits, bytes to come back, and the new health."""

    latest_only: bool
    bytes: int
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """What a runner has room for: heads, how many of them attempted before, and bytes; and what it holds already."""

    heads: int
    repeated: int
    bytes: int
    held: frozenset[DeliveryId] = frozenset()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A subject under a new lease. `version` counts its changes by people: a runner ends when it moves."""

    lease: Lease
    version: int
    subject: Any


@dataclass(frozen=True, slots=True)
class Renewed:
    """Subjects still held, and those of them that people changed: their runners end and start anew."""

    held: frozenset[str]
    changed: frozenset[str]


class Leasing(Protocol):
    """Leases over connections or endpoints. Times are the store's own."""

    async def share(self, owner: str) -> int:
        """Say that `owner` lives; how many subjects are its fair share, rounded up."""
        ...

    async def claim(self, owner: str, most: int, without: Collection[str] = ()) -> list[Claimed]:
        """Up to `most` free subjects, now held by `owner`; none of `without`."""
        ...

    async def renew(self, held: Sequence[Claimed]) -> Renewed:
        """Keep these for another term; what is in neither set has been lost."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a lease back; nothing happens when it is no longer ours."""
        ...

    async def leave(self, owner: str) -> None:
        """Forget a worker that ends."""
        ...


class Watching(Protocol):
    """What there is to do, for all subjects of a kind at once."""

    async def with_work(self, owner: str) -> Sequence[str]:
        """Ids of the subjects that `owner` holds and that have something due."""
        ...


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


class Verifying(Protocol):
    """What a verification comes to. Every write names a lease and raises LeaseLost without it."""

    async def save_problem(self, lease: Lease, problem: str | None) -> None:
        """What keeps this endpoint from being sent anything; None: nothing does."""
        ...

    async def save_verified(self, lease: Lease, proof: str, per_minute: int | None) -> None:
        """What the endpoint has proved, and the most webhooks that it wants per minute (None: it sets no limit)."""
        ...

    async def disable(self, lease: Lease, url: str, problem: str) -> None:
        """Send nothing more to this endpoint until a person enables it, unless its URL is another by now."""
        ...


class Deliveries(Verifying, Protocol):
    """Deliveries of endpoints. Every write names a lease and raises LeaseLost without it."""

    async def heads(self, endpoint_id: str, space: Space) -> Heads:
        """Heads that are due and not held, longest due first, as many as there is space for, and one at least."""
        ...

    async def record(self, lease: Lease, attempts: Sequence[Attempt], rules: Rules) -> Heads:
        """Store attempts and what follows from them; the next heads of the lanes that may go on."""
        ...

    async def supersede(self, lease: Lease, held: Collection[DeliveryId]) -> None:
        """Leave out what a newer event of its order has made old, in lanes whose refused head is due and not held."""
        ...


@dataclass(frozen=True, slots=True)
class ReplayLook:
    """The replay to go on with: what it goes by, how far it came, and the next events by position.

    `waiting` of its deliveries are in line already; of a `cancelled` one they are to be taken back.
    """

    id: str
    criteria: Criteria
    per_second: float
    reached: int
    until: int
    waiting: int
    cancelled: bool
    matches: tuple[Match, ...]
    end: int
    """The position up to which these are all."""
    last: bool
    """Whether nothing can follow that."""


@dataclass(frozen=True, slots=True)
class Bite:
    """How many deliveries were put in line again, whether it went forward, and whether it is through."""

    put: int
    moved: bool
    ended: bool


class Replays(Protocol):
    """Replays of an endpoint. Every write names a lease and raises LeaseLost without it."""

    async def look(self, endpoint: Endpoint, most_waiting: int) -> ReplayLook | None:
        """What there is to do; None: nothing. Of what waits, `most_waiting` are counted at most."""
        ...

    async def bite(
        self, lease: Lease, endpoint: Endpoint, look: ReplayLook, held: Collection[DeliveryId], most: int
    ) -> Bite:
        """Put about `most` of what was seen in line, except in lanes of which the runner holds something."""
        ...

    async def take_back(self, lease: Lease, replay_id: str, held: Collection[DeliveryId]) -> int:
        """What a cancelled replay put in line and was not sent becomes what it was; how many."""
        ...


class Publishing(Protocol):
    """A producer of messages."""

    async def publish(self, messages: Sequence[Message]) -> Published:
        """Send in the given order; how many of the first are acknowledged, and why not more."""
        ...


class Sending(Protocol):
    """A client of one URL."""

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`; whatever happens is an answer."""
        ...


class Asking(Sending, Protocol):
    """A client of one URL that can also be asked whether it wants webhooks."""

    async def ask(self, headers: Mapping[str, str]) -> Permission:
        """OPTIONS: whether the URL wants webhooks; whatever happens is an answer."""
        ...
