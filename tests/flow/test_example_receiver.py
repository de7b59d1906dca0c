"""examples/receiver.py, as people copy it: whatever is refused, lost or forgotten on the way, it has every event."""

import asyncio
import base64
import importlib.util
import os
import re
import sqlite3
import sys
import time
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest
from fastapi import FastAPI, Request, Response

from relay.api.app import application, served
from relay.control.pull import PullTokens
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.cursors import cursor_of
from relay.domain.samples import sample_event
from relay.domain.signing import new_secret, parse_secret, sign
from relay.store.database import opened
from relay.store.log import LogStore
from tests.fixtures.line import eventually
from tests.fixtures.store import entry

pytestmark = pytest.mark.timeout(240)

EXAMPLE = Path(__file__).parents[2] / "examples" / "receiver.py"
SECRET = new_secret(b"s" * 32)


@dataclass
class Example:
    """The example as a process of its own, and a look into its inbox."""

    tmp: Path
    pull_url: str
    token: str
    url: str = ""
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    @property
    def inbox(self):
        return self.tmp / "inbox.sqlite"

    async def start(self):
        self.starts += 1
        path = self.tmp / f"example-{self.starts}.log"
        settings = {"WEBHOOK_SECRET": SECRET, "PULL_URL": self.pull_url, "PULL_TOKEN": self.token}
        with path.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, EXAMPLE),
                env={"PATH": os.environ["PATH"], "INBOX": str(self.inbox), "PORT": "0", "GAP_AFTER": "0.2", **settings},
                stdout=log,
                stderr=log,
            )
        await eventually(lambda: "running on http" in path.read_text(), "the example starts")
        self.url = re.search(r"http://[0-9.]+:\d+", path.read_text())[0] + "/webhooks"

    async def kill(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def asked(self, query):
        with closing(sqlite3.connect(self.inbox)) as inbox:
            return inbox.execute(query).fetchall()

    def complete(self):
        return self.asked("SELECT number FROM complete")[0][0]

    def numbers(self):
        return [number for (number,) in self.asked("SELECT number FROM events ORDER BY number")]


@asynccontextmanager
async def example(tmp_path, pull_url, token):
    running = Example(tmp_path, pull_url, token)
    try:
        await running.start()
        yield running
    finally:
        await running.kill()
        for path in sorted(tmp_path.glob("example-*.log")):
            print(path.name, path.read_text()[-3000:], sep="\n")  # noqa: T201 - shown when the test failed


@dataclass
class Front:
    """What stands between relay and the receiver, as proxies do; it treats the first try of each event by turns."""

    client: httpx.AsyncClient
    behind: Example | None = None
    turns: tuple[str, ...] = ("forward",)
    first: dict[str, str] = field(default_factory=dict)
    url: str = ""

    async def take(self, request: Request) -> Response:
        event = request.headers["webhook-id"]
        known = event in self.first
        turn = "forward" if known else self.turns[len(self.first) % len(self.turns)]
        self.first.setdefault(event, turn)
        if turn == "swallow":
            return Response(status_code=204)
        if turn != "forward":
            return Response(status_code=int(turn))
        return await self._forward(request)

    async def _forward(self, request: Request) -> Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.startswith(("webhook-", "relay-")) or name == "content-type"
        }
        try:
            reply = await self.client.post(self.behind.url, content=await request.body(), headers=headers)
        except httpx.HTTPError:
            return Response(status_code=502)
        return Response(status_code=reply.status_code)

    def met(self, turn):
        return [event for event, met in self.first.items() if met == turn]


@asynccontextmanager
async def front():
    app = FastAPI()
    async with httpx.AsyncClient(timeout=10) as client:
        running = Front(client)
        app.post("/hook")(running.take)
        async with served(app, "127.0.0.1", 0) as url:
            running.url = f"{url}/hook"
            yield running


@dataclass
class Whole:
    """Relay's side and the receiver's side of one endpoint, compared."""

    line: object
    receiver: Example

    async def there(self):
        """(number, id, frozen bytes, state) of every event of the endpoint, as relay has it."""
        async with opened(self.line.database_url, connections=1) as database, database.session() as connection:
            rows = await connection.fetch(
                "SELECT d.number, o.event_id, o.body, d.state FROM deliveries AS d JOIN outbox AS o USING (position)"
                " WHERE d.endpoint_id = 'end_hook' ORDER BY d.number"
            )
        return [tuple(row) for row in rows]

    async def grown_to(self, events):
        async with asyncio.timeout(60):
            while len(await self.there()) < events:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    async def has_all(self, at_least):
        """All that relay has, once it has so much, is with the receiver: complete and byte for byte."""
        await self.grown_to(at_least)
        there = await self.there()
        await eventually(lambda: self.receiver.complete() >= len(there), f"all {len(there)} events")
        assert [number for number, *_ in there] == list(range(1, len(there) + 1))
        kept = self.receiver.asked("SELECT number, id, body FROM events ORDER BY number")
        assert kept[: len(there)] == [row[:3] for row in there]
        return there

    async def handled_in_order(self):
        """Each order went through all its events, one by one."""
        by_order = {}
        for _, _, body, _ in await self.there():
            data = orjson.loads(body)["data"]
            by_order.setdefault(data["order_id"], []).append(data["sequence"])
        assert all(sequences == list(range(1, len(sequences) + 1)) for sequences in by_order.values())
        handled = dict(self.receiver.asked("SELECT id, sequence FROM orders"))
        assert handled == {order: sequences[-1] for order, sequences in by_order.items()}


@asynccontextmanager
async def at_work(line, url):
    """A worker that sends to `url`; where its log is pulled, with which token."""
    await line.endpoint(url, SECRET)
    token = (await PullTokens(line.registry).issue("hook")).token
    worker = await line.worker()
    await eventually(lambda: worker.said("worker.started"), "the worker serves the log")
    yield f"{worker.said('worker.started')[0]['health']}/v1/endpoints/end_hook/events", token
    told = worker.path.read_text()
    assert (token in told, "after=" in told) == (False, False), "no token or query is in a log"


async def test_it_has_every_event_in_order_whatever_is_refused_lost_killed_or_dead(line, tmp_path):
    async with (
        simulated_protheus(Options()) as erp,
        front() as hostile,
        at_work(line, hostile.url) as (pull_url, token),
        example(tmp_path, pull_url, token) as receiver,
    ):
        hostile.behind, hostile.turns = receiver, ("forward", "500", "swallow", "501")
        whole = Whole(line, receiver)
        erp.seed(4)
        await line.synced(await line.protheus(erp))
        orders = [erp.create_order([NewLine("PAR-M8-30", 5, 1.25)]) for _ in range(4)]
        total = len(erp.purchase_orders(deleted=False))
        there = await whole.has_all(total)
        await eventually(lambda: len(hostile.first) == total, "each was sent at least once")
        assert all(hostile.met(turn) for turn in hostile.turns)
        assert set(hostile.met("swallow")) <= {event for _, event, *_ in there}

        # Killed while webhooks come: they are refused, and what was kept is kept.
        erp.approve(orders[0])
        erp.approve(orders[1])
        await receiver.kill()
        erp.approve(orders[2])
        erp.approve(orders[3])
        await whole.grown_to(total + 4)
        await receiver.start()
        await whole.has_all(total + 4)

        # All its state is gone.
        await receiver.kill()
        receiver.inbox.unlink()
        erp.receive(orders[0], "0001", 1)
        await whole.grown_to(total + 5)
        await receiver.start()
        there = await whole.has_all(total + 5)

        await whole.handled_in_order()
        assert "dead" in {state for *_, state in there}, "relay has given some up, and the receiver has them"
        assert receiver.asked("SELECT * FROM forgotten") == []


@asynccontextmanager
async def log_of(world):
    """Three events of one endpoint, and relay's HTTP side over them."""
    hook, erp = await world.endpoint(), await world.connection()
    token = (await PullTokens(world.registry).issue("hook")).token
    body = sample_event("purchase_order.created").model_dump_json().encode()
    made = [entry(erp.lease.subject, f"p{n}", 1) for n in range(1, 4)]
    await world.orders.save_page(erp.lease, erp.subject, [], made, None)
    await world.sql("UPDATE outbox SET body = $1", body)
    await world.admissions.admit([each.event_id for each in made])
    async with served(application({}, LogStore(world.database)), "127.0.0.1", 0) as url:
        yield f"{url}/v1/endpoints/{hook.lease.subject}/events", token


async def test_what_relay_no_longer_keeps_is_written_down_and_it_goes_on(world, tmp_path):
    async with log_of(world) as (url, token), example(tmp_path, url, token) as receiver:
        await eventually(lambda: receiver.complete() == 3, "the log")
        await receiver.kill()
        with closing(sqlite3.connect(receiver.inbox)) as inbox, inbox:
            inbox.execute("DELETE FROM events WHERE number > 1")
            inbox.execute("UPDATE complete SET number = 1, cursor = ?", (cursor_of("end_acme_hook", 1),))
        await world.sql("DELETE FROM outbox WHERE position = (SELECT position FROM deliveries WHERE number = 2)")
        await receiver.start()
        await eventually(lambda: receiver.complete() == 3, "what is kept")
        assert receiver.numbers() == [1, 3]
        assert receiver.asked("SELECT * FROM forgotten") == [(2, 2)]


async def test_it_takes_signed_webhooks_once_and_nothing_else(world, tmp_path):
    async with log_of(world) as (url, token), example(tmp_path, url, token) as receiver:
        await eventually(lambda: receiver.complete() == 3, "the log")
        body = sample_event("purchase_order.approved").model_dump_json().encode()
        key, now = parse_secret(SECRET), int(time.time())
        signed = {
            "webhook-id": "evt_4",
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{base64.b64encode(b'old' * 11).decode()} " + sign([key], "evt_4", now, body),
            "relay-number": "4",
            "relay-cursor": cursor_of("end_acme_hook", 4),
        }
        at = {"webhook-timestamp": str(now - 301), "webhook-signature": sign([key], "evt_4", now - 301, body)}
        async with httpx.AsyncClient() as client:
            for wrong in ({"webhook-signature": "v1,AAAA"}, {"webhook-id": "evt_5"}, {"webhook-timestamp": "x"}, at):
                assert (await client.post(receiver.url, content=body, headers={**signed, **wrong})).status_code == 401
            assert (await client.post(receiver.url, content=body + b" ", headers=signed)).status_code == 401
            assert (await client.post(receiver.url, content=body)).status_code == 401
            test = {name: value for name, value in signed.items() if not name.startswith("relay-")}
            answers = [
                await client.post(receiver.url, content=body, headers=headers) for headers in (test, signed, signed)
            ]
            assert [answer.status_code for answer in answers] == [204, 204, 204]
            origin = receiver.url.removesuffix("/webhooks")
            for path in ("/", "/docs", "/openapi.json", "/webhooks"):
                assert (await client.get(origin + path)).status_code in {404, 405}
        assert receiver.numbers() == [1, 2, 3, 4]
        assert receiver.complete() == 4


def test_its_fifteen_lines_of_verification_agree_with_relays():
    spec = importlib.util.spec_from_file_location("example_receiver", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    now = int(time.time())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([parse_secret(SECRET)], "evt_1", now, b"body"),
    }
    assert module.verified(SECRET, headers, b"body")
    assert not module.verified(new_secret(b"t" * 32), headers, b"body")
    for changed in ({"webhook-timestamp": "²"}, {"webhook-signature": "v1,é"}, {"webhook-id": "evt.1"}):
        assert not module.verified(SECRET, headers | changed, b"body")
