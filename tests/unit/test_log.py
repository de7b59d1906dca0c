"""Logs: one JSON line each, whatever is in it; and httpx says nothing of the URLs it calls."""

import io
import json
import logging
import sys
from decimal import Decimal

import httpx
import pytest
import structlog

from relay.log import QUIET, configure

CANARY = "canary-33d0"


class Stream(io.TextIOWrapper):
    """A standard error that keeps what was written."""

    def __init__(self, *, terminal=False):
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def lines(self):
        return self.buffer.getvalue().decode().splitlines()


@pytest.fixture
def logged(monkeypatch):
    """Configure logging onto a stream; what was there before comes back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in QUIET}
    root.handlers[:] = []

    def configured(level="info", *, json_lines=True, terminal=False):
        stream = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        configure(level, json_lines=json_lines)
        return stream

    yield configured
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def test_a_unit_of_work_is_one_json_line(logged):
    stream = logged()
    structlog.get_logger().info("connection.polled", connection="con_1", events=3)
    (line,) = map(json.loads, stream.lines())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "connection.polled", "level": "info", "connection": "con_1", "events": 3}


@pytest.mark.parametrize("value", [Decimal("1.50"), 2**70, "half \ud800", {1: 2}, b"\xff", object(), {"x"}])
def test_no_value_breaks_the_line_or_the_work(logged, value):
    stream = logged()
    structlog.get_logger().info("x.happened", value=value)
    assert json.loads(stream.lines()[0])["event"] == "x.happened"


def test_a_message_over_several_lines_is_still_one_line(logged):
    stream = logged()
    structlog.get_logger().info("x.happened", text="a\nb\r\n")
    assert len(stream.lines()) == 1


def test_an_exception_is_in_the_line(logged):
    stream = logged()
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("runner.died")
    assert "ZeroDivisionError" in json.loads(stream.lines()[0])["exception"]


def test_a_terminal_gets_text_and_a_pipe_gets_json(logged):
    stream = logged(json_lines=None, terminal=True)
    structlog.get_logger().info("x.happened")
    assert "x.happened" in stream.lines()[0]
    assert not stream.lines()[0].startswith("{")
    stream = logged(json_lines=None)
    structlog.get_logger().info("x.happened")
    assert stream.lines()[0].startswith("{")


def test_less_than_the_level_is_not_written(logged):
    stream = logged("warning")
    structlog.get_logger().info("x.happened")
    structlog.get_logger().warning("y.happened")
    assert [json.loads(line)["event"] for line in stream.lines()] == ["y.happened"]


def test_httpx_says_nothing_of_the_urls_it_calls(logged):
    stream = logged("debug")
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.get(f"https://erp.example/rest?password={CANARY}")
    assert stream.lines() == []


@pytest.mark.parametrize("name", [*QUIET, "httpx._client", "aiokafka.conn"])
def test_libraries_speak_only_of_errors(logged, name):
    logged("debug")
    assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
    assert logging.getLogger(name).isEnabledFor(logging.ERROR)
