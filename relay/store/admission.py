"""Admission: events that came back from Kafka become deliveries, each once and in order, numbered per endpoint.

locked orders -> who wants what -> outbox relayed -> locked endpoints -> numbered deliveries, all in one transaction
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from relay.domain.admission import Admitted, NewDelivery, OrderRef, Subscription, Told, asked, contiguous, wanted
from relay.domain.endpoints import Ordering
from relay.domain.errors import UserError
from relay.domain.filters import Condition, parse
from relay.store.database import Database
from relay.store.outbox import mark
from relay.store.trouble import storable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

TOLD = """
    SELECT position, event_id, customer_id, connection_id, remote_id, sequence, type
    FROM outbox WHERE event_id = ANY($1::text[]) AND stream <> 'dead-letters'
"""
TOUCH_ADMITTED = """
    INSERT INTO admitted (connection_id, remote_id, sequence)
    SELECT DISTINCT connection_id, remote_id, 0 FROM unnest($1::text[], $2::text[]) AS row(connection_id, remote_id)
    ORDER BY 1, 2 ON CONFLICT DO NOTHING
"""
LOCK_ADMITTED = """
    SELECT a.connection_id, a.remote_id, a.sequence FROM admitted AS a
    WHERE (a.connection_id, a.remote_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    ORDER BY a.connection_id, a.remote_id FOR UPDATE
"""
SAVE_ADMITTED = """
    UPDATE admitted AS a SET sequence = row.sequence
    FROM unnest($1::text[], $2::text[], $3::int[]) AS row(connection_id, remote_id, sequence)
    WHERE a.connection_id = row.connection_id AND a.remote_id = row.remote_id
"""
SUBSCRIPTIONS = """
    SELECT id, customer_id, event_types, connections, options FROM endpoints WHERE customer_id = ANY($1::text[])
"""
BODIES = "SELECT position, body FROM outbox WHERE position = ANY($1::bigint[])"
BODIES_AT_ONCE = 50
"""Events whose bodies are in memory at the same time; between them, others have their turn."""
# Whoever admits for an endpoint next waits here until these are seen: so a reader who has seen a number has seen all
# before it, too. The endpoint itself comes first, as it does for a person who removes it.
LOCK_NUMBERS = """
    WITH there AS MATERIALIZED (
        SELECT id FROM endpoints WHERE id = ANY($1::text[]) ORDER BY id FOR KEY SHARE
    )
    SELECT 1 FROM endpoint_numbers WHERE endpoint_id IN (SELECT id FROM there) ORDER BY endpoint_id FOR UPDATE
"""
# The lane's head is share-locked: it cannot end between our look and our commit, so whoever ends it later sees what we
# put behind it. Heads are locked in the order of lanes, as the recording of attempts does, and nothing but heads is.
# What is there already takes no number, or the numbers would have a gap.
ADD_DELIVERIES = """
    WITH new AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS row(id, endpoint_id, position, lane)
        WHERE NOT EXISTS (SELECT 1 FROM deliveries AS d
                          WHERE d.endpoint_id = row.endpoint_id AND d.position = row.position)
    ), busy AS MATERIALIZED (
        SELECT lanes.endpoint_id, lanes.lane
        FROM (SELECT DISTINCT endpoint_id, lane FROM new ORDER BY endpoint_id, lane) AS lanes,
             LATERAL (SELECT 1 FROM deliveries AS d
                      WHERE d.endpoint_id = lanes.endpoint_id AND d.lane = lanes.lane AND d.state = 'waiting'
                      ORDER BY d.position LIMIT 1 FOR SHARE) AS head
    ), reached AS (
        UPDATE endpoint_numbers AS n SET last = n.last + more.added
        FROM (SELECT endpoint_id, count(*) AS added FROM new GROUP BY endpoint_id) AS more
        WHERE n.endpoint_id = more.endpoint_id RETURNING n.endpoint_id, n.last - more.added AS last
    )
    INSERT INTO deliveries (id, endpoint_id, position, lane, due_at, number)
    SELECT new.id, new.endpoint_id, new.position, new.lane,
           CASE WHEN busy.lane IS NULL
                 AND row_number() OVER (PARTITION BY new.endpoint_id, new.lane ORDER BY new.position) = 1
                THEN now() END,
           reached.last + row_number() OVER (PARTITION BY new.endpoint_id ORDER BY new.position)
    FROM new JOIN reached USING (endpoint_id) LEFT JOIN busy USING (endpoint_id, lane)
    ON CONFLICT (endpoint_id, position) DO NOTHING
    RETURNING endpoint_id
"""
RELAYED = "UPDATE outbox SET state = 'relayed' WHERE position = ANY($1::bigint[])"
WAKE = "SELECT pg_notify('relay_deliveries', $1)"
WAKE_AT_ONCE = 150
"""Endpoint ids per notification: a payload holds 8,000 bytes."""
ORDERINGS = {each.value: each for each in Ordering}


class AdmitStore:
    """Admission: events that came back from Kafka become deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unread: set[str] = set()
        """Endpoints whose condition cannot be read, as has been said."""

    async def admit(self, event_ids: Sequence[str]) -> Admitted:
        """Insert the deliveries of these events, in order per purchase order, all or nothing.

        An event whose predecessor has not been admitted is left as it is: it is published again, after it.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> Admitted:
            # An id that PostgreSQL cannot even hold is none of ours.
            askable = [event_id for event_id in event_ids if storable(event_id) == event_id]
            told = [Told(**dict(row)) for row in await connection.fetch(TOLD, askable)]
            ready, early, reached = contiguous(told, await _lock(connection, told))
            deliveries = await _wanted(connection, ready, await self._subscriptions(connection, ready))
            await connection.execute(SAVE_ADMITTED, *_refs(reached), list(reached.values()))
            await mark(connection, RELAYED, [event.position for event in ready])
            # Last: until the commit nobody else can admit for these endpoints.
            await _insert(connection, deliveries)
            unknown = set(event_ids) - {event.event_id for event in told}
            return Admitted(len(ready), len(deliveries), len(early), tuple(sorted(unknown)))

        return await self._database.transact(work)

    async def _subscriptions(
        self, connection: "PoolConnectionProxy[asyncpg.Record]", events: Sequence[Told]
    ) -> list[Subscription]:
        rows = await connection.fetch(SUBSCRIPTIONS, list({event.customer_id for event in events}))
        return [
            Subscription(
                row["id"],
                row["customer_id"],
                frozenset(row["event_types"]),
                frozenset(row["connections"]),
                self._condition(row["id"], row["options"].get("where")),
                ORDERINGS.get(row["options"].get("ordering"), Ordering.STRICT),
            )
            for row in rows
        ]

    def _condition(self, endpoint_id: str, text: str | None) -> Condition | None:
        """The endpoint's condition. One that this version cannot read is as none: too much can be passed over."""
        try:
            return parse(text) if text else None
        except UserError as error:
            if endpoint_id not in self._unread:
                self._unread.add(endpoint_id)
                log.warning("filter.ignored", endpoint=endpoint_id, problem=str(error).partition("\n")[0])
            return None


async def _lock(connection: "PoolConnectionProxy[asyncpg.Record]", told: Sequence[Told]) -> dict[OrderRef, int]:
    refs = _refs(event.order for event in told)
    await connection.execute(TOUCH_ADMITTED, *refs)
    rows = await connection.fetch(LOCK_ADMITTED, *refs)
    return {(row["connection_id"], row["remote_id"]): row["sequence"] for row in rows}


def _refs(orders: Iterable[OrderRef]) -> tuple[list[str], list[str]]:
    pairs = list(orders)
    return [connection_id for connection_id, _ in pairs], [remote_id for _, remote_id in pairs]


async def _wanted(
    connection: "PoolConnectionProxy[asyncpg.Record]", ready: Sequence[Told], subscriptions: Sequence[Subscription]
) -> list[NewDelivery]:
    made: list[NewDelivery] = []
    for start in range(0, len(ready), BODIES_AT_ONCE):
        part = ready[start : start + BODIES_AT_ONCE]
        positions = [event.position for event in asked(part, subscriptions)]
        rows = await connection.fetch(BODIES, positions) if positions else []
        made += wanted(part, subscriptions, {row["position"]: row["body"] for row in rows})
    return made


async def _insert(connection: "PoolConnectionProxy[asyncpg.Record]", deliveries: Sequence[NewDelivery]) -> None:
    if not deliveries:
        return
    await connection.execute(LOCK_NUMBERS, sorted({each.endpoint_id for each in deliveries}))
    added = await connection.fetch(
        ADD_DELIVERIES,
        [each.id for each in deliveries],
        [each.endpoint_id for each in deliveries],
        [each.position for each in deliveries],
        [each.lane for each in deliveries],
    )
    woken = sorted({row["endpoint_id"] for row in added})
    for start in range(0, len(woken), WAKE_AT_ONCE):
        await connection.execute(WAKE, ",".join(woken[start : start + WAKE_AT_ONCE]))
