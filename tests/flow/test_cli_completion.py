"""What a shell offers when somebody presses Tab: quick, and silent when there is nobody to ask."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("relay")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, and relay on the path; no settings of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith("RELAY_") and not name.startswith("RELAY_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def offered(*words, **settings):
    """What bash is offered for the last of the words."""
    asking = {
        "COMP_WORDS": " ".join(("relay", *words)),
        "COMP_CWORD": str(len(words)),
        "_RELAY_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [PROGRAM], env={**os.environ, **asking, **settings}, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("conne",), ["connectors", "connections"]),
        (("orders", ""), ["list", "show", "history"]),
        (("orders", "list", "--dele"), ["--deleted"]),
        (("connections", "add", ""), ["protheus", "rm", "tryton"]),
        (("connectors", "show", "pro"), ["protheus"]),
        (("endpoints", "show", ""), []),
    ],
    ids=" ".join,
)
def test_commands_options_and_connectors_are_offered(home, words, expected):
    assert offered(*words) == expected


def test_bash_itself_completes_with_the_script_that_is_installed(home):
    # A command after it keeps bash alive: its process is how the shell is recognized.
    subprocess.run(["bash", "-c", "relay --install-completion; exit $?"], check=True, capture_output=True, timeout=60)
    asking = "COMP_WORDS=(relay connections pau) COMP_CWORD=2; _relay_completion relay; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f". {home}/.bashrc; {asking}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "pause\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"RELAY_API__URL": "http://127.0.0.1:1", "RELAY_API__KEY": "rlyk_x"},
        {"RELAY_API__URL": "http://127.0.0.1:1"},
        {"RELAY_API__URL": "no address"},
        {"RELAY_DATABASE__URL": "postgresql://nobody@127.0.0.1:1/x"},
    ],
    ids=["nobody there", "no key", "settings that cannot be used", "only a database"],
)
def test_nothing_is_offered_or_said_when_no_relay_answers(home, settings):
    assert offered("connections", "show", "", **settings) == []


def test_nobody_waits_for_a_relay_that_hangs(home):
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # takes connections and never answers
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        assert offered("endpoints", "show", "", RELAY_API__URL=url, RELAY_API__KEY="rlyk_x") == []


def test_no_relay_is_started_for_a_socket_that_a_killed_one_left(home):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home / "relay.sock"))
    assert offered("connections", "show", "", RELAY_DATA=str(home)) == []
    assert [each.name for each in home.iterdir()] == ["relay.sock"]
