"""Progress: a bar on a terminal, a plain line now and then elsewhere; always to standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from relay.cli.shown import note

LINES_EVERY = 1.0
"""Seconds, where lines take the place of a bar."""


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give `told(done, total)`, which shows how far `what` is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _lines(what: str) -> Callable[[int, int], None]:
    said = float("-inf")

    def told(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= LINES_EVERY or done == total:
            said = now
            note(f"{what}: {done} of {total}")

    return told
