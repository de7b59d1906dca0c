"""Replays of one endpoint, for its runner: events put in line again.

    look (reads only) -> bite: whole orders into their lanes, the first of each lane due, all or nothing

Only the head of a lane is due (ADR 0005). Where an older event comes before the head that was, it becomes the head, and
the other waits behind it: the runner guarantees that it holds neither.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from relay.domain.admission import NewDelivery, Subscription, Told, asked, wanted
from relay.domain.connections import Lease
from relay.domain.deliveries import DeliveryId
from relay.domain.endpoints import Endpoint
from relay.domain.errors import UserError
from relay.domain.filters import Condition, parse
from relay.domain.replays import Criteria, Match, ReplayState, chosen
from relay.ports import Bite, ReplayLook
from relay.store.admission import LOCK_NUMBERS
from relay.store.database import Database, guard

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

LOOK_AHEAD = 500
"""Events looked at for one bite: those of orders that are being sent now are passed over."""

STRETCH = 20_000
"""Positions looked through for that: a long outbox is read a stretch at a time, whatever the planner thinks."""

# $1 endpoint, $2 its customer, after $3 up to $12, the criteria, then the endpoint's own filters for what it never had.
# OFFSET 0 keeps the planner from joining whole tables when it knows no better.
MATCHING = """
    LEFT JOIN LATERAL (
        SELECT * FROM deliveries AS its WHERE its.endpoint_id = $1 AND its.position = o.position OFFSET 0
    ) AS d ON true
    WHERE o.customer_id = $2 AND o.stream <> 'dead-letters' AND o.state = 'relayed' AND o.position > $3
      AND o.position <= $12
      AND ($4::timestamptz IS NULL OR o.occurred_at >= $4) AND ($5::timestamptz IS NULL OR o.occurred_at < $5)
      AND ($6::text IS NULL OR o.remote_id = $6) AND (cardinality($7::text[]) = 0 OR o.type = ANY($7))
      AND ($8::text IS NULL OR o.connection_id = $8) AND coalesce(d.state, 'never') = ANY($9::text[])
      AND (d.id IS NOT NULL OR ((cardinality($10::text[]) = 0 OR o.type = ANY($10))
                                AND (cardinality($11::text[]) = 0 OR o.connection_id = ANY($11))))
"""
# What was cancelled and still waits comes first, then the oldest that runs.
NEXT = """
    SELECT * FROM (
        SELECT r.id, r.state, r.criteria, r.per_second, r.reached, r.until, r.created_at,
               (SELECT count(*) FROM (SELECT 1 FROM deliveries AS d WHERE d.replay_id = r.id AND d.state = 'waiting'
                                      LIMIT $2) AS in_line) AS waiting
        FROM replays AS r WHERE r.endpoint_id = $1 AND r.state IN ('running', 'cancelled')
    ) AS found WHERE state = 'running' OR waiting > 0 ORDER BY state, created_at LIMIT 1
"""
LOOK = f"""
    SELECT o.position, o.connection_id, o.remote_id, coalesce(d.lane, o.connection_id || '|' || o.remote_id) AS lane
    FROM outbox AS o {MATCHING} AND d.replay_id IS DISTINCT FROM $13 ORDER BY o.position LIMIT $14
"""  # noqa: S608 - constants
END = """
    SELECT count(*) AS positions, max(position) AS last
    FROM (SELECT position FROM outbox WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3) AS stretch
"""
LANES = "SELECT DISTINCT lane FROM deliveries WHERE id = ANY($1::text[])"
LOCK_REPLAY = "SELECT 1 FROM replays WHERE id = $1 AND state = 'running' FOR UPDATE"
ROWS = f"""
    SELECT o.position, o.event_id, o.customer_id, o.connection_id, o.remote_id, o.sequence, o.type, d.id AS delivery_id
    FROM unnest($14::text[], $15::text[]) AS these(connection_id, remote_id), LATERAL (
        SELECT * FROM outbox AS its
        WHERE its.connection_id = these.connection_id AND its.remote_id = these.remote_id OFFSET 0
    ) AS o {MATCHING} AND d.replay_id IS DISTINCT FROM $13 ORDER BY o.position
"""  # noqa: S608 - constants
# Locked against being forgotten, before any delivery is: whoever forgets locks in the same order.
KEEP = "SELECT position FROM outbox WHERE position = ANY($1::bigint[]) ORDER BY position FOR KEY SHARE"
BODIES = "SELECT position, body FROM outbox WHERE position = ANY($1::bigint[])"
AGAIN = """
    UPDATE deliveries SET state = 'waiting', replayed_from = state, replay_id = $2, attempts = 0, due_at = NULL,
        done_at = NULL
    WHERE id = ANY($1::text[]) AND state <> 'waiting' RETURNING lane
"""
ADD = """
    WITH reached AS (
        UPDATE endpoint_numbers SET last = last + cardinality($2::text[]) WHERE endpoint_id = $1
        RETURNING last - cardinality($2::text[]) AS last
    )
    INSERT INTO deliveries (id, endpoint_id, position, lane, number, replay_id)
    SELECT new.id, $1, new.position, new.lane, reached.last + row_number() OVER (ORDER BY new.position), $5
    FROM unnest($2::text[], $3::bigint[], $4::text[]) AS new(id, position, lane), reached RETURNING lane
"""
# While the numbers are locked nothing is admitted, and while the lease is, nothing recorded: the lanes stand still.
# What is not as it should be is turned: a first one without a time, and others with one. Lane by lane, because the
# planner's numbers are those of a table where little waits.
HEADS = """
    UPDATE deliveries SET due_at = CASE WHEN due_at IS NULL THEN now() END
    WHERE id = ANY (ARRAY(
        SELECT turned.id FROM unnest($2::text[]) AS row(lane), LATERAL (
            SELECT id, due_at, row_number() OVER (ORDER BY position) = 1 AS first FROM deliveries
            WHERE endpoint_id = $1 AND lane = row.lane AND state = 'waiting'
        ) AS turned
        WHERE turned.first = (turned.due_at IS NULL)
    ))
"""
MOVE = """
    UPDATE replays SET reached = $2, done = done + $3, state = CASE WHEN $4 THEN 'done' ELSE state END,
        ended_at = CASE WHEN $4 THEN now() END
    WHERE id = $1
"""
BACK = """
    UPDATE deliveries AS d
    SET state = coalesce(d.replayed_from, 'dead'), due_at = NULL, done_at = now(),
        last_error = CASE WHEN d.replayed_from IS NULL THEN 'cancelled' ELSE d.last_error END
    WHERE d.replay_id = $1 AND d.state = 'waiting' AND d.lane <> ALL($2::text[]) RETURNING d.lane
"""


class ReplayStore:
    """Replays of an endpoint. Every write names a lease and raises LeaseLost without it."""

    def __init__(self, database: Database, look_ahead: int = LOOK_AHEAD, stretch: int = STRETCH) -> None:
        self._database, self._look_ahead, self._stretch = database, look_ahead, stretch

    async def look(self, endpoint: Endpoint, most_waiting: int) -> ReplayLook | None:
        """What there is to do; None: nothing. Of what waits, `most_waiting` are counted at most."""
        async with self._database.session() as connection:
            row = await connection.fetchrow(NEXT, endpoint.id, most_waiting)
            if row is None:
                return None
            cancelled = row["state"] == ReplayState.CANCELLED
            matches: list[Match] = []
            end, last = row["reached"], False
            if not cancelled and row["waiting"] < most_waiting:
                end, last = await self._end(connection, row["reached"], row["until"])
                values = values_of(endpoint, Criteria.model_validate(row["criteria"]), row["reached"], end)
                rows = await connection.fetch(LOOK, *values, row["id"], self._look_ahead)
                matches = [
                    Match(each["position"], (each["connection_id"], each["remote_id"]), each["lane"]) for each in rows
                ]
        return ReplayLook(
            id=row["id"],
            criteria=Criteria.model_validate(row["criteria"]),
            per_second=row["per_second"],
            reached=row["reached"],
            until=row["until"],
            waiting=row["waiting"],
            cancelled=cancelled,
            matches=tuple(matches),
            end=matches[-1].position if len(matches) == self._look_ahead else end,
            last=last and len(matches) < self._look_ahead,
        )

    async def _end(self, connection: "PoolConnectionProxy[asyncpg.Record]", after: int, until: int) -> tuple[int, bool]:
        """Where the next stretch of the outbox ends, and whether it is the last."""
        (row,) = await connection.fetch(END, after, until, self._stretch)
        return (until, True) if row["positions"] < self._stretch else (row["last"], row["last"] == until)

    async def bite(
        self, lease: Lease, endpoint: Endpoint, look: ReplayLook, held: Collection[DeliveryId], most: int
    ) -> Bite:
        """Put about `most` of what was seen in line, except in lanes of which the runner holds something."""

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> Bite:
            await guard(connection, "endpoints", lease)
            if await connection.fetchval(LOCK_REPLAY, look.id) is None:
                return Bite(0, moved=False, ended=False)
            busy = {row["lane"] for row in await connection.fetch(LANES, list(held))}
            pick = chosen(look.matches, busy=busy, most=most, end=look.end, last=look.last)
            put = 0
            if pick.orders:
                refs = sorted(pick.orders)
                values = values_of(endpoint, look.criteria, look.reached, look.until)
                columns = [each for each, _ in refs], [each for _, each in refs]
                await connection.execute(LOCK_NUMBERS, [endpoint.id])
                rows = await connection.fetch(ROWS, *values, look.id, *columns)
                kept = {row["position"] for row in await connection.fetch(KEEP, [row["position"] for row in rows])}
                put = await _put(connection, endpoint, look.id, [row for row in rows if row["position"] in kept])
            await connection.execute(MOVE, look.id, pick.reached, put, pick.all)
            return Bite(put, moved=pick.reached > look.reached, ended=pick.all)

        return await self._database.transact(work)

    async def take_back(self, lease: Lease, replay_id: str, held: Collection[DeliveryId]) -> int:
        """What a cancelled replay put in line and was not sent becomes what it was; how many.

        Where the runner holds something of the lane it is left for the next time.
        """

        async def work(connection: "PoolConnectionProxy[asyncpg.Record]") -> int:
            await guard(connection, "endpoints", lease)
            await connection.execute(LOCK_NUMBERS, [lease.subject])
            busy = [row["lane"] for row in await connection.fetch(LANES, list(held))]
            lanes = [row["lane"] for row in await connection.fetch(BACK, replay_id, busy)]
            await connection.execute(HEADS, lease.subject, list(set(lanes)))
            return len(lanes)

        return await self._database.transact(work)


async def _put(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    endpoint: Endpoint,
    replay_id: str,
    rows: "Sequence[asyncpg.Record]",
) -> int:
    again = [row["delivery_id"] for row in rows if row["delivery_id"] is not None]
    new = await _new(connection, endpoint, (row for row in rows if row["delivery_id"] is None))
    put = await connection.fetch(AGAIN, again, replay_id)
    if new:
        columns = [each.id for each in new], [each.position for each in new], [each.lane for each in new]
        put += await connection.fetch(ADD, endpoint.id, *columns, replay_id)
    await connection.execute(HEADS, endpoint.id, list({row["lane"] for row in put}))
    return len(put)


async def _new(
    connection: "PoolConnectionProxy[asyncpg.Record]", endpoint: Endpoint, rows: "Iterable[asyncpg.Record]"
) -> list[NewDelivery]:
    """Deliveries of events that the endpoint never had and wants today."""
    told = [Told(**{name: row[name] for name in Told.__slots__}) for row in rows]
    options = endpoint.options
    subscription = Subscription(
        endpoint.id,
        endpoint.customer_id,
        frozenset(endpoint.event_types),
        frozenset(endpoint.connections),
        _condition(options.where),
        options.ordering,
    )
    curious = [each.position for each in asked(told, [subscription])]
    bodies = {row["position"]: row["body"] for row in await connection.fetch(BODIES, curious)} if curious else {}
    return wanted(told, [subscription], bodies)


def _condition(text: str) -> Condition | None:
    """One that this version cannot read is as none: too much can be passed over."""
    with suppress(UserError):
        return parse(text) if text else None
    return None


def values_of(endpoint: Endpoint, criteria: Criteria, after: int, end: int) -> tuple[object, ...]:
    """The values that MATCHING asks for: of positions after `after`, up to `end`."""
    return (
        endpoint.id,
        endpoint.customer_id,
        after,
        criteria.since,
        criteria.until,
        criteria.order,
        list(criteria.event_types),
        criteria.connection,
        list(criteria.statuses),
        list(endpoint.event_types),
        list(endpoint.connections),
        end,
    )
