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
    """The page's steps with free ports instead of its own, without what made this environment; relay's own port."""
    text = re.sub(r"^make setup.*\n(\. \.venv.*\n)?", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    with ExitStack() as stack:
        ports = {"8080", *PORT.findall(text)}
        held = {each: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for each in ports}
        free = {each: str(held[each].getsockname()[1]) for each in held}
    return steps(PORT.sub(lambda found: free[found[0]], text)), free["8080"]


def environment(home, port):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "RELAY_HTTP__PORT": port, "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_the_readmes_first_connection_works(home):
    """A change arrives, verified; and each program ends well when it is asked to."""
    todo, port = page("README.md")
    async with terminals(home, environment(home, port)) as opened:
        for step in todo:
            if step.commands.startswith("relay listen"):
                step.prints.append("verified  purchase_order.snapshot")
            await opened.do(step)
    up, erp, listening = opened.programs
    assert [each.returncode for each in (up, erp, listening)] == [0, 0, 0]
    assert re.search(r"refused 0, unverified 0, .* duplicates 0, out of order 0", opened.ended[listening])
    assert "worker.stopped" in opened.ended[up]


@pytest.mark.slow
@pytest.mark.tryton
@pytest.mark.timeout(400)
async def test_the_quickstart_works_on_the_real_tryton(home, tools, tryton_installation):
    """From `relay up` to the end of the page: every command, and what the page says that it prints."""
    todo, port = page("docs/quickstart.md")
    (home / "examples").symlink_to(ROOT / "examples")
    (home / ".relay" / "simulated").mkdir(parents=True)
    (home / ".relay" / "simulated" / "tryton-installed").symlink_to(tryton_installation)
    async with terminals(home, environment(home, port)) as opened:
        for step in todo:
            await opened.do(step)
