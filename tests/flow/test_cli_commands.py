"""`relay commands` on a real database: what is sent, what is shown, and how it ends for scripts."""

import base64
import os
from pathlib import Path

import orjson
import pytest

from relay.domain.commands import command_key
from relay.domain.ed25519_keys import new_private_key, public_key

pytest_plugins = ["tests.fixtures.cli"]

pytestmark = pytest.mark.timeout(120)

CANCEL = {"type": "cancel", "remote_id": "p1"}


@pytest.fixture
def installed(relay, environment, database_url, tmp_path):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    environment.setenv("RELAY_VAULT__MASTER_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
    environment.chdir(tmp_path)
    login = tmp_path / "login.json"
    login.write_bytes(orjson.dumps({"username": "relay", "password": "canary"}))
    settings = ("--set", "url=http://127.0.0.1:1/rest", "--set", "tenant=T1,D MG 01")
    added = relay(
        *("connections", "add", "protheus", "--customer", "acme", "--name", "erp", *settings),
        *("--credentials-file", login, "--no-check", "--json"),
    )
    assert added.code == 0, added.err
    relay.connection_id = added.json["connection"]["id"]
    return relay


def written(*commands):
    Path("commands.json").write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in commands))
    return "commands.json"


def test_a_command_is_sent_for_a_connection_by_its_name_and_gets_an_id(installed):
    sent = installed("commands", "send", written(CANCEL), "--connection", "acme/erp", "--wait", "0s", "--json")
    assert (sent.code, sent.json["outcome"]) == (0, "accepted")
    known = sent.json
    assert known["id"] == command_key(installed.connection_id, known["command_id"])
    assert known["command"] == {**CANCEL, "connection_id": installed.connection_id, "command_id": known["command_id"]}
    for name in ([known["id"]], [known["command_id"], "--connection", "erp"]):
        assert installed("commands", "show", *name, "--json").json == known
    assert [each["id"] for each in installed("commands", "list", "erp", "--order", "p1", "--json").json] == [
        known["id"]
    ]
    told = installed("commands", "show", known["id"]).out
    assert "waits for      its turn\n" in told
    assert "\nremote id      p1\n" in told


def test_a_file_of_commands_is_sent_as_a_whole_and_the_same_again_is_the_same(installed):
    file = written(*({**CANCEL, "command_id": f"c{number}", "remote_id": f"p{number}"} for number in range(3)))
    for _ in range(2):
        sent = installed("commands", "send", file, "--connection", "erp", "--wait", "0s", "--json")
        assert [each["command_id"] for each in sent.json] == ["c0", "c1", "c2"]
    assert len(installed("commands", "list", "--json").json) == 3
    table = installed("commands", "send", file, "--connection", "erp", "--wait", "0s").out
    assert len(table.splitlines()) == 4


def test_a_dry_run_leaves_the_id_to_the_command_itself(installed):
    file = written({**CANCEL, "command_id": "c1"})
    tried = installed("commands", "send", file, "--connection", "erp", "--dry-run", "--wait", "0s", "--json").json
    assert (tried["dry_run"], tried["command_id"] == "c1") == (True, False)
    assert installed("commands", "send", file, "--connection", "erp", "--wait", "0s", "--json").json["dry_run"] is False


def test_what_is_not_over_in_time_and_what_is_refused_have_codes_of_their_own(installed):
    file = written({**CANCEL, "command_id": "c1"})
    late = installed("commands", "send", file, "--connection", "erp", "--wait", "1s")
    assert (late.code, late.err) == (3, "waiting up to 1 s for results ...\n")
    assert installed("connections", "disconnect", "erp", "--yes").code == 0
    refused = installed("commands", "send", written(CANCEL), "--connection", "erp")
    assert refused.code == 1
    assert "\nrefused, auth_required: the connection is disconnected" in refused.out
    assert "What to do: give it new credentials" in refused.out
    (listed,) = installed("commands", "list", "--outcome", "rejected", "--json").json
    assert listed["why"].startswith("auth_required: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "commands.json holds no commands: see `relay commands example create`"),
        (b'{"type": "cancel"', "commands.json is neither JSON nor one JSON object a line: see line 1"),
        (b"\xff", "commands.json cannot be read: it is no text"),
        (b'{"type": "cancel", "remote_id": "p1"}', "commands.json: connection_id: Field required (--connection fills"),
        (
            b'[{"type": "cancel", "remote_id": "p1", "connection_id": "con_1"}, {"type": "explode"}]',
            "commands.json, command 2: type: expected one of create, update",
        ),
    ],
)
def test_nothing_is_sent_when_one_command_cannot_be_read(installed, content, message):
    Path("commands.json").write_bytes(content)
    refused = installed("commands", "send", "commands.json")
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert installed("commands", "list").out == "no commands\n"


def test_what_is_not_there_is_said_so(installed):
    for arguments, code, message in (
        (["send", "nowhere.json"], 2, "nowhere.json cannot be read: No such file or directory"),
        (["show", "c-1"], 2, "'c-1' is a sender's id: say which connection, too (--connection)"),
        (["show", "c-1", "--connection", "erp"], 4, "erp has no command 'c-1'"),
        (["show", f"cmd_{'0' * 32}"], 4, "there is no command"),
        (["list", "other"], 4, "there is no connection 'other'"),
    ):
        told = installed("commands", *arguments)
        assert (told.code, message in told.err) == (code, True), told.err


def test_an_example_can_be_sent_as_it_is_printed(installed):
    example = installed("commands", "example", "create", "--connection", "erp")
    assert example.json["connection_id"] == installed.connection_id
    Path("commands.json").write_text(example.out)
    assert installed("commands", "send", "commands.json", "--wait", "0s", "--json").json["type"] == "create"


def test_a_key_for_signed_commands_is_made_here_and_only_its_public_half_goes_to_relay(installed):
    made = installed("connections", "command-key", "set", "erp", "--key-file", "command.key", "--json")
    private = Path("command.key").read_text().strip()
    assert (made.code, made.json["public_key"]) == (0, public_key(private))
    assert (Path("command.key").stat().st_mode & 0o777, private in made.out) == (0o600, False)
    assert installed("connections", "command-key", "show", "acme/erp", "--json").json == made.json
    other = public_key(new_private_key(b"k" * 32))
    assert other in installed("connections", "command-key", "set", "erp", "--public-key", other).out
    assert installed("connections", "command-key", "clear", "erp").out.endswith("no command key\n")
    for arguments, message in (
        ([], "give --public-key KEY, or --key-file FILE"),
        (["--public-key", "whpk_x"], "the public key is not base64"),
        (["--key-file", "command.key"], "--key-file command.key exists"),
    ):
        refused = installed("connections", "command-key", "set", "erp", *arguments)
        assert (refused.code != 0, message in refused.err) == (True, True), refused.err
