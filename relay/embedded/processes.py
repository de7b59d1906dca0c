"""What the system says about a process that may not be ours."""

import os
import shutil
import subprocess
from pathlib import Path


def exists(pid: int) -> bool:
    """Tell whether the number is in use, by whomever."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_of(pid: int) -> str:
    """Return the command line of a process; empty when there is none (or it is a zombie)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return ""
    ps = shutil.which("ps") or "/bin/ps"
    arguments = [ps, "-o", "args=", "-p", str(pid)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a number, not text
