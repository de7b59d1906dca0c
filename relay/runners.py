"""Runners: one connection's or one endpoint's work, from claimed to released.

ConnectionRunner   poll -> outbox -> publish     everything that touches one ERP, in one place
EndpointRunner     verify, then lanes -> send -> record    everything that is sent to one URL, in one place
"""

import asyncio
import random
import secrets
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import structlog
from pydantic import ValidationError

from relay.domain.access import Access
from relay.domain.access import read as read_access
from relay.domain.connections import Connection, ConnectionState, Polled
from relay.domain.egress import Policy
from relay.domain.endpoints import Endpoint, Verification
from relay.domain.errors import Transient, UserError
from relay.domain.lanes import Memory
from relay.domain.remapping import Remapping
from relay.domain.rotation import read, signing_keys
from relay.domain.signing import SigningKey, TimedKey
from relay.domain.verification import ORIGIN
from relay.ports import (
    Admissions,
    Claimed,
    Clock,
    Connector,
    ConnectorKind,
    Deliveries,
    Dice,
    FormerMappings,
    Mappings,
    Orders,
    Outbox,
    Publishing,
    Replays,
    Sending,
    Syncs,
)
from relay.stages.attend import Attend
from relay.stages.deliver import MOST_BYTES, Deliver
from relay.stages.poll import Patience, Poll
from relay.stages.publish import Destinations, Publish
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.remap import Remap
from relay.stages.replay import Replay
from relay.stages.sync import Sync
from relay.stages.take import Take
from relay.stages.verify import Verify
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.erp import polite_client
from relay.wire.introduced import Introduced
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender

log = structlog.get_logger()

PUBLISH_PAUSE = 1.0
"""Seconds before the outbox is tried again while the broker is away."""


def utc_now() -> datetime:
    """The time now."""
    return datetime.now(UTC)


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
    clock: Clock = utc_now
    dice: Dice = random.random


@dataclass
class ConnectionRunner:
    """One connection until stopped: polled while it is active, and what was read published in any state."""

    claimed: Claimed
    parts: ConnectionParts
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _saved: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _attending: Attend | None = field(default=None, init=False)

    @property
    def connection(self) -> Connection:
        """The connection as it was when it was claimed."""
        subject: Connection = self.claimed.subject
        return subject

    def stop(self) -> None:
        """End after the publishing that is under way."""
        self._stop.set()
        self._saved.set()

    def ring(self) -> None:
        """Look at the outbox, and whether somebody asked for something."""
        self._saved.set()
        if self._attending:
            self._attending.ring()

    async def run(self) -> None:
        """Poll and publish. Raises UserError, LeaseLost, and Unavailable when the store is not there.

        A UserError is the connection's problem from then on: its key is missing, or what is stored cannot be used.
        """
        async with AsyncExitStack() as stack:
            polling = await self._polling(stack)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._publish())
            watching = tasks.create_task(polling) if polling else None
            await self._stop.wait()
            if watching:
                # A page is one transaction: breaking off between two loses nothing.
                watching.cancel()

    async def _polling(self, stack: AsyncExitStack) -> Coroutine[None, None, None] | None:
        if self.connection.state is not ConnectionState.ACTIVE:
            return None
        try:
            kind = self._kind()
            mappings, remapping = await Remap(
                self.connection, self.claimed.lease, kind.revisions, self.parts.mappings
            ).run_once()
            return self._attend(await self._connector(kind, stack, mappings), kind.pace.floor, remapping).run()
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

    async def _connector(self, kind: ConnectorKind, stack: AsyncExitStack, mappings: Mappings) -> Connector:
        connection = self.connection
        place = Place(connection.customer_id, connection.id, Purpose.CREDENTIALS)
        secret = await self.parts.vault.open_patiently(place, connection.sealed, self._stop.is_set)
        client = await stack.enter_async_context(polite_client(kind.pace))
        return connector_of(kind, connection, secret, client, mappings)

    async def _cannot_begin(self, error: UserError) -> None:
        # Due at once: the ERP was not asked anything, and a worker that has the key need not wait.
        failures = max(1, self.connection.failures)
        polled = Polled(ConnectionState.ACTIVE, self.parts.clock(), failures, str(error))
        await self.parts.orders.save_polled(self.claimed.lease, polled)

    def _attend(self, connector: Connector, floor: timedelta, remapping: Remapping) -> Attend:
        parts, connection, lease, saved = self.parts, self.connection, self.claimed.lease, self._saved.set
        take = Take(connection, parts.orders, parts.clock, saved, remapping)
        timing = (parts.clock, parts.dice, parts.patience)
        poll = Poll(connection, lease, connector, parts.orders, take, *timing, floor)
        reconcile = Reconcile(connection, lease, connector, parts.orders, parts.clock, parts.doubt, remapping)
        sync = Sync(connection, lease, connector, parts.syncs, take, *timing)
        self._attending = Attend(poll, reconcile, sync, parts.clock, saved)
        return self._attending

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


@dataclass(frozen=True, slots=True)
class EndpointParts:
    """What every endpoint runner of a worker uses."""

    vault: Vault
    deliveries: Deliveries
    connect_timeout: timedelta
    egress: Policy = field(default_factory=Policy)
    memory: Memory = field(default_factory=lambda: Memory(MOST_BYTES))
    origin: str = ORIGIN
    """What we are called in handshakes."""
    replays: Replays | None = None
    """None: nothing is ever sent again."""
    clock: Clock = utc_now
    dice: Dice = random.random


@dataclass
class EndpointRunner:
    """One endpoint: its own connections and lanes, in which deliveries wait until it has proved that it wants them."""

    claimed: Claimed
    parts: EndpointParts
    _verify: Verify | None = field(default=None, init=False)
    _deliver: Deliver | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """End when what is in flight is recorded."""
        self._stopped = True
        if self._verify:
            self._verify.stop()
        if self._deliver:
            self._deliver.stop()

    def ring(self) -> None:
        """There may be new deliveries."""
        if self._deliver:
            self._deliver.ring()

    async def run(self) -> None:
        """Deliver. Raises UserError, LeaseLost, and Unavailable when the store is not there.

        A UserError is the endpoint's problem from then on: its signing secret or access cannot be opened or used.
        """
        parts, endpoint, lease = self.parts, self.claimed.subject, self.claimed.lease
        assert isinstance(endpoint, Endpoint)
        try:
            keys, access = await self._keys(endpoint), await self._access(endpoint)
        except UserError as error:
            await parts.deliveries.save_problem(lease, str(error))
            raise
        if endpoint.problem and not (endpoint.health.noticed or endpoint.health.suspended_at):
            await parts.deliveries.save_problem(lease, None)
        dialling = Dialling(endpoint.deadline, parts.connect_timeout, endpoint.at_once, parts.egress)
        sender = WebhookSender(endpoint.url, dialling, access)
        try:
            verified = await self._verified(endpoint, keys, sender)
            if verified and not self._stopped:
                self._deliver = Deliver(
                    verified,
                    lease,
                    keys,
                    self._introduced(sender),
                    parts.deliveries,
                    parts.clock,
                    parts.dice,
                    parts.memory,
                )
                await self._delivering(self._deliver, verified)
        finally:
            await sender.close()

    async def _delivering(self, deliver: Deliver, endpoint: Endpoint) -> None:
        """Deliver, and put in line again what a replay asks for."""
        if self.parts.replays is None:
            await deliver.run()
            return
        replay = Replay(endpoint, self.claimed.lease, self.parts.replays, deliver.still, deliver.ring)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(replay.run())
            await deliver.run()
            replay.stop()

    async def _verified(
        self, endpoint: Endpoint, keys: list[SigningKey | TimedKey], sender: WebhookSender
    ) -> Endpoint | None:
        """The endpoint once it has proved what it must; None when that was not to be."""
        if endpoint.verified or endpoint.options.verification is Verification.NONE:
            return endpoint
        parts = self.parts
        self._verify = Verify(
            endpoint,
            self.claimed.lease,
            keys,
            sender,
            parts.deliveries,
            parts.clock,
            parts.dice,
            secrets.token_urlsafe,
            parts.origin,
        )
        return None if self._stopped else await self._verify.run()

    def _introduced(self, sender: WebhookSender) -> Sending:
        asked = self.claimed.subject.options.verification is Verification.CLOUDEVENTS
        return Introduced(sender, self.parts.origin) if asked else sender

    async def _keys(self, endpoint: Endpoint) -> list[SigningKey | TimedKey]:
        place = Place(endpoint.customer_id, endpoint.id, Purpose.SIGNING_SECRET)
        opened = await self.parts.vault.open_patiently(place, endpoint.sealed, lambda: self._stopped)
        return signing_keys(read(opened), int(self.parts.clock().timestamp()))

    async def _access(self, endpoint: Endpoint) -> Access:
        if not endpoint.access:
            return Access()
        place = Place(endpoint.customer_id, endpoint.id, Purpose.ACCESS)
        opened = await self.parts.vault.open_patiently(place, endpoint.access, lambda: self._stopped)
        return read_access(opened)
