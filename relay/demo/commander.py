"""Somebody in another system: sends commands to the topic, and waits for what becomes of each.

async with commanding(bootstrap, prefix, connection_id, book) as commander: data = await commander.applied({...})
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from relay.demo.book import Book
from relay.domain.errors import UserError
from relay.domain.results import Outcome

PATIENCE: Final = 60.0
"""Seconds that a command may take."""


class Commander:
    """Sends for one connection."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, connection_id: str, book: Book) -> None:
        self._producer, self._topic, self._connection, self._book = producer, topic, connection_id, book

    async def applied(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send it; the data of its last result, once it was applied. Raises UserError when it was not."""
        command_id = self._book.next_command()
        whole = {"command_id": command_id, "connection_id": self._connection, **command}
        key = f"{self._connection}|{command.get('remote_id', command_id)}"
        await self._producer.send_and_wait(self._topic, orjson.dumps(whole), key=key.encode())
        try:
            async with asyncio.timeout(PATIENCE):
                result = await self._book.result(command_id)
        except TimeoutError:
            raise UserError(f"command {command_id} ({command['type']}) did not end within {PATIENCE:.0f} s") from None
        if result["outcome"] != Outcome.APPLIED:
            reasons = "; ".join(each["message"] for each in result["refusals"])
            raise UserError(f"command {command_id} ({command['type']}) ended as {result['outcome']}: {reasons}")
        return result


@asynccontextmanager
async def commanding(bootstrap: str, prefix: str, connection_id: str, book: Book) -> AsyncIterator[Commander]:
    """A commander, and a reader of results behind it. The worker must have made the topics."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(
        f"{prefix}.purchase-orders.command-results.v1",
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await producer.start()
    await consumer.start()
    reading = asyncio.create_task(_read(consumer, book))
    try:
        yield Commander(producer, f"{prefix}.purchase-orders.commands.v1", connection_id, book)
    finally:
        reading.cancel()
        await consumer.stop()
        await producer.stop()


async def _read(consumer: AIOKafkaConsumer, book: Book) -> None:
    async for record in consumer:
        book.on_result(dict(record.headers)["ce_id"].decode(), orjson.loads(record.value)["data"])
