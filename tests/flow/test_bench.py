"""The bench, run as people run it: every kind of scenario once, with little to do."""

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_quick_run_measures_what_is_asked_for_and_leaves_a_report(tmp_path):
    only = ("line", "latency", "deliver-1-tls", "deliver-100-2", "hanging", "drain")
    small = ("--deliveries", "80", "--events", "40", "--seconds", "0.5", "--drain", "200", "--out", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--quick", *small, "--only", *only),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "180"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    [path] = tmp_path.iterdir()
    document = orjson.loads(path.read_bytes())
    assert {each["name"] for each in document["measured"]} == {
        *("publish.1", "admit.1", "whole.1", "latency", "deliver-1-tls", "deliver-100-2"),
        *("none-hanging", "hanging", "drain"),
    }
    drain = next(each for each in document["measured"] if each["name"] == "drain")
    assert drain["samples"][-1]["delivered"] == 200
    assert "of bare" in said
