"""A connection's later life from the command line: looked at again, a new token, disconnected, exported."""

import base64
import os
import stat

import orjson
import pytest

pytest_plugins = ["tests.fixtures.cli"]


@pytest.fixture
def connected(relay, environment, database_url, erp):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    added = relay(*erp.arguments(), "--json")
    assert added.code == 0, added.err
    assert added.json["token"].startswith("rlyc_")
    return relay


def test_adding_tells_what_was_found_and_shows_the_token_once(relay, environment, database_url, erp):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    told = relay(*erp.arguments()).out
    (token,) = [line.rpartition(" ")[2] for line in told.splitlines() if "token of this connection" in line]
    assert token.startswith("rlyc_")
    assert "changes are found by" in told
    shown = relay("connections", "show", "protheus").out + relay("connections", "list", "--json").out
    assert token not in shown


def test_a_look_again_says_the_same(connected):
    look = connected("connections", "check", "protheus", "--json").json
    assert (look["orders"] > 0, look["found"]["changes"] != "") == (True, True)
    assert f"the first page has {look['orders']} orders" in connected("connections", "check", "protheus").out


def test_a_new_token_is_shown_or_written_to_a_file_of_its_own(connected, tmp_path):
    path = tmp_path / "token"
    told = connected("connections", "token", "protheus", "--token-file", path)
    assert (told.code, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600)
    assert path.read_text().strip() not in told.out
    other = connected("connections", "token", "protheus", "--json").json["token"]
    assert other != path.read_text().strip()
    assert other.startswith("rlyc_")


def test_a_disconnected_connection_keeps_its_history_and_has_no_token(connected, tmp_path):
    assert connected("connections", "disconnect", "protheus", "--yes").out.startswith("disconnected acme/protheus")
    assert connected("connections", "show", "protheus", "--json").json["state"] == "disconnected"
    refused = connected("connections", "token", "protheus")
    assert (refused.code, "reconnect" in refused.err) == (2, True)
    assert connected("connections", "resume", "protheus").code == 2
    path = tmp_path / "export.ndjson"
    told = connected("connections", "export", "protheus", "--file", path, "--json").json
    lines = path.read_bytes().splitlines()
    assert told == {"file": str(path), "lines": len(lines)}
    assert orjson.loads(lines[0])["connection"]["state"] == "disconnected"
