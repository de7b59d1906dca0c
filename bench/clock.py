"""The clock: how many in how long, and how much of a core this process took for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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
