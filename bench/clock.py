"""The clock: how many in how long, and how much of a core was spent for it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import processes


@dataclass(slots=True)
class Timed:
    """One measurement. `cpu` is seconds of this process, all threads: database, broker, receiver have others."""

    count: int
    seconds: float = 0.0
    cpu: float = 0.0
    _from: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def start(self) -> None:
        self._from = time.monotonic(), time.process_time()

    def stop(self) -> None:
        wall, cpu = self._from
        self.seconds, self.cpu = time.monotonic() - wall, time.process_time() - cpu

    def as_json(self) -> dict[str, float]:
        return {
            "count": self.count,
            "seconds": round(self.seconds, 4),
            "per_second": round(self.count / self.seconds, 1),
            "cpu_us_each": round(self.cpu / self.count * 1e6, 1),
        }


@contextmanager
def timed(count: int) -> Iterator[Timed]:
    """Measure the block."""
    watch = Timed(count)
    watch.start()
    yield watch
    watch.stop()


@dataclass(slots=True)
class Spent:
    """One measurement of other processes: by name, the seconds of CPU that some of them took."""

    count: int
    whose: Mapping[str, Sequence[int]]
    seconds: float = 0.0
    again: int = 0
    """What was done more than once."""
    cpu: dict[str, float] = field(default_factory=dict)
    _from: float = field(default=0.0, repr=False)

    def start(self) -> None:
        self._from, self.cpu = time.monotonic(), self._taken()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._from
        self.cpu = {name: after - self.cpu[name] for name, after in self._taken().items()}

    def as_json(self) -> dict[str, float]:
        return {
            "count": self.count,
            "seconds": round(self.seconds, 4),
            "per_second": round(self.count / self.seconds, 1),
            "again": self.again,
            **{f"{name}_us_each": round(spent / self.count * 1e6, 1) for name, spent in self.cpu.items()},
        }

    def _taken(self) -> dict[str, float]:
        return {name: processes.cpu(pids) for name, pids in self.whose.items()}
