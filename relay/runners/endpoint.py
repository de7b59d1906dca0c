"""EndpointRunner: verify, then lanes -> send -> record: everything that is sent to one URL, in one place."""

import asyncio
import random
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from relay.domain.access import Access
from relay.domain.access import read as read_access
from relay.domain.egress import Policy
from relay.domain.endpoints import Endpoint, Verification
from relay.domain.errors import UserError
from relay.domain.lanes import Memory
from relay.domain.rotation import read, signing_keys
from relay.domain.signing import SigningKey, TimedKey
from relay.domain.verification import ORIGIN
from relay.ports import Claimed, Clock, Deliveries, Dice, Replays, Sending
from relay.runners.clock import utc_now
from relay.stages.deliver import MOST_BYTES, Deliver
from relay.stages.replay import Replay
from relay.stages.verify import Verify
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.introduced import Introduced
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender


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
