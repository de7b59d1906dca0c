"""ConnectionRunner: poll, commands -> outbox -> publish: everything that touches one ERP, in one place."""

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import httpx
import orjson
import structlog
from pydantic import ValidationError

from relay.domain.connections import Connection, ConnectionState, Polled
from relay.domain.errors import Transient, UserError
from relay.domain.remapping import Remapping
from relay.ports import (
    Admissions,
    Claimed,
    Clock,
    Commands,
    Connector,
    ConnectorKind,
    Dice,
    FormerMappings,
    Mappings,
    Orders,
    Outbox,
    Pace,
    Publishing,
    Syncs,
)
from relay.runners.clock import utc_now
from relay.runners.erp_work import ErpWork
from relay.stages.attend import Attend
from relay.stages.carry import Carry, Times
from relay.stages.conclude import Conclude
from relay.stages.doubts import Doubts
from relay.stages.execute import Execute
from relay.stages.gate import Gate
from relay.stages.poll import Patience, Poll
from relay.stages.publish import Destinations, Publish
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.remap import Remap
from relay.stages.sync import Sync
from relay.stages.take import Take
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.erp import polite_client

log = structlog.get_logger()

PUBLISH_PAUSE = 1.0
"""Seconds before the outbox is tried again while the broker is away."""


def connector_of(
    kind: ConnectorKind, connection: Connection, secret: bytes, client: httpx.AsyncClient, mappings: Mappings
) -> Connector:
    """A connector from what is stored: its settings and opened credentials.

    Raises:
        UserError: this version of relay does not take what an earlier one stored; names the fields, not their values.
    """
    try:
        settings = kind.settings.model_validate(connection.settings)
        credentials = kind.credentials.model_validate(orjson.loads(secret))
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()}))
        raise UserError(f"connection {connection.name!r} must be added anew: {fields} cannot be used") from None
    return kind.build(settings, credentials, client, mappings)


@dataclass(frozen=True, slots=True)
class ConnectionParts:
    """What every connection runner of a worker uses."""

    kinds: dict[str, ConnectorKind]
    vault: Vault
    orders: Orders
    syncs: Syncs
    mappings: FormerMappings
    outbox: Outbox
    publisher: Publishing
    admissions: Admissions
    topics: Destinations
    patience: Patience
    doubt: Doubt
    commands: Commands
    times: Times
    commands_at_once: int | None = None
    """Most commands that are done at once in one ERP; None: as many as its pace allows calls."""
    clock: Clock = utc_now
    dice: Dice = random.random


@dataclass
class ConnectionRunner:
    """One connection until stopped: read and written to while it is active, its outbox published in any state."""

    claimed: Claimed
    parts: ConnectionParts
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _saved: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _work: ErpWork | None = field(default=None, init=False)

    @property
    def connection(self) -> Connection:
        """The connection as it was when it was claimed."""
        subject: Connection = self.claimed.subject
        return subject

    def stop(self) -> None:
        """End after the publishing, and the commands, that are under way."""
        self._stop.set()
        self._saved.set()
        if self._work:
            self._work.stop()

    def ring(self) -> None:
        """Look at the outbox, and whether somebody asked for something."""
        self._saved.set()
        if self._work:
            self._work.ring()

    async def run(self) -> None:
        """Poll and publish. Raises UserError, LeaseLost, and Unavailable when the store is not there.

        A UserError is the connection's problem from then on: its key is missing, or what is stored cannot be used.
        """
        async with AsyncExitStack() as stack:
            self._work = await self._begin(stack)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._publish())
            if self._work and not self._stop.is_set():
                tasks.create_task(self._work.run())
            await self._stop.wait()

    async def _begin(self, stack: AsyncExitStack) -> ErpWork | None:
        """What is to be done in the ERP; None: nothing, while the connection is not active."""
        if self.connection.state is not ConnectionState.ACTIVE:
            return None
        try:
            kind = self._kind()
            mappings, remapping = await Remap(
                self.connection, self.claimed.lease, kind.revisions, self.parts.mappings
            ).run_once()
            pace = kind.pace.set_by(self.connection.schedule)
            return self._erp_work(await self._connector(kind, pace, stack, mappings), pace, remapping)
        except UserError as error:
            await self._cannot_begin(error)
            raise

    def _kind(self) -> ConnectorKind:
        connection = self.connection
        if (kind := self.parts.kinds.get(connection.connector)) is None:
            raise UserError(
                f"connection {connection.name!r}: this version of relay has no connector {connection.connector!r}"
            )
        return kind

    async def _connector(self, kind: ConnectorKind, pace: Pace, stack: AsyncExitStack, mappings: Mappings) -> Connector:
        connection = self.connection
        place = Place(connection.customer_id, connection.id, Purpose.CREDENTIALS)
        secret = await self.parts.vault.open_patiently(place, connection.sealed, self._stop.is_set)
        client = await stack.enter_async_context(polite_client(pace))
        return connector_of(kind, connection, secret, client, mappings)

    async def _cannot_begin(self, error: UserError) -> None:
        # Due at once: the ERP was not asked anything, and a worker that has the key need not wait.
        failures = max(1, self.connection.failures)
        polled = Polled(ConnectionState.ACTIVE, self.parts.clock(), failures, str(error))
        await self.parts.orders.save_polled(self.claimed.lease, polled)

    def _erp_work(self, connector: Connector, pace: Pace, remapping: Remapping) -> ErpWork:
        parts, connection, lease, saved = self.parts, self.connection, self.claimed.lease, self._saved.set
        gate, doubts = Gate(), Doubts(connector)
        take = Take(connection, parts.orders, parts.clock, saved, remapping, gate, doubts)
        timing = (parts.clock, parts.dice, parts.patience)
        poll = Poll(connection, lease, connector, parts.orders, take, *timing, pace.floor)
        reconcile = Reconcile(
            connection, lease, connector, parts.orders, parts.clock, parts.doubt, remapping, gate, doubts
        )
        sync = Sync(connection, lease, connector, parts.syncs, take, *timing)
        carry = Carry(lease, connector, parts.commands, doubts, parts.clock, parts.times)
        conclude = Conclude(
            connection,
            lease,
            connector,
            parts.commands,
            parts.orders,
            doubts,
            parts.clock,
            saved,
            lambda: poll.cursor is None,
            remapping,
        )
        at_once = min(pace.at_once, parts.commands_at_once or pace.at_once)
        execute = Execute(connection, lease, parts.commands, carry, conclude, gate, doubts, *timing, at_once)
        return ErpWork(Attend(poll, reconcile, sync, parts.clock, saved), execute)

    async def _publish(self) -> None:
        parts = self.parts
        publish = Publish(self.claimed.lease, parts.outbox, parts.publisher, parts.admissions, parts.topics)
        while not self._stop.is_set():
            self._saved.clear()
            pause = None
            try:
                if await publish.run_once():
                    continue
            except Transient as error:
                log.warning("outbox.waits", connection=self.connection.id, problem=str(error))
                pause = PUBLISH_PAUSE
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._saved.wait()
