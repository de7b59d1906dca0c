"""Admit: events and results from their topics become deliveries; what nobody can work with goes to the dead letters.

    batch -> read as CloudEvents -> one transaction: deliveries + outbox relayed -> acknowledge the batch

Nothing here waits or sends. The outbox has the body: the topic only says that the broker has told it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from relay import metrics
from relay.domain.catalogue import TYPES
from relay.domain.cloudevents import CloudEvent, read_cloudevent
from relay.domain.messages import BadMessage, Incoming, Message, Reason
from relay.ports import Admissions
from relay.stages.letters import Letters

log = structlog.get_logger()

KNOWN = frozenset(TYPES)


@dataclass
class Admit:
    """The consumer's side of the topics that relay itself writes."""

    store: Admissions
    letters: Letters

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
                letters.append(self.letters.of(message, bad))
        admitted = await self.store.admit(list(good))
        letters += [
            self.letters.of(message, BadMessage(Reason.UNKNOWN_EVENT, "relay did not make this event"))
            for event_id in admitted.unknown
            for message in good[event_id]
        ]
        await self.letters.bury(letters)
        metrics.EVENTS_ADMITTED.inc(admitted.events)
        log.info(
            "events.admitted",
            events=admitted.events,
            deliveries=admitted.deliveries,
            early=admitted.early,
            dead=len(letters),
        )
        return admitted.deliveries


def _read(message: Incoming) -> CloudEvent:
    event = read_cloudevent(message.key, message.value, message.headers)
    if event.type not in KNOWN:
        raise BadMessage(Reason.UNKNOWN_TYPE, f"no event type {event.type[:100]!r} is known here")
    return event
