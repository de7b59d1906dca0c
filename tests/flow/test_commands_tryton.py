"""Commands to a real Tryton, through a worker: from a new order to a cancelled one, with the changes they caused."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest

from relay.domain.commands import command_key
from relay.domain.events import EVENT_TYPES
from relay.runners import utc_now
from relay.stages.admit_command import CommandAdmission, Limits
from relay.store.command_admission import CommandIntake
from relay.store.command_list import CommandList
from tests.fixtures.line import PATIENCE, eventually
from tests.flow.test_line_tryton import TWO_LINES, Told

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(240)]

BOLTS = {"item": {"code": "PAR-M8"}, "quantity": "100", "unit_price": "1.2500"}
BEARINGS = {"item": {"code": "ROL-6204"}, "quantity": "4", "unit_price": "37.90"}
NEW = {"vendor": {"code": "F001"}, "ship_to": {"location_code": "WH"}}


class Sender:
    """Sends commands for one connection, and waits for what becomes of them."""

    def __init__(self, line, connection):
        database = line.registry.database
        self.connection, self.sent = connection, 0
        self.admission = CommandAdmission(CommandIntake(database), Limits(100_000, timedelta(days=1)), utc_now)
        self.kept = CommandList(database)

    async def send(self, type_, remote_id=None, **given):
        """The id of a command that was sent."""
        self.sent += 1
        head = {"type": type_, "command_id": f"c{self.sent}", "connection_id": self.connection}
        body = head | ({"remote_id": remote_id} if remote_id else {}) | given
        await self.admission.admit_one(orjson.dumps(body), "test")
        return head["command_id"]

    async def result(self, command_id):
        """Its result, once it is over."""
        key = command_key(self.connection, command_id)
        async with asyncio.timeout(PATIENCE):
            while not (found := (await self.kept.command(key))["result"]):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        return orjson.loads(found)["data"]

    async def done(self, type_, remote_id=None, **given):
        return await self.result(await self.send(type_, remote_id, **given))


def caused(told, order):
    """What was told of an order: types, and the commands that asked for it."""
    return [
        (event["type"].removeprefix("purchase_order."), event["data"]["caused_by"])
        for event in told.drain().events[str(order)].values()
    ]


async def test_an_order_lives_by_commands_and_each_change_names_its_own(line, tryton_erp):
    buyer = tryton_erp.buyer
    connection = await line.tryton(tryton_erp)
    async with line.receiver(event_types=EVENT_TYPES) as hook:
        told, sender = Told(hook), Sender(line, connection)
        worker = await line.worker()
        await line.synced(connection)

        made = await sender.done("create", order=NEW, lines=[BOLTS, BEARINGS], external_reference="REQ-1")
        assert (made["outcome"], made["attempts"], made["order"]["status"]) == ("applied", 1, "draft"), made
        order = made["remote_id"]
        first, second = (each["remote_id"] for each in made["order"]["lines"])
        changed = await sender.done(
            "update",
            order,
            order={"notes": "Before noon"},
            lines=[{"remote_id": first, "quantity": "80"}],
            expected_version=made["order"]["remote_version"],
        )
        assert (changed["outcome"], changed["order"]["notes"]) == ("applied", "Before noon"), changed
        longer = await sender.done("add_lines", order, lines=[{**BOLTS, "quantity": "7"}])
        assert [Decimal(each["quantity"]) for each in longer["order"]["lines"]] == [80, 4, 7], longer
        shorter = await sender.done("cancel_lines", order, lines=[second])
        assert (shorter["outcome"], await quantities(buyer, order)) == ("applied", [80, 7]), shorter
        cancelled = await sender.done("cancel", order)
        assert (cancelled["outcome"], cancelled["order"]["status"]) == ("applied", "cancelled"), cancelled

        await eventually(lambda: len(caused(told, order)) >= 5, "every change")
        assert caused(told, order) == [
            ("created", ["c1"]),
            ("updated", ["c2"]),
            ("updated", ["c3"]),
            ("updated", ["c4"]),
            ("cancelled", ["c5"]),
        ]
        late = await sender.done("add_lines", order, lines=[BOLTS])
        assert late["outcome"] == "rejected"
        assert {each["reason"] for each in late["refusals"]} == {"workflow_state"}
        again = await sender.done("create", order=NEW, lines=[BOLTS], external_reference="REQ-1")
        assert (again["outcome"], again["refusals"][0]["reason"], again["remote_id"]) == ("rejected", "conflict", order)
        assert (hook.tally.out_of_order, hook.tally.refused) == (0, 0)
        assert await worker.stop() == 0


async def test_workers_that_are_killed_while_they_write_do_everything_once_and_in_order(line, tryton_erp):
    buyer = tryton_erp.buyer
    orders = [await buyer.create_order(TWO_LINES) for _ in range(3)]
    connection = await line.tryton(tryton_erp)
    sender = Sender(line, connection)
    ids = []
    for number in range(1, 9):
        ids += [
            await sender.send("add_lines", str(each), lines=[{**BOLTS, "quantity": str(number)}]) for each in orders
        ]
    ids += [await sender.send("create", order=NEW, lines=[BOLTS]) for _ in range(6)]
    for seconds in (1.0, 0.5, 0.8):
        worker = await line.worker(RELAY_COMMANDS__SETTLE="2s")
        before = len(worker.said("command.ended"))
        await eventually(lambda worker=worker, before=before: len(worker.said("command.ended")) > before, "one")
        await asyncio.sleep(seconds / 10)
        worker.kill()
        await worker.ended()
    await line.worker(RELAY_COMMANDS__SETTLE="2s")
    assert {(await sender.result(each))["outcome"] for each in ids} == {"applied"}
    for each in orders:
        assert await quantities(buyer, each) == [100, 4, *range(1, 9)]
    assert await buyer.call("model.purchase.purchase.search_count", []) == 3 + 6


async def quantities(buyer, order):
    return [Decimal(str(each["quantity"])) for each in await buyer.lines(int(order))]
