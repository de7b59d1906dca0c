"""Dead letters: the headers that say where a message came from and why nobody could work with it.

The original headers stay byte for byte and come first; the key and the value are copied as they are. Beside ours stand
the names of Kafka Connect, so that tools made for its dead letter queues understand ours.
"""

from relay.domain.messages import Headers, Reason, without_secrets

CONNECT = "__connect.errors."


def dead_letter_headers(  # noqa: PLR0913  each is one fact of the letter
    original: Headers, *, reason: Reason, detail: str, topic: str, partition: int, offset: int
) -> tuple[tuple[str, bytes | None], ...]:
    """The original headers followed by reason, detail and origin.

    `topic`, `partition` and `offset` say where the message was read; -1 for both numbers when it never was in a topic.
    `detail` is masked and cut by `without_secrets`.
    """
    told = without_secrets(detail)
    ours = {
        "relay-reason": reason.value,
        "relay-detail": told,
        "relay-original-topic": topic,
        "relay-original-partition": str(partition),
        "relay-original-offset": str(offset),
        CONNECT + "topic": topic,
        CONNECT + "partition": str(partition),
        CONNECT + "offset": str(offset),
        CONNECT + "connector.name": "relay",
        CONNECT + "task.id": "0",
        CONNECT + "stage": "VALUE_CONVERTER",
        CONNECT + "class.name": "relay",
        CONNECT + "exception.class.name": reason.value,
        CONNECT + "exception.message": told,
    }
    return (*original, *((name, value.encode()) for name, value in ours.items()))
