"""Bookkeeping: what thousands of connections and endpoints cost one worker that have next to nothing to do.

A simulated Protheus without orders, in a process of its own, answers the polls. They are spread over their interval, as
they are after some time: what is measured is going on, not the start of ten thousand first syncs.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.backlog import WAITING, Backlog, drained, lay
from bench.clock import Spent
from bench.crew import PROGRAM, Crew, crew
from bench.delivering import DRAIN_WITHIN
from bench.measured import Figures, Measured
from bench.plan import Plan
from bench.stand import CUSTOMER, Ends, Ground, Stand, copy_of, ground, inserted
from bench.trouble import Lost
from relay.domain.connections import Connection, ConnectionId
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.rotation import LiveSecret, written
from relay.store.registry import Registry
from relay.vault.vault import Place, Purpose

TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
POLLED = "SELECT count(*) FROM connections WHERE polled_at > now() - $1::interval"
HELD = "SELECT count(*) FROM connections WHERE lease_until > now()"
SPREAD = """
    UPDATE connections SET synced_at = now(), due_at = now() + random() * poll_every,
        reconcile_due_at = now() + interval '1 day', compare_due_at = now() + interval '7 days'
"""
IS_HELD = "SELECT coalesce(lease_until > now(), false) FROM endpoints WHERE id = $1"
POLL_EVERY = timedelta(minutes=5)
HELD_WITHIN, START_WITHIN, SETTLE = 120.0, 30.0, 5.0
"""Seconds: until all are held, until the ERP answers, until what a start leaves behind is done."""
CLAIMS = 20
LOOK = 0.005


@dataclass(frozen=True, slots=True)
class Erp:
    """A simulated Protheus: what a connection to it is made of."""

    settings: dict[str, Any]
    credentials: bytes


async def bookkeeping(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """One of each, then many of each."""
    base: Figures = {}
    async with _protheus(on.folder) as erp:
        for count in (1, plan.kept):
            async with ground(on, Ends(count, plan.at_once)) as at:
                await _connect(at, erp, count)
                began = time.monotonic()
                async with crew(at, 1) as workers:
                    await _all_held(at, workers, count)
                    figures = await _looked_at(at, workers, plan, time.monotonic() - began)
            base = base or figures
            added = (figures["resident_mb"] - base["resident_mb"]) / max(1, count - 1) * 1e3
            figures["kb_per_pair"] = round(added, 1) if count > 1 else 0.0
            title = f"bookkeeping: {count:,} connection{'s' if count > 1 else ''} and as many endpoints"
            yield Measured(f"bookkeeping-{count}", title, figures)


@asynccontextmanager
async def _protheus(folder: Path) -> AsyncIterator[Erp]:
    command = (sys.executable, "-c", PROGRAM, "simulate", "protheus", "--orders", "0", "--json", "--data", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_WITHIN):
            text = ""
            while not text.endswith("\n}\n"):
                text += (await process.stdout.readline()).decode()
        told = json.loads(text)
        yield Erp(told["settings"], await asyncio.to_thread(Path(told["credentials_file"]).read_bytes))
    finally:
        process.terminate()
        await process.wait()


async def _connect(at: Ground, erp: Erp, count: int) -> None:
    vault = at.stand.vault(at.database)
    ids = [ConnectionId(f"con_{number:06}") for number in range(count)]
    rows = [(each, each, await vault.seal(Place(CUSTOMER, each, Purpose.CREDENTIALS), erp.credentials)) for each in ids]
    first, name, sealed = rows[0]
    await Registry(at.database).add_connection(
        Connection(first, CUSTOMER, name, "protheus", erp.settings, sealed=sealed, poll_every=POLL_EVERY)
    )
    async with at.database.session() as connection:
        statement = await copy_of(connection, "connections", {"id": "text", "name": "text", "sealed": "bytea"})
        await inserted(connection, statement, first, rows[1:])
        await connection.execute(SPREAD)


async def _all_held(at: Ground, workers: Crew, count: int) -> None:
    until = time.monotonic() + HELD_WITHIN
    # The bench's own connection, which no worker can poll, is held as well.
    while await _value(at, HELD) <= count:
        workers.check()
        if time.monotonic() > until:
            raise Lost("the worker does not come to hold all connections")
        await asyncio.sleep(0.05)


async def _looked_at(at: Ground, workers: Crew, plan: Plan, held: float) -> Figures:
    spent = await drained(at, workers, await lay(at, Backlog("w", 1, 1)), within=DRAIN_WITHIN)
    claims = [await _claimed(at, number) for number in range(CLAIMS)]
    await asyncio.sleep(min(SETTLE, plan.idle_seconds))
    watch, first = Spent(1, workers.whose()), await _value(at, TRANSACTIONS)
    watch.start()
    await asyncio.sleep(plan.idle_seconds)
    watch.stop()
    polls = await _value(at, POLLED, timedelta(seconds=watch.seconds))
    last = await _value(at, TRANSACTIONS)
    return {
        "held_after_seconds": round(held, 2),
        "first_deliveries_seconds": round(spent.seconds, 2),
        "claim_ms": round(sorted(claims)[CLAIMS // 2] * 1e3, 1),
        "claim_max_ms": round(max(claims) * 1e3, 1),
        "resident_mb": round(workers.resident() / 1e6, 1),
        "polls_per_second": round(polls / watch.seconds, 1),
        "transactions_per_second": round((last - first) / watch.seconds, 1),
        "cpu_percent": round(watch.cpu["cpu"] / watch.seconds * 100, 1),
        "postgres_cpu_percent": round(watch.cpu["postgres"] / watch.seconds * 100, 1),
    }


async def _claimed(at: Ground, number: int) -> float:
    """Seconds from when a new endpoint is stored until it is held."""
    subject = EndpointId(f"end_new_{number}")
    place = Place(CUSTOMER, subject, Purpose.SIGNING_SECRET)
    sealed = await at.stand.vault(at.database).seal(place, written([LiveSecret(at.stand.sink.secret)]))
    await Registry(at.database).add_endpoint(
        Endpoint(subject, CUSTOMER, f"new{number}", at.stand.sink.url, sealed=sealed)
    )
    began = time.monotonic()
    while not await _value(at, IS_HELD, subject):
        if time.monotonic() - began > HELD_WITHIN:
            raise Lost(f"{subject} is not claimed")
        await asyncio.sleep(LOOK)
    return time.monotonic() - began


async def _value(at: Ground, statement: str, *values: Any) -> int:
    async with at.database.session() as connection:
        await connection.fetchval(WAITING)
        return int(await connection.fetchval(statement, *values))
