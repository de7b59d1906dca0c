"""A thousand commands over a line that loses, cuts and lies, while workers are killed.

Each ends once and is done once, and every order is in the end what was asked for.
"""

import asyncio
import datetime as dt
import os
from decimal import Decimal
from itertools import cycle
from random import Random
from typing import ClassVar

import pytest

from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.protheus_rows import OrderKey
from relay.demo.rm import ORDER_TYPE
from relay.demo.rm_http import RmOptions, simulated_rm
from relay.domain.schedules import Schedule
from tests.fixtures.commanding import life, sender
from tests.fixtures.faults import FAULTS, bad_line
from tests.fixtures.line import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ORDERS, EACH = int(os.environ.get("RELAY_TEST_ORDERS", "34")), 10
"""A thousand commands into the three of them; with 100 orders, a thousand into each."""
TODAY = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
QUICK = {"RELAY_COMMANDS__SETTLE": "4s"}
FAST = Schedule(calls_per_second=1000, calls_at_once=4, answer_within=dt.timedelta(seconds=2))
ONE_IN = 12
"""Writes that go well between two that do not, about."""
KILLS = 3


class Erp:
    """How one is written to; those below say what is its own, and what it has in the end."""

    def __init__(self, erp):
        self.erp = erp

    def line(self, item, quantity):
        return {"item": {"code": item}, "quantity": str(quantity), "unit_price": "4.50"}

    def refused(self):
        return {"type": "add_lines", "lines": [self.line("NO-SUCH", 1)]}


class Tryton(Erp):
    """A real one."""

    items = ("PAR-M8", "ROL-6204", "OLE-68")

    def writes(self, _, body):
        return b'"model.purchase.purchase.' in body and any(
            b'purchase.purchase.%s"' % verb in body for verb in (b"create", b"write", b"cancel")
        )

    def new(self, lines):
        order = {"vendor": {"code": "F001"}, "currency": "BRL", "ship_to": {"location_code": "WH"}}
        return order, [self.line(*each) for each in lines]

    async def count(self):
        return await self.erp.buyer.call("model.purchase.purchase.search_count", [])

    async def state(self, remote_id):
        order = await self.erp.buyer.read(int(remote_id), "comment", "state")
        lines = await self.erp.buyer.lines(int(remote_id))
        return {
            "lines": sorted((each["code"], Decimal(str(each["quantity"]))) for each in lines),
            "notes": order["comment"] or None,
            "cancelled": order["state"] == "cancelled",
        }


class Protheus(Erp):
    """A simulated one, with a flat wrapper around MATA120."""

    items = ("PAR-M8-30", "ROL-6204", "VAL-ESF-1")
    writing: ClassVar = {
        "shape": "flat",
        "create": {"path": "/wspedcom/pedidos"},
        "change": {"path": "/wspedcom/pedidos/{number}", "method": "PUT"},
        "cancel": {"path": "/wspedcom/pedidos/{number}", "method": "DELETE"},
        "mark": "C7_OBS",
        "answer": {"number": "C7_NUM", "status": "Status", "done": ["200", "201"], "said": ["Mensagem"]},
    }

    def writes(self, head, _):
        return b"/wspedcom/" in head.partition(b"\r\n")[0]

    def new(self, lines):
        vendor, terms = {"code": "FOR001", "site_code": "01"}, {"code": "030"}
        order = {"vendor": vendor, "payment_terms": terms, "order_date": TODAY}
        return order, [self.line(*each) for each in lines]

    async def count(self):
        return len(self.erp.purchase_orders())

    async def state(self, remote_id):
        branch, _, number = remote_id.rpartition("|")
        rows = self.erp.rows(OrderKey(branch, number))
        alive = [row for row in rows if row["D_E_L_E_T_"] == " "]
        # A new order's key stands before its notes, until other notes are given.
        notes = (alive or rows)[0]["C7_OBS"].strip()
        notes = notes.partition(" | ")[2] if notes.startswith("rl-") else notes
        return {
            "lines": sorted((row["C7_PRODUTO"].rstrip(), Decimal(str(row["C7_QUANT"]))) for row in alive or rows),
            "notes": notes or None,
            "cancelled": not alive,
        }


class Rm(Erp):
    """A simulated one."""

    items = ("01.01.0001", "01.01.0002", "02.01.0001")

    def writes(self, head, _):
        method, _, path = head.partition(b"\r\n")[0].partition(b" ")
        return method in {b"POST", b"PUT"} and b"/movements" in path.lower()

    def new(self, lines):
        order = {
            "vendor": {"code": "F00012"},
            "payment_terms": {"code": "030"},
            "branch": {"remote_id": "1"},
            "order_date": TODAY,
        }
        return order, [self.line(*each) for each in lines]

    async def count(self):
        return len(self.erp.movements())

    async def state(self, remote_id):
        company, _, number = remote_id.partition("|")
        record = self.erp.movement((int(company), int(number)))
        return {
            "lines": sorted((each["ProductCodeValue"], Decimal(str(each["Quantity"]))) for each in record["Items"]),
            "notes": record.get("Observation") or None,
            "cancelled": record["Status"] == "C",
        }


async def started(line):
    """One more worker, once it works."""
    worker = await line.worker(**QUICK)
    await eventually(lambda: worker.said("worker.started"), "a worker")


async def killing(line, sending):
    """Two workers; each time so many commands more have ended, one is killed and another one takes its place."""
    for death in range(1, KILLS + 1):
        enough = death * ORDERS * EACH // (KILLS + 1)
        await sending.until(lambda enough=enough: sending.ended >= enough)
        line.workers[-1 - death % 2].kill()
        await started(line)


def some(dice, writes):
    """A fault for about one write in so many."""

    faults = cycle(dice.sample(FAULTS, len(FAULTS)))

    def wicked(head, body):
        return next(faults) if writes(head, body) and dice.random() < 1 / ONE_IN else None

    return wicked


async def thousand(line, erp, connection, bad):
    """Send them, wait for their ends, and compare."""
    before = await erp.count()
    await started(line)
    await started(line)
    async with sender(line, connection) as sending, asyncio.TaskGroup() as tasks:
        tasks.create_task(killing(line, sending))
        lives = [tasks.create_task(life(sending, erp, Random(number), EACH)) for number in range(ORDERS)]
    ended = [each.result() for each in lives]
    assert sending.sent == ORDERS * EACH
    for remote_id, model in ended:
        assert await erp.state(remote_id) == model.seen(), remote_id
    assert await erp.count() == before + ORDERS
    assert all(len(sending.ends(f"c-{number}")) == 1 for number in range(1, sending.sent + 1))
    print(dict(bad.met))  # noqa: T201 - shown when asked for
    assert set(FAULTS) <= bad.met.keys()


async def test_a_thousand_commands_to_a_simulated_protheus(line):
    async with simulated_protheus(Options(workers=8)) as running:
        running.seed(20)
        erp = Protheus(running)
        async with bad_line(running.url, some(Random(1), erp.writes)) as bad:
            connection = await line.protheus(
                running, settings={"url": bad.url, "writing": erp.writing}, every=1, schedule=FAST
            )
            await thousand(line, erp, connection, bad)


@pytest.mark.tryton
async def test_a_thousand_commands_to_a_real_tryton(line, tryton_erp):
    erp = Tryton(tryton_erp)
    async with bad_line(tryton_erp.url, some(Random(2), erp.writes)) as bad:
        connection = await line.connect(
            "tryton",
            settings={"url": bad.url, "database": tryton_erp.database},
            credentials={"username": tryton_erp.username, "password": tryton_erp.password},
            every=1,
            schedule=FAST,
        )
        await thousand(line, erp, connection, bad)


async def test_a_thousand_commands_to_a_simulated_rm(line):
    async with simulated_rm(RmOptions(workers=8)) as running:
        running.seed(20)
        erp = Rm(running)
        async with bad_line(running.url, some(Random(3), erp.writes)) as bad:
            connection = await line.connect(
                "rm",
                settings={"url": bad.url, "company": 1, "purchase_types": [ORDER_TYPE]},
                credentials={"username": running.username, "password": running.password},
                every=1,
                schedule=FAST,
            )
            await thousand(line, erp, connection, bad)
