"""Admit: events from the changes topic become deliveries; what nobody can work with goes to the dead letters.

    batch -> read as CloudEvents -> one transaction: deliveries + outbox relayed -> acknowledge the batch

Nothing here waits or sends. The outbox has the body: the topic only says that the broker has told it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from relay import metrics
from relay.domain.cloudevents import CloudEvent, read_cloudevent
from relay.domain.dead_letters import dead_letter_headers
from relay.domain.errors import Transient, Unavailable
from relay.domain.events import EVENT_TYPES
from relay.domain.messages import BadMessage, Headers, Message, MessageRefused, Reason
from relay.ports import Admissions, Publishing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as it came from a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass
class Admit:
    """The consumer's side of the changes topic."""

    store: Admissions
    publisher: Publishing
    dead_letters: str

    async def run_once(self, batch: Sequence[Incoming]) -> int:
        """Admit one batch; how many deliveries it made.

        Raises:
            Unavailable: the store or the broker is not there; the batch comes again.
        """
        good: defaultdict[str, list[Incoming]] = defaultdict(list)
        letters: list[Message] = []
        for message in batch:
            try:
                good[_read(message).id].append(message)
            except BadMessage as bad:
                letters.append(self._letter(message, bad))
        admitted = await self.store.admit(list(good))
        letters += [
            self._letter(message, BadMessage(Reason.UNKNOWN_EVENT, "relay did not make this event"))
            for event_id in admitted.unknown
            for message in good[event_id]
        ]
        await self._bury(letters)
        metrics.EVENTS_ADMITTED.inc(admitted.events)
        metrics.DEAD_LETTERS.inc(len(letters))
        log.info(
            "events.admitted",
            events=admitted.events,
            deliveries=admitted.deliveries,
            early=admitted.early,
            dead=len(letters),
        )
        return admitted.deliveries

    def _letter(self, message: Incoming, bad: BadMessage) -> Message:
        log.warning(
            "message.refused",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            reason=bad.reason,
            detail=str(bad),
        )
        headers = dead_letter_headers(
            message.headers,
            reason=bad.reason,
            detail=str(bad),
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
        )
        return Message(self.dead_letters, message.key or b"", message.value, headers)

    async def _bury(self, letters: Sequence[Message]) -> None:
        left = list(letters)
        while left:
            published = await self.publisher.publish(left)
            left = left[published.acknowledged :]
            match published.error:
                case MessageRefused() as refused if left[0].value is not None:
                    # With our headers it may be larger than the topic takes: then the letter says where it stands.
                    log.error("letter.cut", problem=str(refused), bytes=len(left[0].value))
                    left[0] = replace(left[0], value=None)
                case MessageRefused() as refused:
                    log.error("letter.lost", problem=str(refused))
                    del left[0]
                case Transient() as error:
                    raise Unavailable(f"dead letters could not be published: {error}") from error


def _read(message: Incoming) -> CloudEvent:
    event = read_cloudevent(message.key, message.value, message.headers)
    if event.type not in EVENT_TYPES:
        raise BadMessage(Reason.UNKNOWN_TYPE, f"no event type {event.type[:100]!r} is known here")
    return event
