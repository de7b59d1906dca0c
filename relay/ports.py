"""The borders between rooms: what a connector is, and what a page of its orders holds."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.orders import PurchaseOrder

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read: why, and its bytes for the dead letters. Its neighbours are unharmed."""

    remote_id: str
    field: str
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some whole orders, oldest change first, and where to resume once they are stored."""

    orders: tuple[PurchaseOrder, ...]
    cursor: Cursor
    rejected: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()


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

    def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        """Batches of the ids of every order that the ERP shows now: one full pass, for finding deletes."""
        ...

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        """One order as it is now; None when the ERP says that it is gone."""
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


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One line of the registry: a connector's models, its default pace, and how to build one."""

    name: str
    title: str
    settings: type[BaseModel]
    credentials: type[BaseModel]
    pace: Pace
    build: "Callable[[Any, Any, httpx.AsyncClient], Connector]"
    """(settings, credentials, client) -> connector. The client is the polite one: its transport paces, retries reads
    and maps errors; the connector adds its own `auth`, base URL and headers per request."""
