"""Publisher: messages into topics, in order per key, and the truth about which of them are safe.

    publish(messages): flight by flight     a flight = at most one batch per partition, all answered before the next

So nothing later can be written to a partition while an earlier batch of it may still fail: what is acknowledged has no
gap before it. After any failure the producer is dropped with all that it holds, and the next flight makes a new one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from relay.domain.errors import Transient, Unavailable
from relay.domain.messages import Message, MessageRefused, Published, Reason
from relay.wire.kafka import Capabilities, KafkaAccess, client_arguments, unreachable
from relay.wire.kafka_producer import DroppableProducer
from relay.wire.kafka_topics import MESSAGE_LIMIT

PER_HEADER = 10
"""Bytes that the protocol adds to a header, at most."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_NEVER = (*_TOO_LARGE, InvalidTimestampError, PolicyViolationError)


@dataclass(slots=True)
class Publisher:
    """Owns one producer. Calls of `publish` may overlap; their flights take turns.

    `deadline` is the seconds that one flight may take, connecting included; `prepare` runs before every connection: it
    may make topics that a broker without a disk has forgotten.
    """

    access: KafkaAccess
    capabilities: Capabilities
    deadline: float = 10.0
    message_limit: int = MESSAGE_LIMIT
    prepare: Callable[[], Awaitable[object]] | None = None
    _producer: DroppableProducer | None = field(default=None, init=False, repr=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def start(self) -> None:
        """Connect. Raises Unavailable within the deadline. Optional: `publish` connects when it has to."""
        try:
            async with self._turn, asyncio.timeout(self.deadline):
                await self._connected()
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    async def stop(self) -> None:
        """Close the connections. Nothing is waiting: `publish` returns only when all is answered."""
        async with self._turn:
            await self._drop()

    async def publish(self, messages: Sequence[Message]) -> Published:
        """Send in the given order; return how many of the first are acknowledged, and why not more.

        Order holds per key. Returns within the deadline of the last progress. The error names what to do: Unavailable,
        try the rest later; MessageRefused, put the message at its `index` aside and publish those after it.
        """
        done, alone_until = 0, 0
        while done < len(messages):
            alone = done < alone_until
            flight = await self._fly(messages, done, alone=alone)
            done = flight.done
            if flight.error is None:
                continue
            if flight.refused_until is None or alone:
                return Published(done, self._error(flight.error, done))
            # The broker refuses a batch without saying for which message: send one by one until past it.
            alone_until = flight.refused_until
        return Published(done)

    async def _fly(self, messages: Sequence[Message], start: int, *, alone: bool) -> "_Landed":
        """One flight from `start` on, landed."""
        try:
            async with asyncio.timeout(self.deadline):
                await self._turn.acquire()
        except TimeoutError as error:
            return _Landed(start, error)
        try:
            return await self._fly_now(messages, start, alone=alone)
        finally:
            self._turn.release()

    async def _fly_now(self, messages: Sequence[Message], start: int, *, alone: bool) -> "_Landed":
        try:
            async with asyncio.timeout(self.deadline):
                producer = await self._connected()
                flight = await _boarded(producer, messages, start, limit=self.message_limit, alone=alone)
                landed = await _landed(flight)
        except (KafkaError, OSError, TimeoutError, Transient) as error:
            await self._drop()
            return _Landed(start, error)
        except BaseException:
            # Cancelled: what was sent may still arrive, and nobody would know.
            await self._drop()
            raise
        if landed.error is not None and not isinstance(landed.error, MessageRefused):
            await self._drop()
        return landed

    async def _connected(self) -> DroppableProducer:
        if self._producer is None:
            if self.prepare is not None:
                await self.prepare()
            producer = DroppableProducer(
                client_arguments(self.access),
                idempotent=self.capabilities.idempotent_producer,
                request_timeout=self.deadline * 0.9,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.drop()
                raise
            self._producer = producer
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.drop()

    def _error(self, error: Exception, index: int) -> Transient | MessageRefused:
        if isinstance(error, Transient | MessageRefused):
            return error
        if isinstance(error, _TOO_LARGE):
            return MessageRefused(Reason.TOO_LARGE, index, "the topic takes no message as large as this one")
        if isinstance(error, _NEVER):
            return MessageRefused(Reason.REFUSED_BY_BROKER, index, f"the broker refuses it: {type(error).__name__}")
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> Unavailable:
        if isinstance(error, TimeoutError):
            return unreachable(self.access, f"not acknowledged within {self.deadline:g} s")
        if isinstance(error, UnknownTopicOrPartitionError):
            return Unavailable(
                f"Kafka at {self.access.bootstrap} has no topic {error.args[0]}: it must be created first"
            )
        return unreachable(self.access, f"{type(error).__name__}: {error}")


@dataclass(slots=True)
class _Batch:
    """Messages of one partition in one flight."""

    builder: Any
    indexes: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Flight:
    start: int
    producer: DroppableProducer
    batches: dict[tuple[str, int], _Batch] = field(default_factory=dict)
    count: int = 0
    refused: MessageRefused | None = None
    """Why the first message cannot even board."""


@dataclass(frozen=True, slots=True)
class _Landed:
    """`done` messages of the whole sequence are acknowledged without a gap.

    `refused_until` is set when the broker will never take the batch of message `done`: the index after its last one.
    """

    done: int
    error: Exception | None = None
    refused_until: int | None = None


async def _boarded(
    producer: DroppableProducer, messages: Sequence[Message], start: int, *, limit: int, alone: bool
) -> _Flight:
    """As many of the messages from `start` on as fit into one batch per partition, in order."""
    flight = _Flight(start, producer)
    for index in range(start, start + 1 if alone else len(messages)):
        message = messages[index]
        if (size := _size(message)) > limit:
            if not flight.count:
                text = f"the message has {size} bytes with its headers; topic {message.topic} takes {limit}"
                flight.refused = MessageRefused(Reason.TOO_LARGE, index, text)
            break
        place = (message.topic, await producer.partition(message.topic, message.key))
        if (batch := flight.batches.get(place)) is None:
            batch = flight.batches[place] = _Batch(producer.create_batch())
        added = batch.builder.append(
            timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
        )
        if added is None:
            break
        batch.indexes.append(index)
        flight.count += 1
    return flight


async def _landed(flight: _Flight) -> _Landed:
    if flight.refused is not None:
        return _Landed(flight.start, flight.refused)
    futures = []
    for (topic, partition), batch in flight.batches.items():
        batch.builder.close()
        futures.append(await flight.producer.send_batch(batch.builder, topic, partition=partition))
    results = await asyncio.gather(*futures, return_exceptions=True)
    failed = [(batch, error) for batch, error in zip(flight.batches.values(), results, strict=True) if _bad(error)]
    if not failed:
        return _Landed(flight.start + flight.count)
    batch, error = min(failed, key=lambda each: each[0].indexes[0])
    assert isinstance(error, Exception)
    return _Landed(batch.indexes[0], error, batch.indexes[-1] + 1 if isinstance(error, _NEVER) else None)


def _bad(result: object) -> bool:
    if isinstance(result, BaseException) and not isinstance(result, Exception):
        raise result
    return isinstance(result, Exception)


def _size(message: Message) -> int:
    headers = sum(len(name) * 4 + len(value or b"") + PER_HEADER for name, value in message.headers)
    return len(message.key) + len(message.value or b"") + headers
