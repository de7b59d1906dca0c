"""How commands come in: what admission asks of the store, and what it hands over to be kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from relay.domain.connections import ConnectionState
from relay.domain.messages import Reason
from relay.domain.redrives import Redrive
from relay.domain.results import Outcome
from relay.ports.events import OutboxEntry


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether commands for a connection can be done at all, and the key that they are signed with, if one is set."""

    customer_id: str
    state: ConnectionState
    command_key: str | None = None


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command as it came in. `outcome` ACCEPTED: it is to be done; any other: it is over already.

    `raw` and `origin` are the message it came in, None for one that came by the API; `entries` are what is told of it.
    """

    id: str
    connection_id: str
    command_id: str
    type: str | None
    remote_id: str | None
    lane: str
    dry_run: bool
    body: bytes = field(repr=False)
    digest: bytes
    outcome: Outcome
    expires_at: datetime
    entries: Sequence[OutboxEntry]
    source: str
    caller: str
    raw: bytes | None = field(default=None, repr=False)
    origin: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store knows of a command: whether it is new with this admission, and its content's digest."""

    new: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class Overdue:
    """A command that ran out of time before anybody could do it."""

    id: str
    customer_id: str
    connection_id: str
    body: bytes = field(repr=False)
    attempts: int
    raw: bytes | None = field(default=None, repr=False)
    origin: bytes | None = field(default=None, repr=False)


class Intake(Protocol):
    """Where commands are kept until their connection's runner does them."""

    async def standings(self, connection_ids: Collection[str]) -> Mapping[str, Standing]:
        """Of those connections that there are."""
        ...

    async def redrives(self, ids: Collection[str]) -> Mapping[str, Redrive]:
        """Those of these redrives that were written down."""
        ...

    async def keep(self, commands: Sequence[NewCommand]) -> Mapping[str, Kept]:
        """Keep those that are not known, with all that is told of them, all or nothing; by id, what is known now.

        Each id is given once. One that is missing in the answer is of a connection that is gone.
        """
        ...

    async def overdue(self, most: int) -> Sequence[Overdue]:
        """Commands that wait past their time with nobody to do them: those in doubt are never among them."""
        ...

    async def save_overdue(self, expired: Sequence[tuple[Overdue, Sequence[OutboxEntry]]]) -> int:
        """They are over, those that still wait, and their entries are told; how many."""
        ...


def expired_letter(command_key: str, raw: bytes, origin: bytes, now: datetime) -> OutboxEntry:
    """The message of a command that ran out of time, as it came."""
    return OutboxEntry(
        event_id="ltr_" + command_key.removeprefix("cmd_"),
        stream="dead-letters",
        remote_id=command_key,
        sequence=0,
        type=Reason.EXPIRED,
        occurred_at=now,
        body=raw,
        problem="it was not done before it expired",
        origin=origin,
    )
