"""A stolen database: every table, every file of PostgreSQL and all that processes wrote, searched for secrets.

Secrets take the ways that they take at work: over the command line and over HTTP, into a worker that uses them, through
rotations of both kinds of keys.
"""

import asyncio
import base64
import os
import re
import secrets
from urllib.parse import quote

import asyncpg
import httpx
import orjson
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.receiver import receiver
from relay.domain.signing import new_secret, parse_secret
from relay.embedded import broker, postgres
from relay.store.database import opened
from relay.store.keys import KeyStore
from relay.vault import Keyring, MasterKeys
from tests.fixtures.line import PATIENCE, RELAY, SHORT, eventually

pytestmark = pytest.mark.timeout(240)

LOGIN, BEARER, HEADER, LATER = "canary-login-6e1f", "canary-bearer-77aa", "canary-header-01bc", "canary-later-90de"
OTHER = new_secret(b"0" * 32)
NAME = "a-customer-that-is-found"


def forms(secret):
    """A secret as it could stand in a file: as it is, in hex, in a URL, in base64 wherever it begins."""
    yield from (secret, secret.hex().encode(), secret.hex().upper().encode(), quote(secret).encode())
    for before in range(3):
        # What stands around it changes the first and the last of its characters.
        yield base64.b64encode(b"\x00" * before + secret)[4:-4]


class Installed:
    """An installation whose every process writes to a file."""

    def __init__(self, folder, environment):
        self.folder, self.environment, self.logs = folder, environment, []

    def log(self):
        self.logs.append(self.folder / f"log-{len(self.logs)}")
        return self.logs[-1].open("wb")

    async def relay(self, *arguments, given=None):
        """The result of a command; what it showed on standard error is kept."""
        with self.log() as err:
            process = await asyncio.create_subprocess_exec(
                RELAY,
                *arguments,
                "--json",
                env=self.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=err,
            )
            out, _ = await asyncio.wait_for(process.communicate(given), PATIENCE)
        assert process.returncode == 0, self.logs[-1].read_text()
        return orjson.loads(out)

    def logged(self):
        """What all processes have written so far."""
        return b"".join(each.read_bytes() for each in self.logs)

    def served(self):
        """Where the worker is served, once it is."""
        found = re.search(rb'"health":"(http[^"]+)"', self.logged())
        return found and found[1].decode()

    async def worker(self):
        with self.log() as log:
            return await asyncio.create_subprocess_exec(RELAY, "worker", env=self.environment, stdout=log, stderr=log)


async def dumped(url):
    """Every row of every table, as text."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [
            row["row"]
            for table in tables
            for row in await connection.fetch(f'SELECT to_jsonb(t)::text AS row FROM "{table["tablename"]}" AS t')
        ]
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    assert rows
    # Bytes are shown in hex there, and forms() has that.
    return "\n".join(rows).encode()


def read(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def searched(places, secrets):
    """Where which secret was found; a place is bytes by name."""
    return [
        (name, secret)
        for name, content in places.items()
        for secret in secrets
        if any(form in content for form in forms(secret))
    ]


@pytest.fixture
async def here(short_folder, tmp_path):
    """An installation with a PostgreSQL of its own in `short_folder`, and a master key."""
    async with postgres(short_folder / "data") as url, broker(tmp_path / "broker") as running:
        (logs := tmp_path / "logs").mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "RELAY_DATABASE__URL": url,
            "RELAY_KAFKA__BOOTSTRAP": running.bootstrap,
            "RELAY_VAULT__MASTER_KEY_FILE": str(tmp_path / "master.key"),
            **SHORT,
            "RELAY_LOG__LEVEL": "debug",
        }
        installed = Installed(logs, environment)
        await installed.relay("keys", "new", "--file", str(tmp_path / "master.key"))
        await installed.relay("migrate")
        yield installed


async def data_keys(url, keyring):
    """All data keys as they are in the memory of whoever unwraps them, and the master keys."""
    async with opened(url, connections=1) as database:
        keys = await KeyStore(database).page(None, 100)
        return [await MasterKeys.of(keyring).unwrap(key) for key in keys] + list(keyring.keys.values())


async def test_nothing_secret_is_in_the_database_its_files_or_any_log(here, short_folder, tmp_path):
    url, keyring = here.environment["RELAY_DATABASE__URL"], Keyring.from_file(tmp_path / "master.key")
    async with simulated_protheus(Options(password=LOGIN)) as erp, receiver([parse_secret(OTHER)]) as hook:
        erp.seed(5)
        arguments = ("--customer", NAME, "--name", "erp", "--poll-every", "1s", "--set", f"url={erp.url}")
        given = ("--set", f"tenant={erp.tenant}", "--set", "all_branches=true", "--credentials-file", "-")
        added = await here.relay("connections", "add", "protheus", *arguments, *given, given=login(erp.username, LOGIN))
        operator = (await here.relay("operators", "add", "ci", "--scope", "write"))["key"]
        worker = await here.worker()
        await eventually(here.served, "the worker serves")
        access = {"headers": {"X-Tenant": HEADER}, "auth": {"kind": "bearer", "token": BEARER}}
        async with httpx.AsyncClient(base_url=here.served(), headers={"authorization": f"Bearer {operator}"}) as client:
            wanted = {"customer": NAME, "name": "hook", "url": hook.url, "access": access}
            made = await client.post("/v1/endpoints", json=wanted, headers={"idempotency-key": secrets.token_hex(16)})
            assert made.status_code == 201, made.text
        hook.trust([parse_secret(first := made.json()["secret"])])
        order = erp.create_order([NewLine("PAR-M8-30", 1, 1.25)])
        assert order
        await eventually(lambda: hook.tally.unique, "a webhook with all of it")
        before = await data_keys(url, keyring)
        second = (await here.relay("endpoints", "rotate", "hook"))["secret"]
        await here.relay("keys", "rotate", "--data-keys")
        await here.relay("keys", "check")
        again = ("connections", "reconnect", "erp", "--no-check", "--credentials-file", "-")
        added_again = await here.relay(*again, given=login(erp.username, LATER))
        await eventually(lambda: b"needs_reconnect" in here.logged(), "the ERP refuses the wrong login")
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0
        tokens = [added["token"], added_again["token"], operator]
        told = [LOGIN, BEARER, HEADER, LATER, *tokens, *(each.removeprefix("whsec_") for each in (first, second))]
        hidden = [each.encode() for each in told] + [
            base64.b64decode(each.removeprefix("whsec_")) for each in (first, second)
        ]
        hidden += [*before, *await data_keys(url, keyring)]
        places = {"the dump": await dumped(url), **read(short_folder), **read(tmp_path / "broker"), **read(here.folder)}
    assert searched(places, hidden) == []
    found = {name for name, _ in searched(places, [NAME.encode()])}
    assert "the dump" in found
    assert any("pg_wal" in str(each) for each in found), "whoever searches so finds what is there"
    assert any("base" in str(each) for each in found)


def login(username, password):
    return orjson.dumps({"username": username, "password": password})
