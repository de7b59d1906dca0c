"""CloudEvents on Kafka and dead letters: what goes out comes back, and what is none is refused with its reason."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.cloudevents import cloudevent_headers, read_cloudevent
from relay.domain.dead_letters import dead_letter_headers
from relay.domain.messages import BadMessage, Message, Reason, without_secrets

text = st.text(min_size=1, max_size=40)
names = st.from_regex(r"[a-z0-9]{3,20}", fullmatch=True).filter(
    lambda name: name not in {"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"}
)
times = st.datetimes(timezones=st.sampled_from((UTC, timezone(timedelta(hours=-3)))))


def binary(**changed):
    attributes = {"ce_specversion": "1.0", "ce_id": "evt_1", "ce_source": "/c/1", "ce_type": "purchase_order.approved"}
    attributes |= changed
    return tuple((name, value.encode()) for name, value in attributes.items() if value is not None)


def structured(document):
    return document.encode(), (("content-type", b"application/cloudevents+json; charset=utf-8"),)


def refusal(*, value=b"{}", headers=()):
    with pytest.raises(BadMessage) as caught:
        read_cloudevent(b"c|1", value, headers)
    return caught.value


@given(id=text, source=text, type=text, time=times, subject=st.none() | text, extensions=st.dictionaries(names, text))
def test_what_is_written_in_binary_mode_is_read_back(*, id, source, type, time, subject, extensions):  # noqa: A002  attribute names
    headers = cloudevent_headers(
        id=id, source=source, type=type, time=time, subject=subject, dataschema="urn:x", extensions=extensions
    )
    event = read_cloudevent(b"key", b'{"a":1}', headers)
    assert (event.id, event.source, event.type, event.time, event.subject) == (id, source, type, time, subject)
    assert (event.key, event.data, event.extensions) == (b"key", b'{"a":1}', extensions)
    assert (event.datacontenttype, event.dataschema) == ("application/json", "urn:x")


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner)
    )
)
def test_both_modes_give_the_same_event(data):
    body = json.dumps(data)
    document = {"specversion": "1.0", "id": "evt_1", "source": "/c/1", "type": "purchase_order.approved"}
    spread = json.dumps(document, indent=1)[:-1] + f', "data" :\n{body} }}\n'
    assert read_cloudevent(b"k", *structured(spread)) == read_cloudevent(b"k", body.encode(), binary())


def test_numbers_of_a_structured_event_keep_their_digits():
    document = '{"specversion":"1.0","id":"1","source":"/","type":"t","data":{"price":10.10,"big":1E400}}'
    assert read_cloudevent(None, *structured(document)).data == b'{"price":10.10,"big":1E400}'


def test_binary_data_of_a_structured_event_is_decoded():
    document = '{"specversion":"1.0","id":"1","source":"/","type":"t","sequence":7,"data_base64":"AP8="}'
    event = read_cloudevent(None, *structured(document))
    assert event.data == b"\x00\xff"
    assert event.extensions == {"sequence": "7"}


def test_a_tombstone_has_no_data():
    assert read_cloudevent(b"k", None, binary()).data is None


def test_foreign_headers_are_no_attributes():
    assert read_cloudevent(b"k", b"{}", (*binary(), ("traceparent", b"00-1-2-03"))).extensions == {}


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
def test_an_absent_attribute_is_named(name):
    error = refusal(headers=binary(**{name: None}))
    assert error.reason is Reason.NOT_A_CLOUDEVENT
    assert name in str(error)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), Reason.NOT_A_CLOUDEVENT),
        (binary(ce_id=""), Reason.NOT_A_CLOUDEVENT),
        (binary(ce_time="yesterday"), Reason.NOT_A_CLOUDEVENT),
        (binary(ce_time="2026-01-31T12:00:00"), Reason.NOT_A_CLOUDEVENT),
        ((*binary(), ("ce_id", b"again")), Reason.NOT_A_CLOUDEVENT),
        ((*binary(), ("ce_note", b"\xff")), Reason.NOT_A_CLOUDEVENT),
        ((*binary(), ("ce_note", None)), Reason.NOT_A_CLOUDEVENT),
        (binary(ce_specversion="0.3"), Reason.UNSUPPORTED_VERSION),
    ],
)
def test_a_bad_binary_event_is_refused_with_its_reason(headers, reason):
    assert refusal(headers=headers).reason is reason


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", Reason.UNREADABLE),
        ("[]", Reason.UNREADABLE),
        ("<html>", Reason.UNREADABLE),
        ('{"id":"1"', Reason.UNREADABLE),
        ('{"id":"1"} {}', Reason.UNREADABLE),
        ('{"id":"1",}', Reason.UNREADABLE),
        ('{,"id":"1"}', Reason.UNREADABLE),
        ('{"id" "1"}', Reason.UNREADABLE),
        ('{1:"1"}', Reason.UNREADABLE),
        ('{"id":"1","id":"2"}', Reason.UNREADABLE),
        ('{"id":NaN}', Reason.UNREADABLE),
        ('{"data_base64":"%"}', Reason.UNREADABLE),
        ('{"data_base64":1}', Reason.UNREADABLE),
        ("[" * 100_000, Reason.UNREADABLE),
        ('{"data":' + "[" * 100_000, Reason.UNREADABLE),
        ("{}", Reason.NOT_A_CLOUDEVENT),
        ('{"id":null}', Reason.NOT_A_CLOUDEVENT),
        ('{"id":["1"]}', Reason.NOT_A_CLOUDEVENT),
        ('{"data":1,"data_base64":"AP8="}', Reason.NOT_A_CLOUDEVENT),
    ],
)
def test_a_bad_structured_event_is_refused_with_its_reason(document, reason):
    value, headers = structured(document)
    assert refusal(value=value, headers=headers).reason is reason


def test_a_structured_event_without_a_value_is_refused():
    assert refusal(value=None, headers=structured("")[1]).reason is Reason.UNREADABLE


@given(
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(
        st.tuples(st.sampled_from(("ce_id", "content-type", "ce_time", "x")), st.none() | st.binary(max_size=40))
    ),
)
def test_any_message_is_read_or_refused(value, headers):
    assert isinstance(refusal(value=value, headers=headers).reason, Reason)


def test_a_refusal_does_not_quote_the_payload():
    error = refusal(value=b'{"password":"canary"', headers=structured("")[1])
    assert "canary" not in str(error)


@pytest.mark.parametrize("name", ["Upper", "with-dash", "id", ""])
def test_a_wrong_extension_name_is_a_mistake_of_the_caller(name):
    with pytest.raises(ValueError, match="extension name"):
        cloudevent_headers(id="1", source="/", type="t", time=datetime.now(UTC), extensions={name: "x"})


def test_a_time_without_zone_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="zone"):
        cloudevent_headers(id="1", source="/", type="t", time=datetime(2026, 1, 31))  # noqa: DTZ001  the mistake


@given(original=st.lists(st.tuples(text, st.none() | st.binary())))
def test_a_dead_letter_keeps_the_original_headers_byte_for_byte(original):
    headers = dead_letter_headers(original, reason=Reason.UNREADABLE, detail="x", topic="t.v1", partition=3, offset=42)
    assert list(headers[: len(original)]) == original


def test_a_dead_letter_says_why_and_where_in_our_names_and_in_those_of_kafka_connect():
    told = dict(
        dead_letter_headers((), reason=Reason.UNKNOWN_TYPE, detail="no x", topic="t.v1", partition=3, offset=42)
    )
    assert told["relay-reason"] == b"unknown_type"
    assert told["relay-detail"] == told["__connect.errors.exception.message"] == b"no x"
    assert told["relay-original-topic"] == told["__connect.errors.topic"] == b"t.v1"
    assert told["relay-original-partition"] == told["__connect.errors.partition"] == b"3"
    assert told["relay-original-offset"] == told["__connect.errors.offset"] == b"42"


@pytest.mark.parametrize(
    "detail",
    [
        "GET https://user:canary@erp.example/x failed",
        "password=canary",
        '{"password": "canary"}',
        "Authorization: Bearer canary",
        "token : canary, and more",
        "api_key=canary&x=1",
    ],
)
def test_credentials_in_a_detail_are_masked(detail):
    assert "canary" not in without_secrets(detail)


@given(text=st.text(max_size=2000))
def test_a_detail_is_one_short_line(text):
    told = without_secrets(text)
    assert len(told) <= 500
    assert "\n" not in told


def test_a_message_does_not_show_its_payload():
    assert "canary" not in repr(Message("t", b"k", b"canary", (("h", b"canary"),)))
