"""Dead letters: the headers that say where a message came from and why nobody could work with it.

The original headers stay byte for byte and come first; the key and the value are copied as they are. Beside ours stand
the names of Kafka Connect, so that tools made for its dead letter queues understand ours.
"""

import base64

import orjson

from relay.domain.messages import Headers, Incoming, Reason, without_secrets

CONNECT = "__connect.errors."
OURS = (
    *("relay-reason", "relay-detail", "relay-original-topic", "relay-original-partition", "relay-original-offset"),
    *(CONNECT + each for each in ("topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name")),
    *(CONNECT + each for each in ("exception.class.name", "exception.message")),
)
"""The names of our headers, which stand behind the original ones."""


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


def origin_of(message: Incoming) -> bytes:
    """All of a message but its value, as one text that the store can hold: see `original`."""
    return orjson.dumps(
        [
            message.topic,
            message.partition,
            message.offset,
            _kept(message.key),
            [[name.encode(errors="surrogateescape").hex(), _kept(value)] for name, value in message.headers],
        ]
    )


def original(origin: bytes, value: bytes) -> Incoming:
    """The message again, byte for byte."""
    topic, partition, offset, key, headers = orjson.loads(origin)
    return Incoming(
        topic,
        partition,
        offset,
        _given(key),
        value,
        tuple((bytes.fromhex(name).decode(errors="surrogateescape"), _given(each)) for name, each in headers),
    )


def _kept(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _given(kept: str | None) -> bytes | None:
    return None if kept is None else base64.b64decode(kept)
