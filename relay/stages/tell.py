"""Tell: what became of a command, as an entry of the outbox. The same step of the same command is the same event."""

from datetime import datetime

from relay.domain.results import ResultData, result_id, result_of
from relay.ports import OutboxEntry

FIRST, END = 1, 2
"""The numbers of a command's results: one that is over when it comes in has only the first."""


def told(data: ResultData, number: int, now: datetime) -> OutboxEntry:
    """The entry; in the outbox a command's results are in a lane of their own."""
    result = result_of(data, now)
    return OutboxEntry(
        event_id=result_id(data.id, number),
        stream="command-results",
        remote_id=data.id,
        sequence=number,
        type=result.type,
        occurred_at=now,
        body=result.model_dump_json().encode(),
    )
