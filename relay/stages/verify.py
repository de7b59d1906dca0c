"""Verify: an endpoint proves that it wants webhooks, before the first delivery.

    asked -> judged -> proved: deliveries begin
                    -> not yet: the problem is stored for people, and it is asked again later

Deliveries wait meanwhile and none is lost: this stage ends before the one that sends them begins. What is asked for,
and what counts as a proof, is in `relay.domain.verification`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from relay.domain.connections import Lease
from relay.domain.deliveries import Outcome
from relay.domain.endpoints import Endpoint, Verification
from relay.domain.retry import classify
from relay.domain.signing import SigningKey, TimedKey, signed_headers
from relay.domain.verification import (
    ORIGIN,
    Verdict,
    challenge_body,
    handshake_headers,
    judge_challenge,
    judge_handshake,
    next_try,
    proof,
)
from relay.ports import Asking, Clock, Dice, Verifying

log = structlog.get_logger()


@dataclass
class Verify:
    """One endpoint's verification, from `run` until it is proved, or `stop`."""

    endpoint: Endpoint
    lease: Lease
    secrets: Sequence[SigningKey | TimedKey] = field(repr=False)
    sender: Asking
    store: Verifying
    clock: Clock
    dice: Dice
    random_text: Callable[[], str]
    """A text that nobody can guess, new on each call."""
    origin: str = ORIGIN
    _stopped: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def stop(self) -> None:
        """Ask no more; `run` ends when the question under way is answered."""
        self._stopped.set()

    async def run(self) -> Endpoint | None:
        """The endpoint as it has proved itself; None when stopped before, or when it wants to hear nothing ever.

        Raises LeaseLost when another worker took over, and Unavailable when the store is not there.
        """
        tries = 0
        while not self._stopped.is_set():
            verdict = await self._ask()
            tries += 1
            if not verdict.problem:
                return await self._proved(verdict)
            log.warning("endpoint.unverified", endpoint=self.endpoint.id, attempt=tries, problem=verdict.problem)
            if classify(verdict.answer) is Outcome.GONE:
                await self.store.disable(self.lease, self.endpoint.url, f"not verified: {verdict.problem}")
                log.warning("endpoint.disabled", endpoint=self.endpoint.id, reason=verdict.problem)
                return None
            await self._pause(tries, verdict)
        return None

    async def _ask(self) -> Verdict:
        if self.endpoint.options.verification is Verification.CLOUDEVENTS:
            return await self._shake_hands()
        return await self._challenge()

    async def _challenge(self) -> Verdict:
        now, challenge = self.clock(), self.random_text()
        body = challenge_body(challenge, now)
        headers = signed_headers(self.secrets, f"chl_{self.random_text()}", int(now.timestamp()), body)
        return judge_challenge(challenge, await self.sender.send(headers, body))

    async def _shake_hands(self) -> Verdict:
        options = self.endpoint.options
        permission = await self.sender.ask(handshake_headers(self.origin, options))
        return judge_handshake(self.origin, options, permission)

    async def _proved(self, verdict: Verdict) -> Endpoint:
        endpoint = self.endpoint
        proved = proof(endpoint.options.verification, endpoint.url)
        await self.store.save_verified(self.lease, proved, verdict.per_minute)
        log.info("endpoint.verified", endpoint=endpoint.id, per_minute=verdict.per_minute)
        return replace(endpoint, verified=True, allowed_per_minute=verdict.per_minute)

    async def _pause(self, tries: int, verdict: Verdict) -> None:
        now = self.clock()
        at = next_try(tries, self.endpoint.options, now=now, dice=self.dice(), retry_after=verdict.answer.retry_after)
        await self.store.save_problem(self.lease, self._waiting(verdict, at))
        with suppress(TimeoutError):
            async with asyncio.timeout((at - now).total_seconds()):
                await self._stopped.wait()

    def _waiting(self, verdict: Verdict, at: datetime) -> str:
        return (
            f"not verified, deliveries wait: {verdict.problem}. It is asked again at {at:%Y-%m-%d %H:%M:%SZ}, "
            f"and at once after `relay endpoints enable {self.endpoint.name}`"
        )
