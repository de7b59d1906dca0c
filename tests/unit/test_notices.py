"""Notices: derived ids, the body as change events have it, CloudEvents headers, and no credential in a reason."""

from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.docs.schemas import notice_schema
from relay.domain.cloudevents import read_cloudevent
from relay.domain.notices import Notice, NoticeType, notice_event, notice_message

SINCE = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)
TOPIC = "relay.operations.v1"

notices = st.builds(
    Notice,
    type=st.sampled_from(NoticeType),
    customer_id=st.text(min_size=1, max_size=20),
    subject_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    subject_name=st.text(min_size=1, max_size=20),
    occurred_at=st.datetimes(timezones=st.just(UTC)),
    reason=st.text(st.characters(codec="utf-8"), max_size=600),
    failing_since=st.none() | st.datetimes(timezones=st.just(UTC)),
    after=st.none() | st.sampled_from([timedelta(hours=1), timedelta(hours=24)]),
)


def failing(**values):
    given = {"type": NoticeType.ENDPOINT_FAILING, "after": timedelta(hours=1), **values}
    return Notice(customer_id="acme", subject_id="end_1", subject_name="hook", occurred_at=SINCE, **given)


def test_telling_twice_of_the_same_moment_gives_the_same_id():
    elsewhere = Notice(
        NoticeType.ENDPOINT_FAILING,
        "acme",
        "end_1",
        "renamed",
        SINCE.astimezone(timezone(timedelta(hours=-3))),
        "another reason",
        after=timedelta(hours=1),
    )
    assert elsewhere.id == failing().id


def test_another_type_subject_moment_or_length_of_failure_is_another_notice():
    others = [
        failing(type=NoticeType.ENDPOINT_SUSPENDED),
        Notice(NoticeType.ENDPOINT_FAILING, "acme", "end_2", "hook", SINCE, after=timedelta(hours=1)),
        Notice(NoticeType.ENDPOINT_FAILING, "acme", "end_1", "hook", SINCE + timedelta(microseconds=1)),
        failing(after=timedelta(hours=24)),
    ]
    assert len({failing().id, *(each.id for each in others)}) == 5


def test_a_notice_is_a_cloudevent_whose_key_is_its_subject():
    notice = failing(reason="answered with 500", failing_since=SINCE)
    message = notice_message(notice, TOPIC)
    assert (message.topic, message.key) == (TOPIC, b"end_1")
    told = read_cloudevent(message.key, message.value, message.headers)
    assert (told.id, told.type, told.time) == (notice.id, "endpoint.failing", SINCE)
    assert (told.source, told.subject) == ("/relay/endpoints/end_1", "end_1")
    assert told.extensions == {"partitionkey": "end_1"}
    assert orjson.loads(message.value) == {
        "type": "endpoint.failing",
        "timestamp": "2026-03-01T11:00:00Z",
        "data": {
            "notice_id": notice.id,
            "customer_id": "acme",
            "subject": "endpoint",
            "subject_id": "end_1",
            "subject_name": "hook",
            "occurred_at": "2026-03-01T11:00:00Z",
            "reason": "answered with 500",
            "failing_since": "2026-03-01T11:00:00Z",
            "after": "1h",
        },
    }


@pytest.mark.parametrize("type_", NoticeType)
def test_the_type_says_whether_it_is_about_an_endpoint_or_a_connection(type_):
    notice = Notice(type_, "acme", "x_1", "x", SINCE)
    assert notice.subject == type_.partition(".")[0]
    assert dict(notice_message(notice, TOPIC).headers)["ce_source"] == f"/relay/{notice.subject}s/x_1".encode()


def test_a_day_of_failure_is_told_as_24h():
    assert notice_event(failing(after=timedelta(hours=24))).data.after == "24h"


def test_a_reason_shows_no_credential_and_is_cut():
    told = notice_event(
        failing(reason="login failed: password=hunter2 at https://me:hunter2@erp.example\n" + "x" * 600)
    )
    assert "hunter2" not in told.data.reason
    assert "\n" not in told.data.reason
    assert len(told.data.reason) == 500


@given(notices)
def test_every_notice_fits_its_schema(notice):
    body = orjson.loads(notice_message(notice, TOPIC).value)
    jsonschema.validate(body, notice_schema())
    assert body["data"]["notice_id"] == notice.id
