"""Latencies, sorted, and what is said of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from an event's commit in the database to its receipt, sorted."""

    seconds: list[float]

    def at(self, share: float) -> float:
        """The latency that this share of the events does not exceed."""
        return self.seconds[max(0, round(share * len(self.seconds)) - 1)]

    def as_json(self) -> dict[str, float]:
        named = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
        return {"count": len(self.seconds), **{name: round(self.at(share) * 1e3, 2) for name, share in named.items()}}
