"""Attempt: one try at one delivery: sign, send, and say what its answer means.

    delivery -> shaped -> signed -> sent -> judged -> Attempt(delivered | due again | dead | gone)

This is done for every webhook: what is the same for all of an endpoint's is worked out once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from relay import metrics
from relay.domain.cursors import cursor_of
from relay.domain.deliveries import Answer, Attempt, Delivery, Outcome
from relay.domain.endpoints import Endpoint
from relay.domain.payload import shaped
from relay.domain.retry import classify, most_attempts, next_attempt, schedule_of
from relay.domain.signing import CURSOR, SigningKey, TimedKey, webhook_headers
from relay.ports import Clock, Dice, Sending

log = structlog.get_logger()

_COUNTED = {outcome: metrics.ATTEMPTS.labels(outcome) for outcome in Outcome}


@dataclass
class Attempting:
    """Makes the attempts of one endpoint."""

    endpoint: Endpoint
    secrets: Sequence[SigningKey | TimedKey] = field(repr=False)
    sender: Sending
    clock: Clock
    dice: Dice

    def __post_init__(self) -> None:
        self._payload = self.endpoint.options.payload
        self._log = log.bind(endpoint=self.endpoint.id)
        self._now = asyncio.get_running_loop().time

    async def make(self, delivery: Delivery) -> Attempt:
        """Try it once; whatever happens is an attempt."""
        started_at, began = self.clock(), self._now()
        body = shaped(delivery.body, self._payload)
        sent = delivery if body is delivery.body else replace(delivery, body=body)
        headers = webhook_headers(self.secrets, sent, int(started_at.timestamp()))
        headers[CURSOR] = cursor_of(self.endpoint.id, delivery.number)
        answer = await self.sender.send(headers, body)
        attempt = self._judged(delivery, answer, started_at, self._now() - began)
        _COUNTED[attempt.outcome].inc()
        metrics.ATTEMPT_SECONDS.observe(attempt.seconds)
        self._log.info(
            "delivery.attempted",
            delivery=delivery.id,
            event_id=delivery.event_id,
            attempt=attempt.number,
            outcome=attempt.outcome,
            status=answer.status,
            error=answer.error,
            seconds=round(attempt.seconds, 4),
        )
        return attempt

    def _judged(self, delivery: Delivery, answer: Answer, started_at: datetime, seconds: float) -> Attempt:
        number, outcome, due_at = delivery.attempts + 1, classify(answer), None
        if outcome is Outcome.RETRY:
            due_at = self._due_again(number, answer)
            outcome = Outcome.RETRY if due_at else Outcome.DEAD
        elif outcome is Outcome.GONE:
            # It stays the head of its lane, and goes first should a person enable the endpoint again.
            due_at = self.clock()
        return Attempt(delivery, number, started_at, seconds, answer, outcome, due_at)

    def _due_again(self, attempts: int, answer: Answer) -> datetime | None:
        options = self.endpoint.options
        return next_attempt(
            attempts=attempts,
            now=self.clock(),
            dice=self.dice(),
            retry_after=answer.retry_after,
            schedule=schedule_of(options),
            most=most_attempts(answer, options),
        )
