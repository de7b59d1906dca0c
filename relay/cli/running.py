"""Running: settings and logs made ready, a loop that signals end properly, the operations opened for a command."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from relay import log
from relay.cli.shown import note
from relay.settings import Settings, load

if TYPE_CHECKING:
    from relay.client import Client
    from relay.control import Control

Answer = TypeVar("Answer")
INTERRUPTED = 130
STUCK = 1
LAST_SECONDS = 20.0
"""For the tasks that are left when the work has ended."""
GARBAGE = 10_000
"""Objects that are made before some of them are looked at as garbage; Python's own 700 are few for hundreds at once."""


def settings_for_service(data: Path | None) -> Settings:
    """The settings of a command that goes on until it is stopped; its logs are as detailed as they say."""
    settings = settings_at(data)
    log.configure(settings.log.level, json_lines=settings.log.json_lines)
    return settings


def settings_for_command(data: Path | None) -> Settings:
    """The settings of a command that ends by itself; it logs trouble only, unless a level is set."""
    settings = settings_at(data)
    level = settings.log.level if "level" in settings.log.model_fields_set else "warning"
    log.configure(level, json_lines=settings.log.json_lines)
    return settings


def settings_at(data: Path | None) -> Settings:
    """The settings, with another data directory if one is given."""
    settings = load()
    return settings if data is None else settings.model_copy(update={"data": data})


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end. SIGINT and SIGTERM cancel it, which raises KeyboardInterrupt here."""
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        return runner.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        with _at_most(LAST_SECONDS):
            runner.close()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """End the process when the block takes longer: a loop waits for its last tasks, and one may never end."""

    def end() -> None:
        note("something does not end although it was told to: this process ends without it")
        os._exit(STUCK)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


async def _interruptible(work: Coroutine[Any, Any, Answer]) -> Answer:
    # SIGINT is the runner's own, and no way for this one: a script's `relay ... &` ignores it.
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


@asynccontextmanager
async def stopping() -> AsyncIterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()
        note("stopping: what is in flight ends first; once more ends at once")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    yield stop


def settled() -> None:
    """What is there when the work begins stays: Python's garbage collector need not look at it over and over.

    That took a fifth of the CPU of a worker that delivers, and found next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 10)


def with_relay(data: Path | None, work: "Callable[[Client], Awaitable[Answer]]") -> Answer:
    """Do one thing at the relay that the settings name, or this machine's."""
    settings = settings_for_command(data)

    async def working() -> Answer:
        from relay.cli.reached import reached

        async with reached(settings) as client:
            return await work(client)

    return run(working())


def with_control(data: Path | None, work: "Callable[[Control], Awaitable[Answer]]") -> Answer:
    """Do one operation, on the given database or the embedded one (whose tables are made when they are missing)."""
    settings = settings_for_command(data)

    async def working() -> Answer:
        from relay.app.serving import wired_control
        from relay.app.standing import database_url
        from relay.store.database import migrate

        async with database_url(settings) as url:
            if settings.database.url is None:
                await asyncio.to_thread(migrate, url)
            async with wired_control(settings, url) as control:
                return await work(control)

    return run(working())
