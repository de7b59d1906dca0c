"""The pages that a newcomer begins with, done as they stand."""

import os
import re
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.page import steps, terminals

ROOT = Path(__file__).parents[2]
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d{4}\b|(?<=--port )\d{4}\b")


@pytest.fixture
def home():
    # Not pytest's own folder: a socket's path may have 107 characters.
    path = Path(tempfile.mkdtemp(prefix="relay-home-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tools():
    """curl and jq, which the page asks its reader for."""
    missing = [name for name in ("curl", "jq") if shutil.which(name) is None]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"{' and '.join(missing)}: not here")
    assert not missing


def page(name):
    """The page's steps with free ports instead of its own, and which port took the place of relay's 8080."""
    text = (ROOT / name).read_text()
    with ExitStack() as stack:
        held = {each: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for each in set(PORT.findall(text))}
        free = {each: str(held[each].getsockname()[1]) for each in held}
    return steps(PORT.sub(lambda found: free[found[0]], text)), free["8080"]


def environment(home, port):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "RELAY_HTTP__PORT": port, "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
@pytest.mark.tryton
@pytest.mark.timeout(400)
async def test_the_quickstart_works_on_the_real_tryton(home, tools, tryton_installation):
    """From `relay up` to the end of the page: every command, and what the page says that it prints."""
    (setup, *rest), port = page("docs/quickstart.md")
    assert setup.commands.startswith("make setup\n"), "that is done: it made what runs this test"
    (home / "examples").symlink_to(ROOT / "examples")
    (home / ".relay" / "simulated").mkdir(parents=True)
    (home / ".relay" / "simulated" / "tryton-installed").symlink_to(tryton_installation)
    async with terminals(home, environment(home, port)) as opened:
        for step in rest:
            await opened.do(step)
