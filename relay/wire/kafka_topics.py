"""Topics: made at start with the configuration that the design counts on; those that exist are never changed.

A topic that somebody made before, and differently, is reported (`topic.differs`) and used as it is: partitions cannot
be taken back, and a retention somebody chose is theirs.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from relay.domain.errors import Unavailable, UserError
from relay.wire.kafka import Capabilities, KafkaAccess, Topics, client_arguments, unreachable

MESSAGE_LIMIT = 1024 * 1024
"""Bytes of key, value and headers that one message may have."""
BATCH_LIMIT = MESSAGE_LIMIT + 64 * 1024
"""What the topics take: one message of the limit with what the protocol adds."""

COMPACTION_LAG = timedelta(minutes=1)
TOMBSTONES_KEPT = timedelta(days=7)
"""A consumer of the state topic that was away longer may miss deletes."""
STATE_SEGMENT = timedelta(days=1)
"""Only closed segments are compacted."""

_SAFE_REPLICAS = 3
_POLL = 0.1
_HOPELESS = (
    ClusterAuthorizationFailedError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """One topic as it should be."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


def plans(topics: Topics, *, partitions: int, replication: int, retention: timedelta) -> list[Plan]:
    """Every topic as it should be. Changes, state and commands have equally many partitions: same key, same number."""
    every = {"max.message.bytes": str(BATCH_LIMIT)}
    if replication >= _SAFE_REPLICAS:
        every["min.insync.replicas"] = "2"
    kept = every | {"cleanup.policy": "delete", "retention.ms": _milliseconds(retention)}
    compacted = every | {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": _milliseconds(COMPACTION_LAG),
        "delete.retention.ms": _milliseconds(TOMBSTONES_KEPT),
        "segment.ms": _milliseconds(STATE_SEGMENT),
    }
    configs = {
        topics.changes: kept,
        topics.state: compacted,
        topics.commands: kept,
        topics.command_results: kept,
        topics.dead_letters: kept,
        topics.operations: kept,
    }
    return [Plan(name, partitions, replication, config) for name, config in configs.items()]


async def ensure_topics(  # noqa: PLR0913  two ends and the three figures of the settings
    access: KafkaAccess,
    capabilities: Capabilities,
    topics: Topics,
    *,
    partitions: int,
    replication: int,
    retention: timedelta,
    deadline: float = 30.0,
) -> list[str]:
    """Create the topics that are missing and return their names once every broker's metadata shows them.

    Raises UserError when the brokers will never make one (rights, replication, policy), Unavailable when they do not
    answer or do not show the topics within `deadline` seconds.
    """
    wanted = plans(topics, partitions=partitions, replication=replication, retention=retention)
    admin = AIOKafkaAdminClient(**client_arguments(access), request_timeout_ms=int(deadline * 1000))
    try:
        async with asyncio.timeout(deadline):
            await admin.start()
            return await _ensure(admin, capabilities, wanted)
    except TimeoutError:
        raise unreachable(access, f"topics not ready within {deadline:g} s") from None
    except (KafkaError, OSError) as error:
        raise unreachable(access, error) from error
    finally:
        await admin.close()


async def _ensure(admin: AIOKafkaAdminClient, capabilities: Capabilities, wanted: list[Plan]) -> list[str]:
    there = await _partitions(admin)
    missing = [plan for plan in wanted if plan.name not in there]
    created = await _create(admin, missing) if missing else []
    existing = [plan for plan in wanted if plan.name not in created]
    await _shown(admin, wanted)
    await _compare(admin, capabilities, existing)
    return created


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Topics with a leader for every partition, and how many. Asks for all: asking by name may create a topic."""
    described = await admin.describe_topics()
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if topic["error_code"] == 0 and all(part["error_code"] == 0 for part in topic["partitions"])
    }


async def _create(admin: AIOKafkaAdminClient, missing: list[Plan]) -> list[str]:
    reply = await admin.create_topics(
        [NewTopic(plan.name, plan.partitions, plan.replication, topic_configs=plan.configs) for plan in missing]
    )
    created = []
    for name, code, *told in reply.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:
            raise _not_created(name, error, *told)
    if created:
        log.info("topics.created", topics=created)
    return created


def _not_created(name: str, error: type[KafkaError], told: str | None = None) -> UserError | Unavailable:
    why = f"Kafka did not create topic {name}: {error.__name__}: {told or error.description}"
    if issubclass(error, _HOPELESS):
        return UserError(f"{why} Change RELAY_KAFKA__PARTITIONS or __REPLICATION, grant CREATE, or create it yourself.")
    return Unavailable(why)


async def _shown(admin: AIOKafkaAdminClient, wanted: list[Plan]) -> None:
    names = {plan.name for plan in wanted}
    while not names <= (await _partitions(admin)).keys():  # noqa: ASYNC110  brokers announce nothing, one must ask
        await asyncio.sleep(_POLL)


async def _compare(admin: AIOKafkaAdminClient, capabilities: Capabilities, existing: list[Plan]) -> None:
    """Report each existing topic that is not as planned."""
    there = await _partitions(admin)
    configs = await _configs(admin, existing)
    for plan in existing:
        found = configs.get(plan.name, {})
        differs: dict[str, Any] = {
            name: {"wanted": value, "found": found[name]}
            for name, value in plan.configs.items()
            if name in found and found[name] != value
        }
        if there[plan.name] != plan.partitions:
            differs["partitions"] = {"wanted": plan.partitions, "found": there[plan.name]}
        if differs:
            log.warning(
                "topic.differs", topic=plan.name, differs=differs, partitions_can_grow=capabilities.partitions_can_grow
            )


async def _configs(admin: AIOKafkaAdminClient, existing: list[Plan]) -> dict[str, dict[str, str]]:
    if not existing:
        return {}
    replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, plan.name) for plan in existing])
    # A reply's resource is (code, message, kind, name, entries); an entry starts with its name and value.
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for reply in replies
        for code, _, _, name, entries in reply.resources
        if code == 0
    }


def _milliseconds(time: timedelta) -> str:
    return str(time // timedelta(milliseconds=1))
