"""Letters: messages that nobody can work with go to the dead-letters topic as they came, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from relay import metrics
from relay.domain.dead_letters import dead_letter_headers
from relay.domain.errors import Transient, Unavailable
from relay.domain.messages import BadMessage, Incoming, Message, MessageRefused
from relay.ports import Publishing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Letters:
    """The dead letters of one consumer."""

    publisher: Publishing
    topic: str

    def of(self, message: Incoming, bad: BadMessage) -> Message:
        """The letter for `message`."""
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
        return Message(self.topic, message.key or b"", message.value, headers)

    async def bury(self, letters: Sequence[Message]) -> None:
        """Publish them. Raises Unavailable when the broker is not there."""
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
        metrics.DEAD_LETTERS.inc(len(letters))
