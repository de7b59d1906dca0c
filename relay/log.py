"""Logs: structlog, one wide line per unit of work, JSON off a terminal.

Event names are `noun.past_participle` and are listed in `docs/operations.md`. Never a body, a URL query, a header or
a credential: httpx, which logs whole URLs at INFO, is quieted here.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

import orjson
import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

QUIET = ("httpx", "httpcore", "aiokafka", "faststream", "uvicorn", "uvicorn.access", "alembic", "asyncio")


def configure(level: str, *, json_lines: bool | None) -> None:
    """Set up logging for a process: to standard error, JSON unless it is a terminal (`json_lines` None)."""
    as_json = not sys.stderr.isatty() if json_lines is None else json_lines
    for_people: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(),
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *([_json] if as_json else for_people)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines(sys.stderr.buffer) if as_json else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


class _Lines:
    """Writes each line at once. structlog's own does it under a lock of its own, which costs more than the writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._write, self._flush = file.write, file.flush

    def __call__(self, *_: object) -> "_Lines":
        return self

    def msg(self, line: bytes) -> None:
        # One write, so that lines of several threads stay whole.
        self._write(line + b"\n")
        self._flush()

    debug = info = warning = error = critical = exception = msg


def _json(logger: object, level: str, line: "EventDict") -> bytes:
    """The line with its level and time, as JSON: in one step, because a worker writes one for each delivery."""
    if "exc_info" in line:
        line = structlog.processors.format_exc_info(logger, level, line)
    line["level"], line["timestamp"] = level, datetime.now(UTC)
    try:
        return orjson.dumps(line, default=repr, option=orjson.OPT_UTC_Z)
    except TypeError:
        # Half a character, a huge number, a key that is no text: a log line never breaks the work it tells of.
        line["timestamp"] = line["timestamp"].isoformat().replace("+00:00", "Z")
        return json.dumps(line, default=repr).encode()
