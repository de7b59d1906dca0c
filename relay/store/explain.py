"""What the tables know about one purchase order: everything that `relay explain` tells, in a handful of statements."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from relay.domain.orders import order_key
from relay.store.database import Database
from relay.store.orders import called
from relay.store.trouble import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

RECENT = 10
"""Events of an order that are told of, the newest."""

CONNECTIONS = "SELECT id FROM connections"
FIND = """
    SELECT connection_id, remote_id FROM snapshots WHERE connection_id = ANY($1::text[]) AND remote_id = $2
    UNION SELECT connection_id, remote_id FROM outbox WHERE connection_id = ANY($1::text[]) AND remote_id = $2
    UNION SELECT connection_id, remote_id FROM outbox
    WHERE connection_id = ANY($1::text[]) AND event_id = $2 AND stream <> 'notices'
    LIMIT 20
"""
# Numbers repeat between connections, and may be any text, one that is an id of relay's, too.
FIND_CALLED = """
    SELECT connection_id, remote_id FROM snapshots WHERE number = $2 AND connection_id = ANY($1::text[])
    UNION SELECT connection_id, remote_id FROM snapshots
    WHERE relay_order_id(connection_id, remote_id) = $3 AND connection_id = ANY($1::text[])
    LIMIT 20
"""
CONNECTION = """
    SELECT id, customer_id, name, connector, state, problem, failures, poll_every, due_at, polled_at, synced_at,
           reconcile_due_at, coalesce(lease_until > now(), false) AS held, now() AS now
    FROM connections WHERE id = $1
"""
SNAPSHOT = """
    SELECT tree, hash, sequence, deleted, missing_passes, first_seen_at, changed_at
    FROM snapshots WHERE connection_id = $1 AND remote_id = $2
"""
ADMITTED = "SELECT sequence FROM admitted WHERE connection_id = $1 AND remote_id = $2"
EVENTS = """
    SELECT position, event_id, stream, state, sequence, type, occurred_at, problem, published_at, publishes, created_at,
           CASE WHEN stream = 'changes' THEN body END AS body
    FROM outbox WHERE connection_id = $1 AND remote_id = $2 ORDER BY position DESC LIMIT $3
"""
ENDPOINTS = """
    SELECT id, customer_id, name, state, problem, event_types, connections, options, url, proof, failing_since,
           suspended_at, created_at, coalesce(lease_until > now(), false) AS held
    FROM endpoints WHERE customer_id = $1 ORDER BY name
"""
DELIVERIES = """
    SELECT id, endpoint_id, position, state, due_at, attempts, last_status, last_error, done_at, replay_id
    FROM deliveries WHERE position = ANY($1::bigint[])
"""
HEADS = """
    SELECT DISTINCT ON (d.endpoint_id) d.id, d.endpoint_id, d.position, d.state, d.due_at, d.attempts, d.last_status,
           d.last_error, d.done_at, d.replay_id, o.sequence
    FROM deliveries AS d JOIN outbox AS o USING (position)
    WHERE d.endpoint_id = ANY($1::text[]) AND d.lane = $2 AND d.state = 'waiting' ORDER BY d.endpoint_id, d.position
"""


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """The connection that an order comes from; `held` when a worker works on it, `now` by the database's clock."""

    id: str
    customer_id: str
    name: str
    connector: str
    state: str
    problem: str | None
    failures: int
    poll_every: timedelta
    due_at: datetime
    polled_at: datetime | None
    synced_at: datetime | None
    reconcile_due_at: datetime
    held: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """The order as it was last told."""

    tree: dict[str, Any]
    hash: str
    sequence: int
    deleted: bool
    missing_passes: int
    first_seen_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One event of the order, or a dead letter about it."""

    position: int
    event_id: str
    stream: str
    state: str
    sequence: int
    type: str
    occurred_at: datetime
    problem: str | None
    published_at: datetime | None
    publishes: int
    created_at: datetime
    caused_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One endpoint of the order's customer."""

    id: str
    customer_id: str
    name: str
    state: str
    problem: str | None
    event_types: list[str]
    connections: list[str]
    options: dict[str, Any]
    url: str
    proof: str
    failing_since: datetime | None
    suspended_at: datetime | None
    created_at: datetime
    held: bool


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """One event on its way to one endpoint; `sequence` is given for heads of lanes."""

    id: str
    endpoint_id: str
    position: int
    state: str
    due_at: datetime | None
    attempts: int
    last_status: int | None
    last_error: str | None
    done_at: datetime | None
    replay_id: str | None
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """All of it. `events` are the newest first; `heads` by endpoint, where anything of the order waits."""

    remote_id: str
    connection: ConnectionFacts
    snapshot: SnapshotFacts | None
    admitted: int
    events: tuple[EventFacts, ...]
    endpoints: tuple[EndpointFacts, ...]
    deliveries: dict[tuple[str, int], DeliveryFacts]
    heads: dict[str, DeliveryFacts]


class ExplainStore:
    """Looks, and changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, order: str, connection_id: str | None) -> list[tuple[str, str]]:
        """(connection, remote id) of the orders with this remote id, number, id in relay, or event; at most 20."""
        if not order or storable(order) != order:
            return []
        async with self._database.session() as session:
            ids = [connection_id] if connection_id else [row["id"] for row in await session.fetch(CONNECTIONS)]
            rows = await session.fetch(FIND, ids, order) or await session.fetch(FIND_CALLED, ids, called(order), order)
        return sorted((row["connection_id"], row["remote_id"]) for row in rows)

    async def facts(self, connection_id: str, remote_id: str) -> OrderFacts | None:
        """What is known of this order; None when its connection was removed meanwhile."""
        async with self._database.session() as session, session.transaction(isolation="repeatable_read", readonly=True):
            connections = await session.fetch(CONNECTION, connection_id)
            if not connections:
                return None
            connection = ConnectionFacts(**connections[0])
            snapshot = await session.fetchrow(SNAPSHOT, connection_id, remote_id)
            events = [_event(row) for row in await session.fetch(EVENTS, connection_id, remote_id, RECENT)]
            endpoints = [EndpointFacts(**row) for row in await session.fetch(ENDPOINTS, connection.customer_id)]
            deliveries = await session.fetch(DELIVERIES, [each.position for each in events])
            lane = order_key(connection_id, remote_id)
            heads = await session.fetch(HEADS, [each.id for each in endpoints], lane)
            admitted = await session.fetchval(ADMITTED, connection_id, remote_id)
        return OrderFacts(
            remote_id=remote_id,
            connection=connection,
            snapshot=None if snapshot is None else _snapshot(snapshot),
            admitted=admitted or 0,
            events=tuple(events),
            endpoints=tuple(endpoints),
            deliveries={(each.endpoint_id, each.position): each for each in _deliveries(deliveries)},
            heads={each.endpoint_id: each for each in _deliveries(heads)},
        )


def _event(row: "asyncpg.Record") -> EventFacts:
    known = dict(row)
    body = known.pop("body")
    return EventFacts(**known, caused_by=_causes(body) if body else ())


def _causes(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(orjson.loads(body)["data"].get("caused_by", ()))
    except orjson.JSONDecodeError:
        return ()  # whatever one event is like, the order is explained


def _snapshot(row: "asyncpg.Record") -> SnapshotFacts:
    return SnapshotFacts(**{**row, "tree": orjson.loads(row["tree"])})


def _deliveries(rows: "Sequence[asyncpg.Record]") -> list[DeliveryFacts]:
    return [DeliveryFacts(**row) for row in rows]
