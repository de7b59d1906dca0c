"""Streams: the topics as FastStream knows them. Subscribers admit and acknowledge; they never wait or send.

    changes and results topics -> batch of raw messages -> Admit -> acknowledged as a whole, or read again
    commands topic -> batch of raw messages -> TakeCommands -> the same

The publishers declared here are the topics' documentation (AsyncAPI); what is published goes through the outbox.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from aiokafka.errors import KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.prometheus import KafkaPrometheusMiddleware
from faststream.specification import AsyncAPI
from prometheus_client import REGISTRY

from relay import __version__
from relay.domain.commands import Command
from relay.domain.errors import Transient
from relay.domain.events import ChangeEvent
from relay.domain.messages import Incoming
from relay.domain.notices import NoticeEvent
from relay.domain.orders import OrderDocument
from relay.domain.results import CommandResult
from relay.wire.kafka import Capabilities, KafkaAccess, Topics, security

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

log = structlog.get_logger()

MOST = 500
WAIT_MS = 20
"""Batches of up to 500 that wait at most 20 ms measured best, and embedded brokers answer fetches no faster."""
PAUSE = 1.0
"""Seconds before a batch is read again that the store or the broker could not take."""


class Taking(Protocol):
    """A stage that takes what a topic holds, batch by batch."""

    async def run_once(self, batch: Sequence[Incoming]) -> int:
        """Take one batch; how much came of it. Raises Transient when it must come again."""
        ...


def consuming(  # noqa: PLR0913 - what is consumed, and by whom
    access: KafkaAccess,
    capabilities: Capabilities,
    topics: Topics,
    admit: Taking,
    commands: Taking | None = None,
    *,
    pause: float = PAUSE,
) -> KafkaBroker:
    """The consumer side, ready to start. `pause` is the seconds before a deferred batch is read again."""
    broker = _broker(access)
    broker.add_middleware(KafkaPrometheusMiddleware(registry=REGISTRY))
    session = capabilities.session_timeout_ms

    def subscribe(stage: Taking, group: str, *names: str) -> None:
        subscriber = broker.subscriber(
            *names,
            batch=True,
            group_id=f"{topics.prefix}.{group}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            max_records=MOST,
            batch_timeout_ms=WAIT_MS,
            fetch_max_wait_ms=WAIT_MS,
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 5,
            rebalance_timeout_ms=max(session, 15_000),
            parser=_unread,
            decoder=_raw,
        )
        subscriber(partial(_take, stage, pause))

    subscribe(admit, "admit", topics.changes, topics.command_results)
    if commands is not None:
        subscribe(commands, "commands", topics.commands)
    return broker


async def begin(consumer: KafkaBroker) -> None:
    """Start to consume; returns when every group has let it in. Raises KafkaError."""
    await consumer.connect()
    # Side by side: brokers without the full protocol make each member wait.
    await asyncio.gather(*(subscriber.start() for subscriber in consumer.subscribers))


async def _take(stage: Taking, pause: float, message: KafkaMessage) -> None:
    try:
        await stage.run_once(_incoming(message.raw_message))
    except Transient as error:
        log.warning("events.deferred", problem=str(error))
        await _again(message, pause)
    except Exception:
        # FastStream would drop it without a word, and the next batch would be acknowledged past it.
        log.exception("admission.died")
        await _again(message, pause)
    else:
        await _acknowledge(message)


def documented(topics: Topics) -> FastStream:
    """The application as AsyncAPI sees it: what relay publishes. Nothing is connected."""
    broker = KafkaBroker("localhost:9092", description="Any Kafka 3.x or 4.x, or the embedded broker.")
    broker.publisher(
        topics.changes,
        schema=ChangeEvent,
        title="Change events",
        description="One event per purchase order and poll, CloudEvents binary mode, key `connection|remote_id`, "
        "`sequence` without gaps per order. At least once: a repeat has the same `ce_id`.",
    )
    broker.publisher(
        topics.state,
        schema=OrderDocument,
        title="Order state",
        description="The last state of every order, compacted; a tombstone when it is deleted. Same key.",
    )
    broker.publisher(
        topics.command_results,
        schema=CommandResult,
        title="Command results",
        description="What became of commands, CloudEvents binary mode: `accepted`, then one end; what is refused as it "
        "comes in has only that. Key: `connection|remote_id` of the order, for a new one `connection|command_id`. At "
        "least once: a repeat has the same `ce_id`.",
    )
    broker.publisher(
        topics.dead_letters,
        schema=bytes,
        title="Dead letters",
        description="Original bytes and headers of what nobody could work with; `relay-reason` says why.",
    )
    broker.publisher(
        topics.operations,
        schema=NoticeEvent,
        title="Operational notices",
        description="What operators must know of endpoints and connections, CloudEvents binary mode, key: the id of "
        "the endpoint or connection. At least once: a repeat has the same `ce_id`.",
    )

    @broker.subscriber(
        topics.commands,
        title="Commands",
        description="What is to be written to an ERP: CloudEvents of type `purchase_order.command.` and the command's "
        "type, or the command as JSON by itself. Key: as that of its results.",
    )
    async def _commands(command: Command) -> None: ...

    specification = AsyncAPI(
        title="relay",
        version=__version__,
        description="Purchase order changes out of ERPs.",
        schema_version="3.0.0",
    )
    return FastStream(broker, specification=specification)


def _broker(access: KafkaAccess) -> KafkaBroker:
    return KafkaBroker(access.bootstrap.split(","), client_id=access.client_id, security=security(access), logger=None)


async def _acknowledge(message: KafkaMessage) -> None:
    try:
        await message.ack()
    except KafkaError as error:
        # Another member has the partition now and reads the batch again: admitting twice changes nothing.
        log.warning("events.unacknowledged", problem=type(error).__name__)


async def _again(message: KafkaMessage, pause: float) -> None:
    # Without the pause the same batch would be read again at once, and again.
    await asyncio.sleep(pause)
    try:
        await message.nack()
    except KafkaError as error:
        log.warning("events.unacknowledged", problem=type(error).__name__)


async def _unread(records: Any, parse: Callable[[Any], Awaitable[Any]]) -> Any:
    """The batch with its headers left out of FastStream's sight: it drops a batch with one that is not UTF-8 text."""
    message = await parse(tuple(replace(record, headers=()) for record in records))
    message.raw_message = records
    return message


async def _raw(message: Any) -> Any:
    """Bytes as they came: the stage reads them, and keeps them should they be unreadable."""
    return message.body


def _incoming(records: "ConsumerRecord[bytes, bytes] | Sequence[ConsumerRecord[bytes, bytes]]") -> list[Incoming]:
    some = records if isinstance(records, Sequence) else [records]
    return [
        Incoming(each.topic, each.partition, each.offset, each.key, each.value, tuple(each.headers)) for each in some
    ]
