"""The whole life of a connection over the control API of a running worker; and its secrets, nowhere to be read.

added -> polled -> refused -> reconnected -> paused, resumed -> disconnected -> exported, removed
"""

import asyncio
import base64
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from relay.control.callers import Operators
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.callers import Scope
from relay.store.callers import CallerStore
from tests.fixtures.api import new_key
from tests.fixtures.line import eventually

pytestmark = pytest.mark.timeout(180)

PASSWORD, OTHER = "Canary-password-1f6c", "Canary-password-9a02"


@pytest.fixture
async def erp():
    async with simulated_protheus(Options(password=PASSWORD)) as running:
        running.seed(5)
        yield running


@asynccontextmanager
async def control_api(line):
    """A worker that runs, the client of its API, and an admin's key."""
    worker = await line.worker()
    await eventually(lambda: worker.said("worker.started"), "the worker")
    (started,) = worker.said("worker.started")
    key = (await Operators(CallerStore(line.registry.database)).add("admin", Scope.ADMIN)).key
    async with httpx.AsyncClient(base_url=started["health"], timeout=60) as client:
        yield Desk(line, client, key, worker)


class Desk:
    """What people do over HTTP."""

    def __init__(self, line, client, key, worker):
        self.line, self.client, self.key, self.worker = line, client, key, worker

    async def call(self, method, path, body=None, *, key=None, status=200, **headers):
        headers["authorization"] = f"Bearer {key or self.key}"
        reply = await self.client.request(method, path, json=body, headers=headers)
        assert reply.status_code == status, reply.text
        return reply.json()

    async def add(self, erp, **more):
        wanted = {
            "customer": "acme",
            "connector": "protheus",
            "settings": {"url": erp.url, "tenant": erp.tenant, "all_branches": True},
            "credentials": {"username": erp.username, "password": PASSWORD},
            "poll_every": "PT0.2S",
        }
        return await self.call("POST", "/v1/connections", {**wanted, **more}, status=201)

    async def until(self, path, true, what):
        """`what` is waited for."""
        async with asyncio.timeout(60):
            while not true(await self.call("GET", path)):  # noqa: ASYNC110 - another process's work rings no bell
                await asyncio.sleep(0.05)


async def test_a_connection_lives_from_its_first_look_to_its_removal(line, erp):  # noqa: PLR0915 - a whole life
    async with control_api(line) as desk:
        added = await desk.add(erp)
        look, first, connection = added["look"], added["token"], added["connection"]
        assert (look["orders"], look["currency_gaps"], look["rejected"]) == (5, [], [])
        assert "comparing" in look["found"]["changes"] or "stamp" in look["found"]["changes"]
        assert "shipping" not in look["missing_fields"]
        path = f"/v1/connections/{connection['id']}"
        await desk.until(path, lambda seen: seen["synced"] and seen["counts"]["orders"] == 5, "the first sync")
        assert (await desk.call("GET", path, key=first))["state"] == "active"

        erp.login.change_password(OTHER)
        await desk.until(path, lambda seen: seen["state"] == "needs_reconnect", "the refusal")
        asked = erp.login.refused
        assert (await desk.call("GET", path, key=first, status=401))["code"] == "unauthorized"
        told = await desk.call("POST", f"{path}/token", status=400)
        assert "reconnect" in told["detail"]
        wrong = {"credentials": {"username": erp.username, "password": PASSWORD}}
        refused = await desk.call("POST", f"{path}/reconnect", wrong, status=422)
        assert (refused["code"], "Nothing was stored" in refused["detail"]) == ("credentials_refused", True)
        assert erp.login.refused == asked + 1, "it is asked once per look, and by no poll"

        good = {"credentials": {"username": erp.username, "password": OTHER}}
        second = (await desk.call("POST", f"{path}/reconnect", good))["token"]
        assert second != first
        assert (await desk.call("GET", path, key=second))["state"] == "active"
        await desk.call("GET", path, key=first, status=401)
        erp.create_order([NewLine("PAR-M8-30", 3, 1.25)])
        await desk.until(path, lambda seen: seen["counts"]["orders"] == 6, "what came after it")

        assert (await desk.call("POST", f"{path}/pause", key=second))["state"] == "paused"
        assert (await desk.call("POST", f"{path}/resume", key=second))["state"] == "active"
        third = (await desk.call("POST", f"{path}/token"))["token"]
        await desk.call("GET", path, key=second, status=401)
        await desk.call("PATCH", path, {"name": "main"}, key=third, status=404)
        elsewhere = {"settings": {"url": "http://127.0.0.1:1/rest", "tenant": erp.tenant}}
        assert "Reconnect" in (await desk.call("PATCH", path, elsewhere, status=400))["detail"]
        changed = await desk.call("PATCH", path, {"name": "main", "poll_every": "PT30S"})
        assert (changed["name"], changed["poll_every"]) == ("main", "PT30S")
        assert (await desk.call("POST", f"{path}/check", key=third))["orders"] == 6

        ended = await desk.call("POST", f"{path}/disconnect", key=third)
        assert (ended["state"], ended["counts"]["orders"]) == ("disconnected", 6)
        await desk.call("GET", path, key=third, status=401)
        for what, status in (("resume", 400), ("pause", 400), ("check", 400), ("token", 400)):
            assert "reconnect" in (await desk.call("POST", f"{path}/{what}", status=status))["detail"].lower()
        async with line.registry.database.session() as database:
            row = await database.fetchrow("SELECT sealed, token_digest FROM connections")
        assert (row["sealed"], row["token_digest"]) == (b"", None)

        reply = await desk.client.get(f"{path}/export", headers={"authorization": f"Bearer {desk.key}"})
        kinds = [next(iter(orjson.loads(each))) for each in reply.content.splitlines()]
        assert kinds == ["connection"] + ["order"] * 6 + ["event"] * 6
        removed = await desk.call("DELETE", path)
        assert removed["state"] == "disconnected"
        await desk.call("GET", path, status=404)
        noted = (await desk.call("GET", f"/v1/audit?subject={connection['id']}"))["items"]
        assert [each["action"] for each in reversed(noted) if each["status"] == 200 or each["status"] == 201] == [
            *("add_connection", "reconnect_connection", "pause_connection", "resume_connection"),
            *("rotate_connection_token", "change_connection", "check_connection", "disconnect_connection"),
            "remove_connection",
        ]
        assert {each["customer_id"] for each in noted} == {"acme"}
        assert await desk.worker.stop() == 0


async def test_a_look_that_fails_stores_nothing_and_says_what_to_do(line, erp):
    async with control_api(line) as desk:
        body = {
            "customer": "acme",
            "connector": "protheus",
            "settings": {"url": "http://127.0.0.1:1/rest", "tenant": "T1,D MG 01"},
            "credentials": {"username": "u", "password": PASSWORD},
        }
        reply = await desk.call("POST", "/v1/connections", body, status=422)
        assert (reply["code"], "Check that address and port are right" in reply["detail"]) == ("unavailable", True)
        assert (await desk.call("GET", "/v1/connections"))["items"] == []
        body["settings"] = {"url": erp.url}
        reply = await desk.call("POST", "/v1/connections", body, status=400)
        assert "tenant is missing" in reply["detail"]


async def test_a_connection_token_sees_its_own_connection_only(line, erp):
    async with control_api(line) as desk:
        one, other = await desk.add(erp, name="one"), await desk.add(erp, name="other")
        listed = await desk.call("GET", "/v1/connections", key=one["token"])
        assert [each["name"] for each in listed["items"]] == ["one"]
        await desk.call("GET", f"/v1/connections/{other['connection']['id']}", key=one["token"], status=404)
        await desk.call("DELETE", f"/v1/connections/{one['connection']['id']}", key=one["token"], status=404)
        await desk.call("GET", "/v1/customers", key=one["token"], status=404)
        found = await desk.call("GET", "/v1/connections?name=acme/other&limit=1")
        assert [each["id"] for each in found["items"]] == [other["connection"]["id"]]
        assert (await desk.call("GET", "/v1/customers/acme"))["connections"] == 2
        assert (await desk.call("DELETE", "/v1/customers/acme", status=400))["detail"].startswith("acme still has")


async def test_no_secret_is_in_the_database_its_files_or_the_logs(line, erp):
    async with control_api(line) as desk:
        key = new_key()
        wanted = {
            "customer": "acme",
            "connector": "protheus",
            "settings": {"url": erp.url, "tenant": erp.tenant, "all_branches": True},
            "credentials": {"username": erp.username, "password": PASSWORD},
            "poll_every": "PT0.2S",
        }
        added = await desk.call("POST", "/v1/connections", wanted, status=201, **{"idempotency-key": key})
        again = await desk.call("POST", "/v1/connections", wanted, status=201, **{"idempotency-key": key})
        assert again == added
        made = await desk.call("POST", "/v1/operators", {"name": "ci", "scope": "read"}, status=201)
        endpoint = await line.control.add_endpoint(customer="acme", name="hook", url="http://127.0.0.1:1/hook")
        await desk.call("POST", "/v1/connections", {**wanted, "name": "x", "tenant": PASSWORD}, status=400)
        erp.login.change_password(OTHER)
        path = f"/v1/connections/{added['connection']['id']}"
        await desk.until(path, lambda seen: seen["state"] == "needs_reconnect", "the refusal")
        assert await desk.worker.stop() == 0
        secrets = [desk.key, made["key"], added["token"], PASSWORD, endpoint.secret, key]
        raw = [base64.b64decode(endpoint.secret.removeprefix("whsec_"))]
    canaries = [each.encode() for each in secrets] + raw
    where = {"rows": await rows_of(line), "log": desk.worker.path.read_bytes(), **await files_of(line)}
    assert b"acme" in where["rows"]
    assert [(name, each) for name, text in where.items() for each in canaries if each in text] == []


async def rows_of(line):
    """Every value of every table."""
    async with line.registry.database.session() as database:
        tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        values = []
        for table in tables:
            for row in await database.fetch(f'SELECT * FROM "{table["tablename"]}"'):
                values += [each if isinstance(each, bytes) else str(each).encode() for each in row.values()]
    return b"\n".join(values)


async def files_of(line):
    """The files of this database, and the log of what was written to it, when they are on this machine."""
    async with line.registry.database.session() as database:
        await database.execute("CHECKPOINT")
        home = Path(await database.fetchval("SHOW data_directory"))
        number = await database.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    return await asyncio.to_thread(read_all, home, number)


def read_all(home, number):
    files = [*home.glob(f"base/{number}/*"), *home.glob("pg_wal/*")]
    return {str(path): path.read_bytes() for path in files if stat.S_ISREG(path.stat().st_mode)}
