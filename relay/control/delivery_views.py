"""Deliveries and their attempts as people and scripts see them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from relay.control.views import View


class AttemptView(View):
    """One try. `excerpt` is the beginning of what the receiver answered."""

    number: int
    started_at: datetime
    seconds: float
    outcome: str
    status: int | None
    error: str
    detail: str
    excerpt: str
    address: str
    """The address that was called, or the proxy's name; empty when it did not come to that."""
    resolve_seconds: float
    """Until the address was known."""
    answer_seconds: float | None
    """Until the status was known, from the start; None: it never was."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of attempts."""
        return cls.model_validate({**row, "excerpt": row["excerpt"].decode(errors="replace")})


class DeliveryView(View):
    """One event on its way to one endpoint. `attempts_made` is None in lists."""

    id: str
    state: str
    endpoint: str
    endpoint_id: str
    number: int
    """Which of its endpoint's deliveries it is, without gaps: `relay-number`, and where pulling has got to."""
    event_id: str
    type: str
    connection_id: str
    remote_id: str
    sequence: int
    attempts: int
    last_status: int | None
    last_error: str | None
    due_at: datetime | None
    created_at: datetime
    done_at: datetime | None
    attempts_made: tuple[AttemptView, ...] | None = None
    position: int = Field(default=0, exclude=True)
    """Of its event in the outbox: with the id its place in lists."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The view of a row of the registry."""
        made = row.get("attempts_made")
        attempts = None if made is None else tuple(map(AttemptView.of, made))
        return cls.model_validate({**row, "attempts_made": attempts})
