"""Commands: how many a worker carries into one ERP, and what becomes of reading meanwhile.

A simulated Protheus in this process takes new orders over HTTP, each answer after so long. A command is looked for, its
codes are looked up, it is written, and its order is read back. Beside them people change other orders, so many a
second: what a change takes until it is told is measured with commands and without.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from bench.clock import Spent
from bench.crew import Crew, crew
from bench.latency import Latency
from bench.measured import Figures, Measured
from bench.plan import Plan
from bench.stand import CUSTOMER, Ends, Ground, Stand, ground
from bench.trouble import Lost
from relay.demo.protheus_http import Options, SimulatedProtheus, simulated_protheus
from relay.demo.protheus_rows import OrderKey
from relay.domain.connections import Connection, ConnectionId
from relay.domain.schedules import Schedule
from relay.store.registry import Registry
from relay.vault.vault import Place, Purpose
from relay.wire.kafka import Topics

ERP = ConnectionId("con_erp")
WRITING = {"shape": "eai", "columns": {"C7_OBS": {"length": 60}}}
AT_ONCE = 4
"""Calls at once: what a Protheus stands."""
FAST = Schedule(calls_per_second=1000, calls_at_once=AT_ONCE)
POLL_EVERY = timedelta(milliseconds=500)
ORDERS, FEW = 100, 5
WITHIN = 300.0
"""Seconds until all is done that a measurement waits for."""
LOOK = 0.02
SYNCED = "SELECT count(*) FROM connections WHERE id = $1 AND synced_at IS NOT NULL"
ENDED = "SELECT count(*) FROM commands WHERE state = 'done'"
APPLIED = "SELECT count(*) FROM commands WHERE outcome = 'applied'"
TOLD = """
    SELECT created_at FROM outbox
    WHERE connection_id = $1 AND remote_id = $2 AND stream = 'changes' AND sequence > 1
"""


@dataclass
class _People:
    """They change orders one after the other; each change is a number that is told once."""

    at: Ground
    erp: SimulatedProtheus
    seconds: list[float] = field(default_factory=list)
    _quantity: int = 1000

    async def work(self, per_second: float) -> None:
        orders = self.erp.purchase_orders(deleted=False)
        async with asyncio.TaskGroup() as tasks:
            for number in range(1_000_000):
                tasks.create_task(self._change(orders[number % len(orders)]))
                await asyncio.sleep(1 / per_second)

    async def _change(self, order: OrderKey) -> None:
        self._quantity += 1
        began, remote_id = datetime.now(UTC), f"{order.branch.rstrip()}|{order.number}"
        self.erp.change_line(order, "0001", {"C7_QUANT": self._quantity})
        while not (told := await self._told(remote_id, began)):  # noqa: ASYNC110 - another process tells it
            await asyncio.sleep(LOOK)
        self.seconds.append(told)

    async def _told(self, remote_id: str, began: datetime) -> float:
        async with self.at.database.session() as connection:
            times = [row["created_at"] for row in await connection.fetch(TOLD, ERP, remote_id)]
        later = [(each - began).total_seconds() for each in times if each > began]
        return min(later, default=0.0)


async def commands(on: Stand, plan: Plan) -> AsyncIterator[Measured]:
    """Without a wait and with 300 ms for each answer, with nobody else at work and with people who are."""
    for latency, count in ((0.0, plan.commands), (0.3, max(8, plan.commands // 10))):
        async with ground(on, Ends(1, 1)) as at, simulated_protheus(Options(latency=latency, workers=8)) as erp:
            erp.seed(ORDERS)
            await _connect(at, erp)
            async with crew(at, 1) as workers:
                await _until(at, workers, SYNCED, 1, ERP)
                says = f"Protheus answers after {latency * 1e3:.0f} ms"
                name = f"commands.{latency * 1e3:.0f}ms"
                yield Measured(f"{name}.idle", f"{says}, changes", await _changes(at, erp, plan))
                yield Measured(name, f"{says}, commands", await _carried(at, workers, count))
                people = _People(at, erp)
                async with asyncio.TaskGroup() as tasks:
                    working = tasks.create_task(people.work(plan.changed))
                    figures = await _carried(at, workers, count)
                    await _enough(people, workers)
                    working.cancel()
                yield Measured(f"{name}.beside", f"{says}, commands beside {plan.changed} changes a second", figures)
                yield Measured(f"{name}.changes", f"{says}, changes beside commands", _latencies(people))


async def _connect(at: Ground, erp: SimulatedProtheus) -> None:
    vault = at.stand.vault(at.database)
    credentials = orjson.dumps({"username": erp.username, "password": erp.password})
    settings = {"url": erp.url, "tenant": erp.tenant, "all_branches": True, "writing": WRITING}
    sealed = await vault.seal(Place(CUSTOMER, ERP, Purpose.CREDENTIALS), credentials)
    await Registry(at.database).add_connection(
        Connection(ERP, CUSTOMER, "protheus", "protheus", settings, sealed=sealed, poll_every=POLL_EVERY, schedule=FAST)
    )


async def _carried(at: Ground, workers: Crew, count: int) -> Figures:
    """Send so many new orders by Kafka and wait until all of them are there."""
    before = await _value(at, APPLIED)
    producer = AIOKafkaProducer(bootstrap_servers=at.stand.access.bootstrap, linger_ms=5)
    await producer.start()
    watch = Spent(count, workers.whose())
    watch.start()
    try:
        for number in range(before, before + count):
            command = _create(number)
            key = f"{ERP}|{command['command_id']}".encode()
            await producer.send(Topics(at.name).commands, orjson.dumps(command), key=key)
        await producer.flush()
    finally:
        await producer.stop()
    await _until(at, workers, ENDED, before + count)
    watch.stop()
    if await _value(at, APPLIED) != before + count:
        raise Lost("some commands were not applied")
    return watch.as_json()


def _create(number: int) -> dict[str, Any]:
    return {
        "type": "create",
        "command_id": f"bench-{number}",
        "connection_id": ERP,
        "order": {
            "vendor": {"code": "FOR001", "site_code": "01"},
            "payment_terms": {"code": "030"},
            "order_date": "2026-11-02",
        },
        "lines": [{"item": {"code": "PAR-M8-30"}, "quantity": "10", "unit_price": "1.25"}],
    }


async def _enough(people: _People, workers: Crew) -> None:
    """Wait for a few changes, should they have waited for all commands."""
    until = time.monotonic() + WITHIN
    while len(people.seconds) < FEW and time.monotonic() < until:
        workers.check()
        await asyncio.sleep(LOOK)


async def _changes(at: Ground, erp: SimulatedProtheus, plan: Plan) -> Figures:
    people = _People(at, erp)
    with suppress(TimeoutError):
        async with asyncio.timeout(plan.seconds):
            await people.work(plan.changed)
    return _latencies(people)


def _latencies(people: _People) -> Figures:
    if not people.seconds:
        raise Lost("no change was told")
    return Latency(sorted(people.seconds)).as_json()


async def _until(at: Ground, workers: Crew, statement: str, enough: int, *values: Any) -> None:
    until = time.monotonic() + WITHIN
    while await _value(at, statement, *values) < enough:
        workers.check()
        if time.monotonic() > until:
            raise Lost(f"not within {WITHIN:.0f} s: {statement}")
        await asyncio.sleep(LOOK)


async def _value(at: Ground, statement: str, *values: Any) -> int:
    async with at.database.session() as connection:
        return int(await connection.fetchval(statement, *values))
