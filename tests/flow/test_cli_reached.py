"""Which relay a command speaks to: another machine's with a key, or this machine's by its socket."""

import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.api.app import application
from relay.api.core import Core
from relay.api.serving import Tls, served, served_locally
from relay.cli.processes import SOCKET
from relay.control.callers import Operators
from relay.domain.callers import Scope
from relay.store.database import opened
from relay.store.log import LogStore
from tests.fixtures.api import control_of
from tests.fixtures.certificates import Authority
from tests.fixtures.store import World

pytest_plugins = ["tests.fixtures.cli"]

ENDPOINT = ("endpoints", "add", "--customer", "acme", "--name", "hook", "--url", "https://93.184.215.14/")


@asynccontextmanager
async def elsewhere(database_url, *, tls=None, local=None):
    """Another relay: its address, and a key of each scope."""
    async with opened(database_url, connections=4) as database:
        control = control_of(World(database))
        core = Core(control, database)
        app = application({}, LogStore(database), core)
        keys = {}
        for scope in Scope:
            keys[scope] = (await Operators(core.callers).add(scope, scope)).key
        async with served(app, "127.0.0.1", 0, tls) as url:
            if local is None:
                yield url, keys
                return
            async with served_locally(app, local):
                yield url, keys


@pytest.fixture
def far(relay, environment, running, database_url):
    """A command line that knows another relay's address and an admin key, and no database."""
    with running(elsewhere(database_url)) as ((url, keys), _):
        environment.setenv("RELAY_API__URL", url)
        environment.setenv("RELAY_API__KEY", keys["admin"])
        yield relay, environment, keys


def test_another_machines_relay_is_worked_with_by_its_address_and_a_key(far):
    relay, _, _ = far
    assert relay(*ENDPOINT, "--json").code == 0
    assert [each["name"] for each in relay("endpoints", "list", "--json").json] == ["hook"]
    assert relay("endpoints", "show", "acme/hook", "--json").json["state"] == "active"
    missing = relay("endpoints", "show", "nothing", "--json")
    assert (missing.code, missing.error["code"]) == (4, "not_found")
    assert relay("endpoints", "remove", "hook", "--yes").code == 0


@pytest.mark.parametrize(
    ("noun", "begun", "offered"),
    [
        ("endpoints", "acm", "acme/hook"),
        ("endpoints", "ho", "hook"),
        ("endpoints", "x", ""),
        ("connections", "acm", ""),
    ],
)
def test_tab_offers_the_names_that_the_relay_knows(far, noun, begun, offered):
    relay, environment, _ = far
    assert relay(*ENDPOINT, "--json").code == 0
    for name, value in (("COMP_WORDS", f"relay {noun} show {begun}"), ("COMP_CWORD", "3")):
        environment.setenv(name, value)
    environment.setenv("_RELAY_COMPLETE", "complete_bash")
    program = [sys.executable, "-c", "from relay.cli import main; main()"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == (offered, "")


def test_the_keys_of_another_machines_relay_are_shown_checked_and_rotated_there(far):
    relay, _, _ = far
    assert relay(*ENDPOINT, "--json").code == 0
    shown = relay("keys", "show", "--json")
    assert (shown.code, shown.json["data_keys"]) == (0, 1), shown.err
    assert relay("keys", "check").out == "1 data keys and 1 sealed values were opened\n"
    assert relay("keys", "rotate", "--json").json["problems"] == []
    assert relay("keys", "rotate", "--data-keys", "--customer", "acme", "--json").json["done"] == 1
    assert relay("keys", "rotate", "--data-keys", "--customer", "nobody").code == 4
    noted = [(each["action"], each["subject"]) for each in relay("audit", "--most", "2", "--json").json]
    assert noted[1] == ("rotate_keys", "data_keys")


def test_a_key_that_may_not_is_told_what_it_lacks(far):
    relay, environment, keys = far
    environment.setenv("RELAY_API__KEY", keys["read"])
    told = relay(*ENDPOINT)
    assert (told.code, "scope `write`" in told.err) == (2, True)
    environment.setenv("RELAY_API__KEY", "rlyk_canary")
    told = relay("endpoints", "list")
    assert (told.code, "canary" in told.err, "RELAY_API__KEY" in told.err) == (2, False, True)


def test_a_key_may_stand_in_a_file(far, tmp_path):
    relay, environment, keys = far
    environment.delenv("RELAY_API__KEY")
    told = relay("endpoints", "list")
    assert (told.code, "RELAY_API__KEY_FILE" in told.err) == (2, True)
    environment.setenv("RELAY_API__KEY_FILE", str(tmp_path / "key"))
    told = relay("endpoints", "list")
    assert (told.code, "cannot be read" in told.err) == (2, True)
    (tmp_path / "key").write_text(f"{keys['read']}\n")
    assert relay("endpoints", "list", "--json").json == []


def test_nobody_at_the_address_is_told(relay, environment):
    environment.setenv("RELAY_API__URL", "http://127.0.0.1:1")
    environment.setenv("RELAY_API__KEY", "rlyk_x")
    told = relay("endpoints", "list")
    assert (told.code, "relay does not answer at 127.0.0.1:1: " in told.err) == (3, True)


def test_somebody_else_at_the_address_is_told(relay, environment, running):
    async def no_relay(scope, _receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>no such page</html>"})

    with running(served(no_relay, "127.0.0.1", 0)) as (url, _):
        environment.setenv("RELAY_API__URL", url)
        environment.setenv("RELAY_API__KEY", "rlyk_x")
        told = relay("endpoints", "list")
    assert (told.code, "check RELAY_API__URL" in told.err) == (2, True)


def test_a_certificate_is_verified(relay, environment, running, database_url, tmp_path):
    authority = Authority()
    certificate, key = authority.issued(None, "127.0.0.1")
    for name, text in (("certificate", certificate), ("key", key), ("authority", authority.root)):
        (tmp_path / name).write_text(text)
    tls = Tls(tmp_path / "certificate", tmp_path / "key")
    with running(elsewhere(database_url, tls=tls)) as ((url, keys), _):
        environment.setenv("RELAY_API__URL", url)
        environment.setenv("RELAY_API__KEY", keys["admin"])
        told = relay("endpoints", "list")
        assert (told.code, "certificate" in told.err.lower()) == (3, True)
        environment.setenv("RELAY_API__CA_FILE", str(tmp_path / "authority"))
        assert relay("endpoints", "list", "--json").json == []
        environment.setenv("RELAY_API__CA_FILE", str(tmp_path / "none"))
        assert relay("endpoints", "list").code == 2


def test_relay_up_of_this_machine_is_worked_with_by_its_socket(relay, environment, running, database_url):
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:  # short: a socket's path has 103 characters at most
        environment.setenv("RELAY_DATA", folder)
        with running(elsewhere(database_url, local=Path(folder) / SOCKET)):
            assert relay(*ENDPOINT, "--json").code == 0
            assert [each["name"] for each in relay("endpoints", "list", "--json").json] == ["hook"]
        assert not [*Path(folder).iterdir()], "no database of its own was made"
