"""Commands as they come in: read exactly, told from junk, judged before anything is stored."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from relay.domain.connections import ConnectionState
from relay.domain.dead_letters import origin_of, original
from relay.domain.intake import LONGEST, check_key, given_body, given_message, judge, parsed
from relay.domain.messages import BadMessage, Incoming, Reason
from relay.domain.results import Outcome, RefusalReason

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CANCEL = {"type": "cancel", "command_id": "c1", "connection_id": "con_1", "remote_id": "p1"}
CREATE = {"type": "create", "command_id": "c1", "connection_id": "con_1", "order": {}, "lines": [{"quantity": "1"}]}
CE = (("ce_specversion", b"1.0"), ("ce_id", b"e1"), ("ce_source", b"/me"))


def message(tree, headers=(), key=None):
    value = tree if isinstance(tree, bytes | None) else orjson.dumps(tree)
    return Incoming("commands", 1, 7, key, value, tuple(headers))


def cloudevent(tree, kind="purchase_order.command.cancel"):
    return message(tree, (*CE, ("ce_type", kind.encode())))


def read(tree, **how):
    return given_message(message(tree, **how), 1000)


def refused(call, *given):
    with pytest.raises(BadMessage) as caught:
        call(*given)
    return caught.value.reason


def judged(tree, state=ConnectionState.ACTIVE):
    return judge(read(tree), state, NOW, DAY)


# Reading


def test_bare_json_and_both_modes_of_a_cloudevent_are_the_same_command():
    whole = {"specversion": "1.0", "id": "e1", "source": "/me", "type": "purchase_order.command.cancel", "data": CANCEL}
    structured = message(whole, [("content-type", b"application/cloudevents+json; charset=utf-8")])
    given = [read(CANCEL), given_message(cloudevent(CANCEL), 1000), given_message(structured, 1000)]
    assert {(each.id, each.digest) for each in given} == {(given[0].id, given[0].digest)}
    assert given_body(orjson.dumps(CANCEL), 1000) == given[0]


def test_a_cloudevent_gives_its_data_type_and_id_where_they_are_left_out():
    given = given_message(cloudevent({"connection_id": "con_1", "remote_id": "p1"}), 1000)
    assert (given.command_id, given.type, given.remote_id) == ("e1", "cancel", "p1")


@pytest.mark.parametrize("kind", ["purchase_order.created", "purchase_order.command.close"])
def test_a_cloudevent_of_another_type_is_no_command(kind):
    assert refused(given_message, cloudevent(CANCEL, kind), 1000) is Reason.UNKNOWN_TYPE


def test_a_cloudevent_whose_data_is_no_object_is_unreadable():
    assert refused(given_message, cloudevent([1]), 1000) is Reason.UNREADABLE
    assert refused(given_message, cloudevent(None), 1000) is Reason.UNREADABLE


@pytest.mark.parametrize(
    "junk",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": "\\ud800"}',
        b"[" * 100 + b"]" * 100,
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1e9999999999999999999999}',
        b'{"a": 1.0e1000000000000000000}',
    ],
)
def test_junk_is_unreadable(junk):
    assert refused(given_message, message(junk), 10**6) is Reason.UNREADABLE


def test_a_command_that_is_too_large_is_not_read():
    assert refused(given_message, message(b" " * 1001), 1000) is Reason.TOO_LARGE
    assert refused(given_body, b" " * 1001, 1000) is Reason.TOO_LARGE


@pytest.mark.parametrize("wrong", [None, 1, "", "a b", "é", "x" * 101, "a\n"])
def test_without_a_command_id_nobody_can_be_told(wrong):
    assert refused(read, CANCEL | {"command_id": wrong}) is Reason.NO_COMMAND_ID


@pytest.mark.parametrize("wrong", [None, 1, ""])
def test_without_a_connection_nobody_can_be_told(wrong):
    assert refused(read, CANCEL | {"connection_id": wrong}) is Reason.UNKNOWN_CONNECTION


def test_numbers_are_read_exactly():
    assert parsed(b"[1.25, 1.10, 0.1e1, 12]") == [Decimal("1.25"), Decimal("1.10"), Decimal("0.1e1"), 12]
    text = orjson.dumps(CREATE).replace(b'"1"', b"12345678901234567.123456789012")
    command = judge(given_body(text, 1000), ConnectionState.ACTIVE, NOW, DAY).command
    assert command.lines[0].quantity == Decimal("12345678901234567.123456789012")


@examples(st.binary(max_size=60))
def test_whatever_comes_is_read_or_refused(junk):
    with suppress(BadMessage):
        given_message(message(junk), 1000)


def test_the_content_of_a_command_does_not_depend_on_the_order_of_its_names():
    backwards = dict(reversed(CANCEL.items()))
    assert read(CANCEL).digest == read(backwards).digest != read(CANCEL | {"reason": "x"}).digest


# Keys


@pytest.mark.parametrize("key", [None, b"", b"con_1|p1", b"con_1|c1"])
def test_the_key_names_the_order_or_the_command(key):
    check_key(read(CANCEL), key)


@pytest.mark.parametrize("key", [b"p1", b"con_1|p2", b"con_2|p1", b"\xff"])
def test_another_key_is_wrong(key):
    assert refused(check_key, read(CANCEL), key) is Reason.WRONG_KEY


def test_a_new_order_is_keyed_by_its_command():
    check_key(read(CREATE), b"con_1|c1")
    assert refused(check_key, read(CREATE | {"remote_id": "p1"}), b"con_1|p1") is Reason.WRONG_KEY


# Judging


def test_a_command_that_says_no_time_expires_after_the_default():
    verdict = judged(CANCEL)
    assert (verdict.outcome, verdict.expires_at) == (Outcome.ACCEPTED, NOW + DAY)
    assert verdict.lane(read(CANCEL)) == "p1"


def test_a_paused_connection_lets_commands_wait():
    assert judged(CANCEL, ConnectionState.PAUSED).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("state", [ConnectionState.DISCONNECTED, ConnectionState.NEEDS_RECONNECT])
def test_a_connection_that_cannot_be_reached_rejects_at_once(state):
    verdict = judged(CREATE, state)
    (refusal,) = verdict.refusals
    assert (verdict.outcome, refusal.reason) == (Outcome.REJECTED, RefusalReason.AUTH_REQUIRED)
    assert state.replace("_", " ") in refusal.message


def test_a_late_command_is_expired_however_late():
    verdict = judged(CANCEL | {"expires_at": "0001-01-01T00:00:00+14:00"})
    assert (verdict.outcome, verdict.expires_at) == (Outcome.EXPIRED, NOW - LONGEST)
    assert judged(CANCEL | {"expires_at": "2026-03-01T12:00:00Z"}).outcome is Outcome.EXPIRED


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"type": "explode"}, "type"),
        ({"type": None}, "type"),
        ({"type": ["cancel"]}, "type"),
        ({"remote_id": None}, "remote_id"),
        ({"mine": 1}, "mine"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
    ],
)
def test_invalid_content_is_rejected_by_field(changed, field):
    given = read(CANCEL | changed)
    verdict = judge(given, ConnectionState.ACTIVE, NOW, DAY)
    (refusal,) = verdict.refusals
    assert (verdict.outcome, refusal.reason, refusal.field) == (Outcome.REJECTED, RefusalReason.VALIDATION, field)
    result = verdict.result(given, "acme")
    assert (result.command_id, result.outcome, result.refusals) == ("c1", Outcome.REJECTED, (refusal,))
    assert verdict.lane(given) == given.id


@pytest.mark.parametrize("number", [b"1e999999999", b"-1e-999999999", b"9" * 4000])
def test_a_number_of_any_size_is_rejected_and_never_written_out(number):
    given = given_body(orjson.dumps(CREATE).replace(b'"1"', number), 10_000)
    assert judge(given, ConnectionState.ACTIVE, NOW, DAY).refusals[0].field == "lines.0.quantity"


def test_a_name_of_any_length_is_told_shortened():
    verdict = judge(given_body(orjson.dumps(CANCEL | {"x" * 5000: 1}), 10_000), ConnectionState.ACTIVE, NOW, DAY)
    assert len(verdict.refusals[0].message) == len(verdict.refusals[0].field) == 1000


def test_a_command_that_changes_nothing_is_rejected_without_a_field():
    verdict = judged(CANCEL | {"type": "update"})
    assert verdict.refusals[0].field in {None, "update"}
    assert "changes nothing" in verdict.refusals[0].message


# Where a message came from


@examples(
    st.none() | st.binary(),
    st.binary(),
    st.lists(st.tuples(st.text(max_size=5).filter(str.isprintable), st.none() | st.binary(max_size=5))),
)
def test_a_message_is_kept_byte_for_byte(key, value, headers):
    message = Incoming("t", 3, 2**40, key, value, tuple(headers))
    assert original(origin_of(message), value) == message
