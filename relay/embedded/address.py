"""Where the embedded broker listens, and whether it is ours that answers there."""

import asyncio
import contextlib
import socket
import struct
from pathlib import Path

from relay.domain.errors import UserError

HOST = "127.0.0.1"
_PREDECESSOR_GONE_WITHIN = 2.0
_ANSWER_WITHIN = 2.0


async def port_for(home: Path, asked: int | None) -> int:
    """Return the port asked for, or the one of last time, or a free one."""
    if asked is not None:
        if not await _free_soon(asked):
            raise UserError(f"Port {asked} is taken: stop what listens on it, or choose another.")
        return asked
    with contextlib.suppress(FileNotFoundError, ValueError):
        last = int((home / "port").read_text())
        if await _free_soon(last):
            return last
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


async def _free_soon(port: int) -> bool:
    """Tell whether the port is free; a killed predecessor gets a moment to leave it."""
    deadline = asyncio.get_running_loop().time() + _PREDECESSOR_GONE_WITHIN
    while True:
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)
        else:
            return True


async def answers(port: int, cluster: str) -> bool:
    """Ask for metadata; only our own broker knows our cluster id, and it prints "ready" before it listens."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(HOST, port)
            with contextlib.closing(writer):
                # Metadata (3) version 2: correlation id 1, client "relay", no topics.
                request = struct.pack(">hhih5si", 3, 2, 1, 5, b"relay", 0)
                writer.write(struct.pack(">i", len(request)) + request)
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                return cluster.encode() in await reader.readexactly(size)
    except (OSError, EOFError):
        return False
