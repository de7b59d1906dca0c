"""Locks on files: the kernel lets go of them when a process ends, however it ends.

Shared and exclusive, between processes and between two uses in one process.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

_EVERY = 0.02


def opened(path: Path) -> int:
    """Open (and create) a lock file for this user alone; the caller closes the descriptor, which unlocks."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock now if nobody stands in the way; False otherwise (a lock held before is then given up)."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def share(descriptor: int) -> None:
    """Take the shared lock, waiting until nobody has the exclusive one."""
    while not take(descriptor, fcntl.LOCK_SH):  # noqa: ASYNC110 - another process cannot set our event
        await asyncio.sleep(_EVERY)


@contextlib.asynccontextmanager
async def alone(path: Path) -> AsyncIterator[None]:
    """Be the only one inside the block, waiting for whoever is there without blocking the loop."""
    descriptor = opened(path)
    try:
        while not take(descriptor):  # noqa: ASYNC110 - another process cannot set our event
            await asyncio.sleep(_EVERY)
        yield
    finally:
        os.close(descriptor)
