"""What a child process does before it becomes its program: die with its parent, give up root.

    python -I -S child.py [--parent PID] [--user UID:GID] PROGRAM ARGUMENT...

A file that runs without the rest of relay, because code between fork and exec of a threaded parent may deadlock.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def command(*program: str, parent: int | None = None, user: tuple[int, int] | None = None) -> list[str]:
    """Return the command line that runs `program` through this file. `user` is (uid, gid)."""
    options = [] if parent is None else ["--parent", str(parent)]
    options += [] if user is None else ["--user", f"{user[0]}:{user[1]}"]
    return [sys.executable, "-I", "-S", __file__, *options, *program]


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies. Only Linux can; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)


def give_up_root(uid: int, gid: int) -> None:
    """Become another user, who on Linux still reaches the files that root reaches.

    PostgreSQL refuses the user id 0, but both its binaries and its data may lie below /root: the capability to pass
    file permissions is kept, so that no folder has to be opened to everybody.
    """
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if sys.platform == "linux":
        kept = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable; low, then high
        libc.capset(header, sets)  # refused in a container without it: then plain permissions decide
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _main(arguments: list[str]) -> None:
    while arguments[0] in {"--parent", "--user"}:
        option, value, *arguments = arguments
        if option == "--parent":
            die_with(int(value))
        else:
            uid, gid = value.split(":")
            give_up_root(int(uid), int(gid))
    os.execv(arguments[0], arguments)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    _main(sys.argv[1:])
