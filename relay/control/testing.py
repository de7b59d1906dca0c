"""Testing an endpoint: signed samples sent to it now, and in plain words what came back.

    types -> samples -> signed, with access -> sent as deliveries are -> EndpointTested(ok, tries)

Nothing is recorded and no delivery waits for it: what is sent tells of nothing that has happened. Receivers know a test
by its `webhook-id`, which begins with `test_` and is signed; `relay-test: true` says the same to people.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from relay.control import given
from relay.control.endpoint_views import EndpointView
from relay.control.signing import EndpointSecrets
from relay.control.views import View
from relay.domain.access import Access, read
from relay.domain.advice import advice
from relay.domain.catalogue import TYPES
from relay.domain.deliveries import Answer
from relay.domain.egress import Policy
from relay.domain.endpoints import Endpoint, Verification
from relay.domain.events import EVENT_PREFIX
from relay.domain.payload import shaped
from relay.domain.signing import SigningKey, TimedKey, signed_headers
from relay.domain.trials import trial_event
from relay.domain.verification import REQUEST_ORIGIN
from relay.ports import Sending
from relay.store.registry import Registry
from relay.vault.vault import Place, Purpose, Vault
from relay.wire.egress import Resolver
from relay.wire.pinned import Dialling
from relay.wire.webhook import WebhookSender

TEST = "relay-test"
CONNECT_WITHIN = timedelta(seconds=5)
USUAL_TYPE = EVENT_PREFIX + "updated"


class TypeTested(View):
    """One sample and what came back. `advice` says what to do when it was not taken, and is empty when it was."""

    type: str
    webhook_id: str
    ok: bool
    status: int | None
    error: str
    detail: str
    milliseconds: int
    address: str
    excerpt: str
    """The beginning of what the receiver answered."""
    advice: str


class EndpointTested(View):
    """An endpoint's test. `ok` when every sample was taken."""

    endpoint: EndpointView
    ok: bool
    tries: tuple[TypeTested, ...]


@dataclass(frozen=True, slots=True)
class EndpointTesting:
    """Sends samples to endpoints, under the same rules as deliveries."""

    registry: Registry
    vault: Callable[[], Vault]
    egress: Policy
    resolve: Resolver
    origin: str

    async def test(self, name: str, types: Iterable[str] = (), *, every: bool = False) -> EndpointTested:
        """Send a sample of each of `types`, of `every` type that the endpoint wants, or of one.

        Raises:
            NotFound: no such endpoint.
            UserError: an unknown event type.
            KeyTrouble: there is no master key, or not the one that was sealed with.
        """
        wanted = given.event_types_given(types)
        seen = await self.registry.endpoint(name)
        subject: Endpoint = seen.subject
        keys = await EndpointSecrets(self.registry, self.vault).signing(subject)
        dialling = Dialling(subject.deadline, CONNECT_WITHIN, 1, self.egress, self.resolve)
        sender = WebhookSender(subject.url, dialling, await self._access(subject))
        try:
            tries = [await self._try(sender, subject, keys, each) for each in wanted or _types(subject, every=every)]
        finally:
            await sender.close()
        return EndpointTested(endpoint=EndpointView.of(seen), ok=all(each.ok for each in tries), tries=tuple(tries))

    async def _access(self, subject: Endpoint) -> Access:
        if not subject.access:
            return Access()
        place = Place(subject.customer_id, subject.id, Purpose.ACCESS)
        return read(await self.vault().open(place, subject.access))

    async def _try(
        self, sender: Sending, subject: Endpoint, keys: Sequence[SigningKey | TimedKey], event_type: str
    ) -> TypeTested:
        now = datetime.now(UTC)
        message_id, event = trial_event(event_type, subject.customer_id, secrets.token_hex(12), now)
        body = shaped(event.model_dump_json().encode(), subject.options.payload)
        headers = {**signed_headers(keys, message_id, int(now.timestamp()), body), TEST: "true"}
        if subject.options.verification is Verification.CLOUDEVENTS:
            headers[REQUEST_ORIGIN] = self.origin
        began = time.monotonic()
        answer = await sender.send(headers, body)
        return _told(event_type, message_id, answer, time.monotonic() - began)


def _types(subject: Endpoint, *, every: bool) -> tuple[str, ...]:
    wanted = subject.event_types or TYPES
    if every:
        return wanted
    return (USUAL_TYPE if USUAL_TYPE in wanted else wanted[0],)


def _told(event_type: str, message_id: str, answer: Answer, seconds: float) -> TypeTested:
    problem = advice(answer)
    return TypeTested(
        type=event_type,
        webhook_id=message_id,
        ok=not problem,
        status=answer.status,
        error=answer.error,
        detail=answer.detail,
        milliseconds=round(seconds * 1000),
        address=answer.address,
        excerpt=answer.excerpt.decode(errors="replace"),
        advice=problem,
    )
