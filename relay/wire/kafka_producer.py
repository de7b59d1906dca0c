"""aiokafka's producer, made droppable: what it still holds after a failure must never be written.

Its own `stop` first delivers what is waiting. After a failure that would write old messages behind newer ones, or, with
an idempotent producer, wait for ever. This reaches into aiokafka 0.14, which the project pins.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.sender import Sender

BATCH_SIZE = 131_072
RETRY_BACKOFF_MS = 250


class DroppableProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka ships no types
    """A producer with acks=all and lz4 that can be dropped with all it holds."""

    def __init__(self, access: dict[str, Any], *, idempotent: bool, request_timeout: float) -> None:
        super().__init__(
            **access,
            acks="all",
            enable_idempotence=idempotent,
            compression_type="lz4",
            max_batch_size=BATCH_SIZE,
            request_timeout_ms=int(request_timeout * 1000),
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        self._sender = _Sender(
            self.client,
            acks=-1,
            txn_manager=self._txn_manager,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            message_accumulator=self._message_accumulator,
            request_timeout_ms=self._request_timeout_ms,
        )
        self._by_key = DefaultPartitioner()
        # Less than a request may take, so that a missing topic is told from a missing broker.
        self._metadata_timeout = request_timeout / 2

    async def partition(self, topic: str, key: bytes) -> int:
        """The partition of a key, as every Kafka client computes it.

        Raises UnknownTopicOrPartitionError with the topic's name when the brokers do not show it in time.
        """
        partitions = self.client.cluster.partitions_for_topic(topic)
        if partitions is None:
            try:
                async with asyncio.timeout(self._metadata_timeout):
                    partitions = await self.partitions_for(topic)
            except (TimeoutError, UnknownTopicOrPartitionError):
                raise UnknownTopicOrPartitionError(topic) from None
        partitions = sorted(partitions)
        number: int = self._by_key(key, partitions, partitions)
        return number

    async def drop(self) -> None:
        """Cancel what is being sent, forget what waits, cut the connections."""
        self._closed = True
        tasks = [*self._sender.requests]
        if self._sender.sender_task is not None:
            tasks.append(self._sender.sender_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self.client._conns.values():  # noqa: SLF001  closing would wait for a broker that hangs
            if connection._writer is not None:  # noqa: SLF001  same
                connection._writer.transport.abort()  # noqa: SLF001  same
        await self.client.close()


class _Sender(Sender):  # type: ignore[misc]  # aiokafka ships no types
    """aiokafka's sender that knows its requests in flight, so that they can be cancelled."""

    def __init__(self, client: Any, **arguments: Any) -> None:
        super().__init__(client, **arguments)
        self.requests: set[asyncio.Task[Any]] = set()

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        task = asyncio.current_task()
        assert task
        self.requests.add(task)
        try:
            await super()._send_produce_req(node_id, batches)
        finally:
            self.requests.discard(task)
