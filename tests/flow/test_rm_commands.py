"""Commands to RM on the whole line: through faults before and after the write and killed workers, each is done once."""

import asyncio
from collections import Counter
from decimal import Decimal
from random import Random

import orjson
import pytest
from confluent_kafka import Producer

from relay.demo.rm_http import RmOptions, simulated_rm
from tests.fixtures.line import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ORDERS = 12
BEFORE = ("reset", "500_ttalk", "503", "429", "html")
AFTER = ("after reset", "after 500_ttalk", "after html_200", "truncated", "short")
QUICK = {"RELAY_COMMANDS__SETTLE": "2s"}
ENDED = {"applied", "rejected", "unknown", "expired"}


class Clerk:
    """Sends commands to the topic and hears their results by webhook."""

    def __init__(self, line, hook):
        self.line, self.hook = line, hook
        self.producer = Producer({"bootstrap.servers": line.bootstrap})
        self.sent, self.ends = 0, {}

    async def send(self, type_, **said):
        self.sent += 1
        command = {"type": type_, "command_id": f"c{self.sent}", "connection_id": "con_erp", **said}
        key = f"con_erp|{said.get('remote_id', command['command_id'])}"
        self.producer.produce(self.line.topic("commands"), orjson.dumps(command), key)
        await asyncio.to_thread(self.producer.flush, 30)
        return command["command_id"]

    async def ended(self, command_id):
        def there():
            while not self.hook.received.empty():
                data = orjson.loads(self.hook.received.get_nowait().body)["data"]
                if data.get("outcome") in ENDED:
                    assert self.ends.setdefault(data["command_id"], data)["outcome"] == data["outcome"]
            return command_id in self.ends

        await eventually(there, f"the end of {command_id}", seconds=120)
        return self.ends[command_id]


def new(number):
    order = {"branch": {"remote_id": "1"}, "vendor": {"code": "F00012"}, "payment_terms": {"code": "030"}}
    return {"order": order, "lines": [line_of("1001", number + 2), line_of("1002", number + 2)]}


def line_of(item, quantity):
    return {"item": {"remote_id": item}, "quantity": str(quantity), "unit_price": "4.5"}


async def life(clerk, number):
    """One order by commands: what became of each, and its id."""
    end = await clerk.ended(await clerk.send("create", **new(number)))
    assert end["outcome"] == "applied", end
    of = {"remote_id": end["remote_id"]}
    sent = [
        await clerk.send("update_lines", **of, lines=[{"remote_id": "1", "quantity": "7"}]),
        await clerk.send("add_lines", **of, lines=[line_of("77", 1)]),
        await clerk.send("add_lines", **of, lines=[line_of("1003", 3)]),
        await clerk.send("update", **of, order={"notes": f"note {number}"}),
        await clerk.send("cancel_lines", **of, lines=["2"]),
    ]
    ends = [await clerk.ended(each) for each in sent]
    assert [each["outcome"] for each in ends] == ["applied", "rejected", "applied", "applied", "applied"], ends
    assert ends[1]["refusals"][0]["field"] == "lines[0].item.remote_id"
    assert "Produto 77 não encontrado" in ends[1]["said"]
    return end["remote_id"]


async def test_every_command_ends_once_and_no_order_is_made_twice(line):
    dice = Random(11)
    met = Counter()

    def chance(call, _request):
        if call in {"create", "update", "cancel"} and dice.random() < 0.2:
            met[fault := dice.choice((*BEFORE, *AFTER))] += 1
            return fault
        return None

    async with simulated_rm(RmOptions()) as erp, line.receiver() as hook:
        erp.seed(0)
        erp.faults.chance = chance
        await line.rm(erp)
        first = await line.worker(**QUICK)
        await eventually(lambda: first.said("worker.started"), "the worker")
        clerk = Clerk(line, hook)
        lives = asyncio.gather(*(life(clerk, number) for number in range(ORDERS)))
        await eventually(lambda: sum(met.values()) > 5, "some faults")
        first.kill()
        await line.worker(**QUICK)
        ids = await lives
        made = {record["InternalId"]: record for record in erp.movements()}
        assert sorted(made) == sorted(ids)
        for number, remote_id in enumerate(ids):
            record = made[remote_id]
            lines = [(item["ProductId"], Decimal(str(item["Quantity"]))) for item in record["Items"]]
            assert (record["Observation"], lines) == (f"note {number}", [(1001, 7), (1003, 3)])
        assert met.keys() & set(BEFORE)
        assert met.keys() & set(AFTER)
