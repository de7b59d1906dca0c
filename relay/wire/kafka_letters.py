"""The dead-letters topic from its beginning to the end that it had when the reading began."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from relay.domain.messages import Incoming
from relay.domain.redrives import Letter, read_letter
from relay.wire.kafka import KafkaAccess, client_arguments, unreachable

WAIT_MS = 500
PATIENCE = 6
"""Fetches in a row that give nothing before what was read is taken as all: some brokers name an end too far away."""
MOST = 500


@dataclass(frozen=True, slots=True)
class LetterBox:
    """One topic of dead letters."""

    access: KafkaAccess
    topic: str

    async def letters(self) -> AsyncIterator[Letter]:
        """Each letter there is now, by partition in their order. Raises Unavailable when no broker answers."""
        began = datetime.now(UTC).timestamp() * 1000
        async with self._reading() as consumer:
            partitions = [TopicPartition(self.topic, each) for each in await self._partitions(consumer)]
            if not partitions:
                return
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            left, empty = {each for each in partitions if ends[each] > 0}, 0
            while left and empty < PATIENCE:
                batches = await consumer.getmany(*left, timeout_ms=WAIT_MS, max_records=MOST)
                empty = 0 if batches else empty + 1
                for records in batches.values():
                    for record in records:
                        if record.timestamp <= began:
                            yield _letter(record)
                left = {each for each in left if await consumer.position(each) < ends[each]}

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[int]:
        await consumer.topics()
        return sorted(consumer.partitions_for_topic(self.topic) or ())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **client_arguments(self.access), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError) as error:
            raise unreachable(self.access, type(error).__name__) from error
        finally:
            await consumer.stop()


def _letter(record: "ConsumerRecord[bytes, bytes]") -> Letter:
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    came = Incoming(record.topic, record.partition, record.offset, record.key, record.value, tuple(record.headers))
    return read_letter(came, at)
