"""What a process takes: its memory, its share of a core, and the same of all that it has started. From /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_USER, _SYSTEM, _PARENT = 11, 12, 1
"""Fields of /proc/PID/stat after the name, from 0."""
MISSING = "the bench needs Linux: it reads in /proc what processes take"


def there() -> bool:
    """Whether this system tells what processes take."""
    return Path("/proc/self/stat").exists()


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU of these processes, with all their threads."""
    return sum(sum(int(fields[each]) for each in (_USER, _SYSTEM)) for pid in pids if (fields := _stat(pid))) / _TICKS


def resident(pids: Iterable[int]) -> int:
    """Bytes of memory that these processes hold."""
    return sum(int(text.split()[1]) for pid in pids if (text := _read(f"/proc/{pid}/statm"))) * _PAGE


def family(pid: int) -> list[int]:
    """A process and those that it has started and that are still there."""
    others = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    return [pid, *(other for other in others if (fields := _stat(other)) and int(fields[_PARENT]) == pid)]


def parent(pid: int) -> int:
    """Who has started it."""
    return int(_stat(pid)[_PARENT])


def _stat(pid: int) -> list[str]:
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""
