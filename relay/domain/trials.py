"""Trials: samples as they are sent to try a customer's endpoint."""

import datetime as dt
from dataclasses import replace

from relay.domain.command_samples import sample_result
from relay.domain.events import ChangeEvent, Origin
from relay.domain.notice_samples import sample_notice
from relay.domain.notices import CONNECTION_TYPES, NoticeEvent, NoticeType, notice_event
from relay.domain.results import RESULT_PREFIX, RESULT_TYPES, CommandResult, Outcome
from relay.domain.samples import ORIGIN, TEST_PREFIX, sample_event


def trial_event(
    event_type: str, customer_id: str, token: str, now: dt.datetime
) -> tuple[str, ChangeEvent | CommandResult | NoticeEvent]:
    """A sample of this type for this customer, and its id."""
    message_id = TEST_PREFIX + token
    if event_type in CONNECTION_TYPES:
        notice = notice_event(replace(sample_notice(NoticeType(event_type)), customer_id=customer_id))
        named = notice.data.model_copy(update={"notice_id": message_id})
        return message_id, notice.model_copy(update={"data": named, "timestamp": now})
    if event_type in RESULT_TYPES:
        result = sample_result(Outcome(event_type.removeprefix(RESULT_PREFIX)))
        theirs = result.data.model_copy(update={"customer_id": customer_id})
        return message_id, result.model_copy(update={"data": theirs, "timestamp": now})
    event = sample_event(event_type, Origin(customer_id, ORIGIN.connection_id, ORIGIN.connector))
    data = event.data.model_copy(update={"event_id": message_id})
    return message_id, event.model_copy(update={"data": data, "timestamp": now})
