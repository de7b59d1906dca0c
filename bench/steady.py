"""Latency at a steady rate, with none and with some of the endpoints hanging: what do the others feel of it?

Events come in evenly, each for one endpoint, in transactions of their own with the wake-up that admission gives. Those
that hang have a backlog besides, so that each keeps all the attempts in flight that it may have.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from bench.backlog import Backlog, body, drained, lay, release
from bench.crew import Crew, crew
from bench.delivering import WARM_WITHIN
from bench.latency import Latency
from bench.measured import Measured
from bench.plan import Plan
from bench.stand import CONNECTION, CUSTOMER, Ends, Ground, Stand, ground
from bench.trouble import Lost

ARRIVE = """
    WITH new AS (
        SELECT * FROM unnest($3::text[], $4::text[]) AS row(event_id, endpoint_id)
    ), events AS (
        INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type, occurred_at,
                            body, published_at)
        SELECT event_id, 'changes', 'relayed', $1, $2, event_id, 1, 'purchase_order.changed', now(), $5::bytea, now()
        FROM new RETURNING position, event_id, remote_id
    ), reached AS (
        UPDATE endpoint_numbers AS n SET last = last + 1 FROM new WHERE n.endpoint_id = new.endpoint_id
        RETURNING n.endpoint_id, n.last
    )
    INSERT INTO deliveries (id, endpoint_id, position, lane, due_at, number)
    SELECT 'dlv_' || event_id, endpoint_id, events.position, format('%s/%s', $2::text, events.remote_id), now(),
           reached.last
    FROM new JOIN events USING (event_id) JOIN reached USING (endpoint_id)
"""
WAKE = "SELECT pg_notify('relay_deliveries', $1)"
SHARE = 20
"""One in so many hangs."""
DEADLINE = timedelta(seconds=5)
TICK = 0.01
"""Seconds between two commits."""
SETTLE = 2.0
"""Seconds at the beginning that are not counted."""
ARRIVE_WITHIN = 30.0


async def hanging(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """The same run twice: all endpoints answer, and one in twenty never does."""
    count = plan.some
    for hang in (0, max(1, count // SHARE)):
        ends = Ends(count, plan.at_once, hanging=hang, deadline=DEADLINE)
        async with ground(on, ends) as at, crew(at, 1) as workers:
            late = await _paced(at, workers, plan)
        title = f"latency at {plan.hanging_rate}/s, {hang} of {count} endpoints hang"
        yield Measured("hanging" if hang else "none-hanging", title, late.as_json())


async def _paced(at: Ground, workers: Crew, plan: Plan) -> Latency:
    healthy = at.ends.healthy
    if at.ends.hanging:
        # A backlog for all, which those that answer are soon done with.
        await lay(at, Backlog("b", 2 * at.ends.at_once, 1))
        await release(at)
        await _answered(at, workers, 2 * at.ends.at_once * len(healthy))
    else:
        await drained(at, workers, await lay(at, Backlog("w", 1, 1)), within=WARM_WITHIN)
    await at.stand.sink.taken()
    committed = await _fed(at, plan)
    ids = {event for event, (number, _) in committed.items() if not at.ends.hangs(number)}
    await _answered(at, workers, len(ids))
    times = (await at.stand.sink.taken()).times
    if missing := ids - times.keys():
        raise Lost(f"{len(missing)} of {len(ids)} events did not arrive")
    first = min(when for _, when in committed.values()) + SETTLE
    return Latency(sorted(times[event] - committed[event][1] for event in ids if committed[event][1] >= first))


async def _fed(at: Ground, plan: Plan) -> dict[str, tuple[int, float]]:
    """Events come in; endpoint number and time of commit of each."""
    text = body(2000).replace(b'"@sequence"', b"1")
    committed: dict[str, tuple[int, float]] = {}
    began, number = time.monotonic(), 0
    total = round((plan.seconds + SETTLE) * plan.hanging_rate)
    async with at.database.session() as connection:
        while number < total:
            await asyncio.sleep(max(0.0, began + number / plan.hanging_rate + TICK - time.monotonic()))
            due = min(total, round((time.monotonic() - began) * plan.hanging_rate), number + at.ends.count)
            some = {f"evt_{os.urandom(8).hex()}": each % at.ends.count for each in range(number, due)}
            ends = [at.ends.id(each) for each in some.values()]
            async with connection.transaction():
                await connection.execute(ARRIVE, CUSTOMER, CONNECTION, list(some), ends, text)
                await connection.execute(WAKE, ",".join(ends))
            committed |= {event: (each, time.monotonic()) for event, each in some.items()}
            number = due
    return committed


async def _answered(at: Ground, workers: Crew, goal: int) -> None:
    until = time.monotonic() + ARRIVE_WITHIN
    while await at.stand.sink.count() < goal:
        workers.check()
        if time.monotonic() > until:
            raise Lost(f"{await at.stand.sink.count()} of {goal} deliveries were made in {ARRIVE_WITHIN:.0f} s")
        await asyncio.sleep(TICK)
