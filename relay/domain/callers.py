"""Callers: who asks relay to do something, and how much they may.

operator     an operator key: everything that its scope allows
connection   a connection's token: that connection, as far as `write` goes; all else does not exist for it
local        whoever reaches the socket or the database of this machine: everything
"""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """How much a caller may do; each holds the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def holds(self, needed: "Scope") -> bool:
        """Whether this is enough where `needed` is asked for."""
        order = tuple(Scope)
        return order.index(self) >= order.index(needed)


class CallerKind(StrEnum):
    """How a caller has shown who it is."""

    OPERATOR = "operator"
    CONNECTION = "connection"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was recognized. `connection_id` is the only connection that it may touch; None: all."""

    kind: CallerKind
    id: str
    name: str
    scope: Scope
    customer_id: str | None = None
    connection_id: str | None = None


LOCAL = Caller(CallerKind.LOCAL, "local", "local", Scope.ADMIN)
