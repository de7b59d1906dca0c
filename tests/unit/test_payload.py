"""Payload: whole events are sent as they are, thin ones name them and tell no values."""

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.docs.pages import ROOT
from relay.domain.command_samples import sample_result
from relay.domain.endpoints import Payload
from relay.domain.events import EVENT_TYPES
from relay.domain.notice_samples import sample_notice
from relay.domain.notices import NoticeType, notice_event
from relay.domain.payload import LARGEST_FAT, MOST_PATHS, ThinEvent, shaped
from relay.domain.results import Outcome
from relay.domain.samples import sample_event

SCHEMA = orjson.loads((ROOT / "docs" / "schemas" / "thin-event.v1.json").read_bytes())


def body_of(event_type="purchase_order.updated", **data):
    event = orjson.loads(sample_event(event_type).model_dump_json())
    return orjson.dumps({**event, "data": {**event["data"], **data}})


def thin(body):
    return orjson.loads(shaped(body, Payload.THIN))


def test_a_whole_event_is_sent_as_the_very_bytes_that_were_frozen():
    body = body_of()
    assert shaped(body, Payload.FAT) is body


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_thin_webhook_fits_its_schema_and_names_the_same_event(event_type):
    body = body_of(event_type)
    made = thin(body)
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
    ThinEvent.model_validate_json(orjson.dumps(made))
    whole = orjson.loads(body)
    assert (made["type"], made["timestamp"]) == (whole["type"], whole["timestamp"])
    known = made["data"].keys() & whole["data"].keys()
    assert {"event_id", "order_id", "remote_id", "number", "sequence", "after_hash"} <= known
    assert {name: made["data"][name] for name in known} == {name: whole["data"][name] for name in known}


def test_a_thin_webhook_says_where_the_order_changed_and_no_value():
    data = thin(body_of())["data"]
    assert data["paths"] == ["/subtotal", "/total", "/lines/0001/quantity", "/lines/0001/amount"]
    assert data["path_count"] == 4
    assert not {"order", "changes"} & data.keys()
    assert b"150.00" not in shaped(body_of(), Payload.THIN)
    assert thin(body_of("purchase_order.created"))["data"]["paths"] == []


@given(st.lists(st.text(max_size=600), max_size=MOST_PATHS + 20))
def test_a_thin_webhook_stays_small_whatever_changed(paths):
    body = body_of(changes=[{"path": path} for path in paths])
    data = thin(body)["data"]
    assert data["path_count"] == len(paths)
    assert data["paths"] == [path for path in paths if len(path) <= 500][:MOST_PATHS]
    assert shaped(body, Payload.THIN) == shaped(body, Payload.THIN)


def test_an_event_that_receivers_would_refuse_for_its_size_is_sent_thin():
    empty = len(body_of(order={"notes": ""}))
    fits, too_large = (body_of(order={"notes": "x" * (LARGEST_FAT - empty + more)}) for more in (0, 1))
    assert len(fits) == LARGEST_FAT
    assert shaped(fits, Payload.FAT) is fits
    assert shaped(too_large, Payload.FAT) == shaped(too_large, Payload.THIN)
    assert thin(too_large)["data"]["payload"] == "thin"


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"7", b'{"type": "x"}', b'{"type":"x","timestamp":"t","data":{}}']
)
def test_what_is_no_event_that_this_version_can_read_goes_as_it_is(body):
    assert shaped(body, Payload.THIN) is body


@pytest.mark.parametrize("outcome", Outcome)
def test_a_thin_result_fits_its_schema_and_holds_no_order(outcome):
    body = sample_result(outcome).model_dump_json().encode()
    made = thin(body)
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
    ThinEvent.model_validate_json(orjson.dumps(made))
    whole = orjson.loads(body)["data"]
    known = made["data"].keys() & whole.keys()
    assert {name: made["data"][name] for name in known} == {name: whole[name] for name in known}
    assert not {"order", "said", "would_send", "refusals"} & known
    assert made["data"]["reasons"] == [each["reason"] for each in whole["refusals"]]
    assert shaped(body, Payload.FAT) is body


def test_a_notice_is_small_and_the_same_thin_or_whole():
    body = notice_event(sample_notice(NoticeType.CONNECTION_NEEDS_RECONNECT)).model_dump_json().encode()
    assert shaped(body, Payload.THIN) is shaped(body, Payload.FAT) is body
