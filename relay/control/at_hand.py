"""At hand: what operations are done with, and the steps that several of them share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from relay.domain.connections import ConnectionState
from relay.domain.egress import Policy
from relay.domain.endpoints import DEFAULT_AT_ONCE
from relay.domain.errors import NotFound, UserError
from relay.domain.verification import ORIGIN
from relay.ports import ConnectorKind
from relay.store.registry import Registry
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.egress import Resolver, lookup

if TYPE_CHECKING:
    from relay.control.doctor import Probe
    from relay.domain.connections import Connection


@dataclass(frozen=True, slots=True)
class Usual:
    """What an endpoint has when nothing else is said, and whether it may do without TLS."""

    at_once: int = DEFAULT_AT_ONCE
    deadline: timedelta = timedelta(seconds=15)
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class AtHand:
    """The parts. `vault` is called only by those that seal or open, so that the others need no master key."""

    registry: Registry
    vault: Callable[[], Vault]
    kinds: Mapping[str, ConnectorKind]
    egress: Policy = field(default_factory=Policy)
    resolve: Resolver = lookup
    origin: str = ORIGIN
    """What relay is called where a receiver must allow it."""
    usual: Usual = field(default_factory=Usual)
    probes: "Mapping[str, Probe]" = field(default_factory=dict)
    """What the doctor asks beside the database: the broker, by name."""

    async def _connection_id(self, customer: str, name: str) -> str:
        try:
            seen = await self.registry.connection(f"{customer}/{name}")
        except NotFound:
            seen = await self.registry.connection(name)
        subject: Connection = seen.subject
        if subject.customer_id != customer:
            raise NotFound(f"{customer} has no connection {name!r}: see `relay connections list`")
        return subject.id

    async def _opened(self, subject: "Connection") -> dict[str, Any]:
        """The credentials as they were given. Raises KeyTrouble, and UserError when there are none any more."""
        if subject.state is ConnectionState.DISCONNECTED:
            raise UserError(f"{subject.name} is disconnected: it has no credentials. Reconnect it with some")
        place = Place(subject.customer_id, subject.id, Purpose.CREDENTIALS)
        opened: dict[str, Any] = orjson.loads(await self.vault().open(place, subject.sealed))
        return opened
