"""The served API, fuzzed by schemathesis on a real database: it answers as it is described, and no bug is met."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from relay.control.at_hand import Usual
from relay.domain.egress import Policy
from relay.domain.orders import PurchaseOrder, Status, order_id
from tests.fixtures.api import control_of, serving_control
from tests.fixtures.store import observed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 30
"""The most for each of the two runs."""
LONGEST_WAIT = 70
"""Seconds for one answer: a request may ask to wait for a minute."""
UNFIT = "positive_data_acceptance"
"""A cursor, a condition, a connector's settings: no schema can say which text is a good one."""
COUNTED = """
[[operations]]
include-name = "POST /v1/replays/count"
checks.unsupported_method.enabled = false
"""
"""GET there asks for a replay of that name, and is told that names are other ones."""
NOWHERE = "http://127.0.0.1:1"
REMOVING = "^(remove|disconnect|revoke)_"


def nowhere(world):
    return control_of(world, egress=Policy(allow_private=True), usual=Usual(allow_http=True))


async def fuzzed(api, folder, *options):
    """Run it; fails with what it told when it found something."""
    told = folder / "told.txt"
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{api.client.base_url}/openapi.json"),
        *("-H", f"Authorization: Bearer {api.keys['admin']}", "--max-time", str(SECONDS), "--seed", "1"),
        *("--request-timeout", str(LONGEST_WAIT)),
        *("--exclude-checks", UNFIT, "--no-color", *options),
    ]
    environment = {**os.environ, "COLUMNS": "120"}
    with told.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=out, stderr=out, env=environment)
        code = await process.wait()
    assert (await api.get("/v1/me")).status_code == 200, "its key was good to the end"
    if code:
        pytest.fail(told.read_text(), pytrace=False)


async def begun(api):
    """A customer with a connection, an endpoint, orders and deliveries. Nothing answers where they lead."""
    world, control = api.world, api.core.control
    credentials = {"username": "relay", "password": "canary"}
    settings = {"url": f"{NOWHERE}/rest", "tenant": "T1,D MG 01"}
    added = await control.add_connection(
        customer="acme", kind="protheus", name="erp", settings=settings, credentials=credentials, check=False
    )
    made = await control.add_endpoint(customer="acme", name="hook", url=f"{NOWHERE}/hook")
    claimed = await world.claimed("connections", added.connection.id)
    told = [
        observed(claimed.subject, PurchaseOrder(remote_id=f"p{number}", status=Status.APPROVED)) for number in range(3)
    ]
    await world.orders.save_page(claimed.lease, claimed.subject, *map(list, zip(*told, strict=True)), None)
    await world.admissions.admit([entry.event_id for _, entry in told])
    asked = {"type": "cancel", "command_id": "c1", "connection_id": added.connection.id, "remote_id": "p1"}
    sent = await api.post("/v1/commands", asked)
    return {
        "command": sent.json()["id"],
        "connection_id": added.connection.id,
        "endpoint_id": made.endpoint.id,
        "delivery_id": await world.one("SELECT id FROM deliveries LIMIT 1"),
        "order_id": order_id(added.connection.id, "p1"),
        "customer": "acme",
        "connector": "protheus",
    }


async def test_every_call_answers_as_it_is_described(world, tmp_path):
    async with serving_control(world, control=nowhere(world)) as api:
        (tmp_path / "schemathesis.toml").write_text(COUNTED)
        await fuzzed(api, tmp_path, "--phases", "examples,coverage")


async def test_calls_about_what_is_there_answer_as_they_are_described(world, tmp_path):
    async with serving_control(world, control=nowhere(world)) as api:
        known = await begun(api)
        lines = ["[parameters]", *(f'"path.{name}" = "{value}"' for name, value in known.items()), COUNTED]
        (tmp_path / "schemathesis.toml").write_text("\n".join(lines))
        await fuzzed(api, tmp_path, "--phases", "fuzzing", "--exclude-operation-id-regex", REMOVING)
