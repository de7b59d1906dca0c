"""A database host that vanishes without a word is noticed within a minute: its connections break instead of waiting.

    nothing to say       the kernel asks whether the host is there (keepalive)
    something unanswered the kernel gives up after a while (user timeout)

Without this a lost connection would look alive for many minutes, and one that only listens for ever.
"""

import socket

import asyncpg

IDLE, BETWEEN, PROBES = 20, 5, 4
"""Seconds of silence before the first question, seconds between two, and how many may stay without an answer."""
UNANSWERED = 40
"""Seconds after which what was sent and not acknowledged breaks the connection."""
# By name: not every system has each of them (macOS knows no user timeout, and calls IDLE otherwise).
OPTIONS = {"TCP_KEEPIDLE": IDLE, "TCP_KEEPINTVL": BETWEEN, "TCP_KEEPCNT": PROBES, "TCP_USER_TIMEOUT": UNANSWERED * 1000}


def watch_over(connection: asyncpg.Connection) -> None:
    """Let the kernel watch over a connection by TCP; one by a socket on this machine needs no watching."""
    # asyncpg has no public way to its socket.
    found = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if found is None or found.family == socket.AF_UNIX:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in OPTIONS.items():
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
