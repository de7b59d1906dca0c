"""The straight line from a real Tryton: every kind of change as the right event, in order, over kills of the worker."""

from collections import defaultdict
from decimal import Decimal
from itertools import groupby
from random import Random

import orjson
import pytest

from tests.fixtures.line import eventually

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(240)]

TWO_LINES = [("PAR-M8", 100, "1.2500"), ("ROL-6204", 4, "37.90")]


class Told:
    """What a receiver was told of each order: its events by id once, in the order they came."""

    def __init__(self, hook):
        self.hook = hook
        self.events = defaultdict(dict)

    def drain(self):
        while not self.hook.received.empty():
            webhook = self.hook.received.get_nowait()
            assert webhook.verified
            event = orjson.loads(webhook.body)
            data = event["data"]
            known = self.events[data["remote_id"]]
            known.setdefault(data["event_id"], event)
            assert [each["data"]["sequence"] for each in known.values()] == list(range(1, len(known) + 1))
        return self

    def types(self, order):
        return [event["type"].removeprefix("purchase_order.") for event in self.events[str(order)].values()]

    def kinds(self, order):
        """The types of an order's events, in order.

        Tryton does some things in several steps, and how many of them a poll sees is chance: a type that comes again
        and again is one, and a status that follows what was received by itself is none.
        """
        return [kind for kind, _ in groupby(each for each in self.types(order) if each != "status_changed")]

    def last(self, order):
        """The order as its last event has it; {} before the first."""
        events = list(self.events[str(order)].values())
        return events[-1]["data"]["order"] if events else {}

    def quantities(self, order, name):
        return [Decimal(each[name]) for each in self.last(order).get("lines", ())]


async def test_every_kind_of_change_in_tryton_is_the_right_event(line, tryton_erp):
    buyer = tryton_erp.buyer
    old = await buyer.create_order(TWO_LINES)
    connection = await line.tryton(tryton_erp, reconcile=0.5)
    async with line.receiver() as hook:
        told = Told(hook)
        worker = await line.worker()

        async def until(order, *kinds, **values):
            await eventually(
                lambda: told.drain().kinds(order) == list(kinds) and values.items() <= told.last(order).items(),
                f"{kinds} with {values}",
            )

        await until(old, "snapshot")
        await line.synced(connection)
        order = await buyer.create_order(TWO_LINES)
        await until(order, "created", status="draft")
        (bolts, _) = await buyer.lines(order)
        await buyer.change_line(bolts["id"], quantity=80.0)
        await until(order, "created", "updated", status="draft")
        assert told.quantities(order, "quantity") == [80, 4]
        await buyer.quote(order)
        await buyer.confirm(order)
        await until(order, "created", "updated", status="approved")
        assert told.types(order)[-1] == "status_changed"
        await buyer.receive(order, "0.5")
        await until(order, "created", "updated", "quantity_received", receipt_status="partial")
        assert told.quantities(order, "received_quantity") == [40, 2]
        await buyer.receive(order)
        await until(order, "created", "updated", "quantity_received", status="received", receipt_status="full")
        assert told.quantities(order, "received_quantity") == [80, 4]

        await buyer.cancel(old)
        await until(old, "snapshot", "cancelled", status="cancelled")
        passes = len(worker.said("connection.reconciled"))
        await buyer.delete(old)
        await until(old, "snapshot", "cancelled", "deleted", remote_was_deleted=True)
        assert len(worker.said("connection.reconciled")) >= passes + 2, "believed after two full passes"
        assert (hook.tally.out_of_order, hook.tally.duplicates, hook.tally.refused) == (0, 0, 0)
        assert await worker.stop() == 0


async def test_a_worker_killed_at_any_time_loses_nothing_of_tryton(line, tryton_erp):
    buyer, dice = tryton_erp.buyer, Random(3)
    orders = [await buyer.create_order(TWO_LINES) for _ in range(4)]
    await line.tryton(tryton_erp)
    async with line.receiver() as hook:
        told = Told(hook)
        for _ in range(2):
            before = hook.tally.received
            worker = await line.worker()
            while hook.tally.received < before + 3:
                lines = await buyer.lines(dice.choice(orders))
                await buyer.change_line(dice.choice(lines)["id"], quantity=float(dice.randint(1, 500)))
            worker.kill()
            await worker.ended()
            await buyer.add_line(dice.choice(orders), ("OLE-68", dice.randint(1, 9), "18.65"))
        await line.worker()
        wanted = {order: [Decimal(str(each["quantity"])) for each in await buyer.lines(order)] for order in orders}
        await eventually(
            lambda: {order: told.drain().quantities(order, "quantity") for order in orders} == wanted,
            "every order as Tryton has it",
        )
        assert hook.tally.out_of_order == 0
