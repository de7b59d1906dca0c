"""The command line without a database: what is refused, how it is told, and how a command ends."""

import gc
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import orjson
import pytest
import typer

from relay import __version__
from relay.cli.commands import sent
from relay.cli.program import ARRANGED, app
from relay.cli.running import GARBAGE, settled
from relay.cli.shown import brief, clean, details, table, worded
from relay.domain.commands import CommandType, read_command
from relay.domain.errors import Throttled
from relay.vault.keyring import Keyring

pytest_plugins = ["tests.fixtures.cli"]

CANARY = "canary-Senha#9"
ADD = ("connections", "add", "protheus", "--customer", "acme", "--set", "url=https://erp.example/rest")
TENANT = ("--set", "tenant=T1,01")


HEAVY = ("aiokafka", "alembic", "asyncpg", "fastapi", "faststream", "httpx", "pyreqwest", "sqlalchemy")


@pytest.mark.parametrize(
    ("loaded", "heavy"),
    [("relay.cli", HEAVY), ("relay.app.working", ("alembic", "sqlalchemy"))],
    ids=["help loads no library of the work", "a worker loads none of migrations"],
)
def test_what_a_process_does_not_need_is_not_loaded(loaded, heavy):
    code = f"import {loaded}, sys; print(*sys.modules.keys() & {set(heavy)})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_the_version_is_told(relay, arguments):
    told = relay(*arguments)
    assert (told.code, told.out) == (0, f"relay {__version__}\n")


def test_the_version_is_told_as_json(relay):
    assert relay("version", "--json").json == {"version": __version__}


def test_help_lists_every_command(relay):
    told = relay("--help")
    assert told.code == 0
    for name in ("up", "worker", "api", "migrate", "connections", "endpoints", "deliveries", "listen", "demo"):
        assert re.search(rf"\b{name}\b", told.out)
    places = [told.out.index(f"─ {group} ") for group in ARRANGED]
    assert places == sorted(places)


def every_command(command, path=()):
    parts = getattr(command, "commands", {})
    if not parts:
        yield path, command
    for name, part in parts.items():
        yield from every_command(part, (*path, name))


def test_every_command_that_ends_by_itself_answers_scripts_in_json():
    silent = {
        path
        for path, command in every_command(typer.main.get_command(app))
        if not any("--json" in each.opts for each in command.params)
    }
    assert silent == {("worker",), ("api",)}


@pytest.mark.parametrize(
    "noun",
    ["connectors", "customers", "connections", "orders", "commands", "endpoints", "deliveries", "replay", "operators"],
)
def test_every_noun_is_listed(noun):
    assert "list" in typer.main.get_command(app).commands[noun].commands


def test_a_group_without_a_command_shows_its_help(relay):
    told = relay("connections")
    assert told.code == 2
    assert "mapping" in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["conections"], "No such command 'conections'"),
        (["connections", "add"], "Missing argument 'CONNECTOR'"),
        (["connections", "add", "protheus"], "Missing option '--customer'"),
        (["connections", "list", "--jsno"], "No such option: --jsno"),
        (["deliveries", "list", "--most", "0"], "Invalid value for '--most'"),
        (["endpoint", "list"], "No such command 'endpoint'. Did you mean 'endpoints'? See `relay --help`."),
        (["commands", "example", "explode"], "Invalid value for 'TYPE': 'explode' is not one of 'create', 'update'"),
        (["endpoints", "change", "x"], "nothing to change: give at least one of the options"),
        (["endpoints", "change", "x", "--access-file", "a", "--no-access"], "give --access-file or --no-access"),
        (["deliveries", "list", "--since", "foo"], "'foo' is not a time: write it like 2026-12-01T08:00Z, or how long"),
        (["replay", "start", "x", "--status", "foo"], "Invalid value for '--status': 'foo' is not one of 'delivered'"),
        ([*ADD, "--poll-every", "soon"], "'soon' is not a time span: write it like 250ms, 15s, 2m, 1h or 3d"),
        (["connectors", "show", "sap"], "there is no connector 'sap': the known ones are protheus, rm, tryton"),
        (["connections", "add", "sap", "--customer", "acme"], "there is no connector 'sap'"),
        ([*ADD, "--set", "tenant"], "--set 'tenant' cannot be read: write it as --set NAME=VALUE"),
        ([*ADD, "--set", "currencies={1"], "--set currencies: the value begins like JSON and is none"),
        ([*ADD, *TENANT], "no terminal to ask for username, password: give --credentials-file FILE"),
        ([*ADD, *TENANT, "--credentials-file", "/nowhere"], "--credentials-file /nowhere cannot be read"),
        (["listen"], "no terminal to ask for the signing secret: give --secret-file FILE or set RELAY_LISTEN_SECRET"),
        (["worker"], "RELAY_DATABASE__URL and RELAY_KAFKA__BOOTSTRAP must be set"),
        (["api"], "RELAY_DATABASE__URL and RELAY_KAFKA__BOOTSTRAP must be set"),
    ],
)
def test_what_cannot_be_used_is_named_in_words_and_as_json(relay, arguments, message):
    told = relay(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("relay: ")
    assert message in told.err
    as_json = relay(*arguments, "--json") if arguments[0] not in {"worker", "api"} else None
    if as_json and "jsno" not in message:
        assert as_json.code == 2
        assert as_json.error["code"] == "usage"
        assert message in as_json.error["message"]


def test_every_missing_or_wrong_setting_is_named_with_what_belongs_there(relay):
    told = relay("connections", "add", "protheus", "--customer", "a", "--set", "stamps=often", "--set", "urll=x")
    assert told.code == 2
    lines = told.err.splitlines()
    assert lines[0] == "relay: the settings of protheus cannot be used:"
    assert any(re.match(r"  url is missing \(REST address .*\)", line) for line in lines)
    assert any(re.match(r"  tenant is missing \(Company and branch", line) for line in lines)
    assert any(re.match(r"  stamps: Input should be 'auto', 'on' or 'off'", line) for line in lines)
    assert any(re.match(r"  urll is not known; the known ones are url, tenant", line) for line in lines)


def test_an_address_with_a_password_in_it_is_refused_and_not_repeated(relay):
    told = relay("connections", "add", "protheus", "--customer", "a", "--set", f"url=https://u:{CANARY}@erp.example/")
    assert told.code == 2
    assert CANARY not in told.err + told.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"username": "u", "password": "{CANARY}"', "begin like JSON and are none"),
        (f"username=u\n{CANARY}\n", "line 2 of the credentials is not name=value"),
    ],
)
def test_credentials_that_cannot_be_read_are_not_repeated(relay, tmp_path, text, message):
    file = tmp_path / "credentials"
    file.write_text(text)
    told = relay(*ADD, *TENANT, "--credentials-file", file)
    assert told.code == 2
    assert message in told.err
    assert CANARY not in told.err + told.out


def test_a_setting_of_the_environment_that_cannot_be_read_is_named(relay, environment):
    environment.setenv("RELAY_LEASES__TTL", CANARY)
    told = relay("connections", "list")
    assert told.code == 2
    assert "RELAY_LEASES__TTL" in told.err
    assert CANARY not in told.err


def test_a_database_that_does_not_answer_is_another_exit_code(relay, environment):
    environment.setenv("RELAY_DATABASE__URL", "postgresql://relay:canary-senha@127.0.0.1:1/relay")
    told = relay("connections", "list", "--json")
    assert (told.code, told.error["code"], told.error["exit_code"]) == (3, "unavailable", 3)
    assert "PostgreSQL does not answer" in told.error["message"]
    assert "canary" not in told.err


# Connectors and keys


async def test_many_commands_are_sent_in_their_order_though_relay_asks_for_a_pause():
    taken, refuse = [], [False, True, True, False, True]

    class Relay:
        async def send_command(self, command):
            if refuse and refuse.pop():
                raise Throttled("too many calls: wait 1 s")
            taken.append(command)

    await sent(Relay(), [{"command_id": str(number)} for number in range(4)], timedelta(0), pause=0)
    assert [each["command_id"] for each in taken] == ["0", "1", "2", "3"]
    assert refuse == []


@pytest.mark.parametrize("kind", CommandType)
def test_a_filled_command_of_each_type_is_printed_and_each_has_an_id_of_its_own(relay, kind):
    one, other = (read_command(relay("commands", "example", kind).json) for _ in range(2))
    assert (one.type, one.command_id == other.command_id) == (kind, False)
    assert one == other.model_copy(update={"command_id": one.command_id})


def test_connectors_are_listed_with_what_each_asks_for(relay):
    assert {"name": "tryton", "title": "Tryton"}.items() <= relay("connectors", "--json").json[2].items()
    assert relay("connectors", "list").out == relay("connectors").out != ""
    form = relay("connectors", "show", "protheus", "--json").json
    fields = {each["name"]: each for each in form["settings"]}
    assert fields["tenant"]["required"]
    assert fields["stamps"] | {"description": ""} == {
        "name": "stamps",
        "type": "one of auto, on, off",
        "required": False,
        "default": "auto",
        "description": "",
        "secret": False,
    }
    assert [(each["name"], each["secret"]) for each in form["credentials"]] == [("username", False), ("password", True)]
    text = relay("connectors", "show", "protheus").out
    assert re.search(r"^tenant +text +required +Company and branch", text, re.MULTILINE)


def test_a_new_master_key_is_one_that_the_keyring_takes(relay):
    told = relay("keys", "new")
    assert told.code == 0
    assert len(Keyring.from_text(told.out.strip()).keys) == 1
    as_json = relay("keys", "new", "--json").json
    assert Keyring.from_text(as_json["master_key"]).current == as_json["key_id"]


def test_a_new_master_key_file_is_private_and_never_replaces_another(relay, tmp_path):
    file = tmp_path / "master.key"
    told = relay("keys", "new", "--file", file)
    assert told.code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    key = file.read_text().partition(":")[2].strip()
    assert key not in told.out
    again = relay("keys", "new", "--file", file)
    assert again.code == 1
    assert "a master key is never overwritten" in again.err
    assert file.read_text().partition(":")[2].strip() == key


# What is shown


def test_text_from_outside_moves_no_cursor_and_is_no_markup(capsys):
    table(("name",), [("\x1b[2J[red]x[/red]\n",)], empty="none")
    assert capsys.readouterr().out == "name\n\ufffd[2J[red]x[/red]\ufffd\n"
    details({"name": "a\x07b", "empty": None})
    assert capsys.readouterr().out == "name   a\ufffdb\n"


def test_a_long_text_has_its_beginning_in_a_table():
    assert brief("x" * 60) == "x" * 60
    assert (
        brief("the challenge was not answered: " * 3) == "the challenge was not answered: the challenge was not ans..."
    )
    assert brief(None) == ""


def test_options_of_endpoints_show_defaults_as_they_are_given(relay):
    assert re.search(r"^disable_after +time span +3d ", relay("endpoints", "options").out, re.MULTILINE)


def test_values_are_worded():
    assert worded(["a", True, None]) == "a, yes, "
    assert worded({"a": 1, "b": False}) == "a=1, b=no"
    assert clean("São João") == "São João"


# How a command ends

WAITS = """
import asyncio
from relay.cli.running import run, stopping
async def main():
    async with stopping() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("stopped", flush=True)
        {then}
run(main())
"""


def started(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_a_command_finish(number):
    with started(WAITS.format(then="")) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"stopped\n")
    assert b"once more ends at once" in err


def test_the_second_signal_ends_at_once():
    with started(WAITS.format(then="await asyncio.Event().wait()")) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"stopped\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err


DEAF = """
import asyncio
from relay.cli import running
async def deaf():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
async def main():
    global task
    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    raise ValueError("the reason")
running.LAST_SECONDS = 0.2
running.run(main())
"""


def test_a_task_that_never_ends_does_not_keep_the_process():
    with started(DEAF) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"does not end although it was told to" in err


INTERRUPTED = """
import asyncio, sys
from relay.cli import program
from relay.cli.running import run
@program.app.command("wait")
def wait():
    async def forever():
        print("ready", flush=True)
        await asyncio.Event().wait()
    run(forever())
program.main(["wait"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_says_so_by_its_exit_code(number):
    with started(INTERRUPTED) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"relay: interrupted\n")


def test_a_command_that_a_script_started_in_the_background_ends_when_it_is_asked_to():
    in_the_background = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    with started(in_the_background + INTERRUPTED) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"relay: interrupted\n")


def test_a_reader_that_has_enough_gets_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from relay.cli import main; main()", "connectors", "show", "protheus", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


BUG = """
from relay.cli import program
@program.app.command("break")
def broken():
    password = "canary-local"
    raise ValueError("a bug")
program.main(["break"])
"""


def test_a_bug_is_one_line_for_people_and_a_traceback_for_the_log():
    with started(BUG) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, b"")
    assert err.splitlines()[-1].startswith(b"relay: unexpected ValueError: this is a bug in relay")
    assert b"relay.failed" in err
    assert b"Traceback" in err
    assert b"canary-local" not in err.replace(b'password = "canary-local"', b"")


def test_a_bug_is_json_when_json_was_asked_for():
    with started(
        BUG.replace('["break"]', '["break", "--json"]').replace("broken()", "broken(json: bool = False)")
    ) as p:
        _, err = p.communicate(timeout=30)
    assert orjson.loads(err.splitlines()[-1])["error"]["code"] == "failed"


def test_what_is_there_when_a_worker_begins_is_not_looked_at_as_garbage():
    before = gc.get_threshold()
    try:
        settled()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == GARBAGE
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
