"""Pull tokens from the command line, and `relay api` as a process that takes them."""

import asyncio
import base64
import os
import stat
import sys

import httpx
import orjson
import pytest

from relay.domain.tokens import digest_of
from relay.store.database import opened

pytest_plugins = ["tests.fixtures.cli"]

COMMAND = [sys.executable, "-c", "from relay.cli import main; main()"]
ENDPOINT = ("endpoints", "add", "--customer", "acme", "--name", "hook", "--url", "https://93.184.215.14/hook")


@pytest.fixture
def installed(relay, environment, database_url):
    """An installation with one endpoint."""
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    assert relay(*ENDPOINT, "--signing", "ed25519").code == 0
    return relay


def stored(database_url):
    async def asked():
        async with opened(database_url, connections=1) as database, database.session() as connection:
            return await connection.fetchval("SELECT pull_token FROM endpoints")

    return asyncio.run(asked())


def test_a_token_is_shown_once_and_revoked(installed, database_url):
    told = installed("endpoints", "pull-token", "hook")
    assert told.code == 0
    first, where = told.out.splitlines()
    token = first.removeprefix("pull token, shown only now: ")
    assert stored(database_url) == digest_of(token)
    endpoint = installed("endpoints", "show", "hook", "--json")
    assert where == f"good for GET /v1/endpoints/{endpoint.json['id']}/events"
    assert token not in endpoint.out + installed("endpoints", "show", "hook").out
    again = installed("endpoints", "pull-token", "acme/hook", "--json").json
    assert again["token"] != token
    assert stored(database_url) == digest_of(again["token"])
    ended = installed("endpoints", "pull-token", "hook", "--revoke")
    assert ended.out == f"no pull token is good for acme/hook ({endpoint.json['id']})\n"
    assert stored(database_url) is None
    assert installed("endpoints", "pull-token", "hook", "--revoke", "--json").json["id"] == endpoint.json["id"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_token_in_a_file_is_not_shown(installed, database_url, tmp_path, more):
    path = tmp_path / "token"
    told = installed("endpoints", "pull-token", "hook", "--token-file", path, *more)
    token = path.read_text().strip()
    assert (told.code, token in told.out) == (0, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stored(database_url) == digest_of(token)
    again = installed("endpoints", "pull-token", "hook", "--token-file", path)
    assert (again.code, f"--token-file {path} exists" in again.err) == (1, True)
    assert stored(database_url) == digest_of(token), "it still is what the file says"


def test_an_endpoint_that_is_not_there_gets_no_token_and_no_file(installed, tmp_path):
    path = tmp_path / "token"
    assert installed("endpoints", "pull-token", "nobody", "--token-file", path).code == 4
    assert not path.exists()


def test_the_api_process_gives_logs_and_keys(installed, tmp_path):
    made = installed("endpoints", "pull-token", "hook", "--json").json
    keys = installed("endpoints", "keys", "hook", "--json").json
    found = asyncio.run(asked_of_a_process(tmp_path, made["path"], made["token"]))
    assert found["events"] == (200, {"events": [], "last": 0, "more": False, "next": found["events"][1]["next"]})
    assert found["keys"][1]["public_keys"] == [each["public_key"] for each in keys]


async def asked_of_a_process(tmp_path, path, token):
    with (tmp_path / "api.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "api",
            env={**os.environ, "RELAY_HTTP__PORT": "0", "RELAY_KAFKA__BOOTSTRAP": "127.0.0.1:1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().split()[-1]
            async with httpx.AsyncClient(base_url=url) as client:
                log_reply = await client.get(path, headers={"authorization": f"Bearer {token}"})
                keys_reply = await client.get(path.replace("/events", "/keys"))
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = (tmp_path / "api.log").read_text()
    assert token not in told
    return {
        name: (reply.status_code, orjson.loads(reply.content))
        for name, reply in (("events", log_reply), ("keys", keys_reply))
    }
