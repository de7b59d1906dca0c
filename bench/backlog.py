"""Deliveries that wait, made in the database as admission would leave them; and the clock on their going.

    laid (nobody sees them: none is due) -> released (heads are due, workers are told) -> drained

In pairs of statements, so that the laying, its ANALYZE and its CHECKPOINT are over when the clock starts.
"""

import asyncio
import time
from dataclasses import dataclass

import orjson

from bench.clock import Spent
from bench.crew import Crew
from bench.erp import order
from bench.stand import CONNECTION, CUSTOMER, Ground
from bench.trouble import Lost

EVENTS = """
    INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type, occurred_at,
                        body, published_at)
    SELECT format('evt_%s%s_%s', $3::text, o, s), 'changes', 'relayed', $1, $2, format('%s%s', $3::text, o), s,
           'purchase_order.changed', now(),
           convert_to(replace(replace($6::text, '@order', format('%s%s', $3::text, o)), '"@sequence"', s::text),
                      'UTF8'),
           now()
    FROM generate_series(1, $4::int) AS o, generate_series(1, $5::int) AS s ORDER BY s, o
"""
DELIVERIES = """
    INSERT INTO deliveries (id, endpoint_id, position, lane, number)
    SELECT format('dlv_%s_%s', e.endpoint_id, o.position), e.endpoint_id, o.position,
           format('%s/%s', o.connection_id, o.remote_id),
           e.last + row_number() OVER (PARTITION BY e.endpoint_id ORDER BY o.position)
    FROM outbox AS o, endpoint_numbers AS e WHERE o.event_id LIKE $1 ORDER BY o.position, e.endpoint_id
"""
NUMBERED = """
    UPDATE endpoint_numbers AS n SET last = reached.number
    FROM (SELECT endpoint_id, max(number) AS number FROM deliveries GROUP BY endpoint_id) AS reached
    WHERE reached.endpoint_id = n.endpoint_id
"""
RELEASE = """
    UPDATE deliveries SET due_at = now()
    WHERE id IN (SELECT DISTINCT ON (endpoint_id, lane) id FROM deliveries WHERE state = 'waiting'
                 ORDER BY endpoint_id, lane, position)
"""
WAKE = "SELECT pg_notify('relay_deliveries', string_agg(id, ',')) FROM endpoints GROUP BY hashtext(id) % $1"
WOKEN_AT_ONCE = 150
WAITING = "SELECT EXISTS (SELECT FROM deliveries WHERE state = 'waiting')"
LOOK = 0.01
"""Seconds between two looks at the clock's end."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """So many orders with so many events each, for every endpoint; `name` keeps them apart from others."""

    name: str
    orders: int
    per_order: int
    size: int = 2000


def body(size: int) -> bytes:
    """An event of about `size` bytes, with @order and @sequence where they come."""
    whole = orjson.loads(order(1).model_dump_json())
    [line] = whole["lines"]
    data = {"order_id": "@order", "sequence": "@sequence", "order": whole, "note": ""}
    event = {"id": "@order", "type": "purchase_order.changed", "data": data}
    while len(orjson.dumps(event)) + len(orjson.dumps(line)) < size:
        whole["lines"].append({**line, "remote_id": f"{len(whole['lines']) + 1:04}"})
    data["note"] = "-" * max(0, size - len(orjson.dumps(event)))
    return orjson.dumps(event)


async def lay(at: Ground, backlog: Backlog) -> int:
    """Put these into outbox and deliveries, none of them due; how many deliveries they are."""
    text = body(backlog.size).decode()
    async with at.database.session() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            *(EVENTS, CUSTOMER, CONNECTION, backlog.name, backlog.orders, backlog.per_order, text), timeout=None
        )
        await connection.execute(DELIVERIES, f"evt_{backlog.name}%", timeout=3600)
        await connection.execute(NUMBERED, timeout=3600)
        for statement in ("ANALYZE", "CHECKPOINT"):
            await connection.execute(statement, timeout=3600)
    return backlog.orders * backlog.per_order * at.ends.count


async def release(at: Ground) -> None:
    """Make each lane's head due, and tell the workers, in one transaction."""
    async with at.database.session() as connection, connection.transaction():
        await connection.execute(RELEASE, timeout=3600)
        await connection.execute(WAKE, -(-at.ends.count // WOKEN_AT_ONCE))


async def drained(at: Ground, crew: Crew, goal: int, *, within: float) -> Spent:
    """Release, and wait until all are recorded; then see how they came."""
    spent = Spent(goal, crew.whose())
    await release(at)
    spent.start()
    await recorded(at, crew, goal, within=within)
    spent.stop()
    spent.again = await arrived(at, goal)
    return spent


async def recorded(at: Ground, crew: Crew, goal: int, *, within: float) -> None:
    """Return when so many have been answered since the last look, and none waits."""
    until = time.monotonic() + within
    while await at.stand.sink.count() < goal or await _waiting(at):
        crew.check()
        if time.monotonic() > until:
            raise Lost(f"{await at.stand.sink.count()} of {goal} deliveries were made in {within:.0f} s")
        await asyncio.sleep(LOOK)


async def arrived(at: Ground, goal: int) -> int:
    """See that all came, verified and in order; how many came again, as those do whose record was lost."""
    taken = await at.stand.sink.taken()
    if (taken.unique, taken.unverified, taken.out_of_order) != (goal, 0, 0):
        raise Lost(
            f"{goal} deliveries were to arrive, verified and in order; there came {taken.requests} requests "
            f"for {taken.unique}, {taken.unverified} unverified, {taken.out_of_order} out of order"
        )
    return taken.requests - taken.unique


async def _waiting(at: Ground) -> bool:
    async with at.database.session() as connection:
        return bool(await connection.fetchval(WAITING))
