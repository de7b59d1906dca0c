"""The served API, fuzzed by schemathesis on a real database: it answers as it is described, and no bug is met."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.fixtures.api import serving_control

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 30
"""The most for each of the two runs."""
UNFIT = "positive_data_acceptance"
"""A cursor, a condition, a connector's settings: no schema can say which text is a good one."""
REMOVING = "^(remove|disconnect|revoke)_"


async def fuzzed(api, folder, *options):
    """Run it; what it told, when it found something."""
    told = folder / "told.txt"
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{api.client.base_url}/openapi.json"),
        *("-H", f"Authorization: Bearer {api.keys['admin']}", "--max-time", str(SECONDS), "--seed", "1"),
        *("--exclude-checks", UNFIT, "--no-color", *options),
    ]
    environment = {**os.environ, "COLUMNS": "120"}
    with told.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=out, stderr=out, env=environment)
        code = await process.wait()
    assert (await api.get("/v1/me")).status_code == 200, "its key was good to the end"
    return told.read_text() if code else ""


async def test_every_call_answers_as_it_is_described(world, tmp_path):
    async with serving_control(world) as api:
        assert not await fuzzed(api, tmp_path, "--phases", "examples,coverage")


async def test_calls_about_what_is_there_answer_as_they_are_described(world, tmp_path):
    connection, endpoint = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(connection, "p1", "p1", "p2"))
    known = {
        "connection_id": connection.lease.subject,
        "endpoint_id": endpoint.lease.subject,
        "delivery_id": await world.one("SELECT id FROM deliveries LIMIT 1"),
        "customer": "acme",
        "connector": "protheus",
    }
    lines = ["[parameters]", *(f'"path.{name}" = "{value}"' for name, value in known.items())]
    (tmp_path / "schemathesis.toml").write_text("\n".join(lines))
    async with serving_control(world) as api:
        told = await fuzzed(api, tmp_path, "--phases", "fuzzing", "--exclude-operation-id-regex", REMOVING)
        assert not told
