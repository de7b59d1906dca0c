"""Commands and results: what is taken, under which key, and what is refused without repeating it."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from relay.domain.commands import BadCommand, command_key, given, lane, mark, read_command
from relay.domain.results import Outcome, Refusal, RefusalReason, ResultData, WriteRefused, result_id, result_of

HEAD = {"command_id": "c-1", "connection_id": "con_1"}
ORDER = {"vendor": {"code": "F1"}, "notes": None}
LINES = [{"item": {"code": "A"}, "quantity": "2.50", "custom_fields": {"C7_X": "y"}}]
EVERY = [
    {"type": "create", "order": ORDER, "lines": LINES},
    {"type": "update", "remote_id": "7", "order": ORDER},
    {"type": "add_lines", "remote_id": "7", "lines": LINES},
    {"type": "update_lines", "remote_id": "7", "lines": [{"remote_id": "1", "quantity": "3"}]},
    {"type": "cancel_lines", "remote_id": "7", "lines": ["1"]},
    {"type": "cancel", "remote_id": "7", "reason": "not needed"},
    {"type": "close", "remote_id": "7"},
    {"type": "approve", "remote_id": "7"},
    {"type": "reject", "remote_id": "7"},
]


@pytest.mark.parametrize("content", EVERY, ids=lambda each: each["type"])
def test_every_command_is_read_and_comes_back_as_it_was(content):
    command = read_command(HEAD | content)
    assert read_command(command.model_dump(mode="json", exclude_unset=True)) == command
    assert lane(command) == ("7" if "remote_id" in content else command_key("con_1", "c-1"))


@pytest.mark.parametrize(
    ("content", "field", "told"),
    [
        ({"type": "explode"}, "type", "expected one of create, update"),
        ({}, "type", "expected one of"),
        ({"type": "cancel"}, "remote_id", "Field required"),
        ({"type": "create", "order": {}, "lines": []}, "lines", "at least 1"),
        ({"type": "create", "order": {}, "lines": [{"quantity": 1.5}]}, "lines.0.quantity", "floats are not exact"),
        ({"type": "update", "remote_id": "7"}, "update", "it changes nothing"),
        ({"type": "cancel", "remote_id": "7", "surprise": 1}, "surprise", "Extra inputs"),
        ({"type": "cancel", "remote_id": "7", "command_id": "with blank"}, "command_id", "match pattern"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused_by_field(content, field, told):
    with pytest.raises(BadCommand, match=told) as refused:
        read_command(HEAD | content)
    assert refused.value.field == field


def test_what_is_given_is_told_by_path_and_null_is_a_value():
    command = read_command(HEAD | EVERY[0])
    assert dict(given(command.order)) == {"vendor.code": "F1", "notes": None}
    assert dict(given(command.lines[0])) == {
        "item.code": "A",
        "quantity": Decimal("2.50"),
        "custom_fields.C7_X": "y",
    }
    changed = read_command(HEAD | EVERY[3]).lines[0]
    assert dict(given(changed)) == {"quantity": Decimal(3)}


def test_an_order_is_found_by_the_senders_reference_or_by_a_key_of_its_own():
    own = mark(read_command(HEAD | EVERY[0]))
    assert own.startswith("rl-")
    assert len(own) == 15
    assert own == mark(read_command(HEAD | EVERY[0]))
    assert own != mark(read_command(HEAD | EVERY[0] | {"command_id": "c-2"}))
    assert mark(read_command(HEAD | EVERY[0] | {"external_reference": "REQ 1"})) == "REQ 1"


def test_ids_of_a_command_and_its_results_are_derived():
    key = command_key("con_1", "c-1")
    assert key == command_key("con_1", "c-1")
    assert key != command_key("con_", "1c-1")
    assert result_id(key, 1) != result_id(key, 2)


def test_a_result_is_an_event_of_its_outcome():
    data = ResultData(
        id="cmd_1",
        command_id="c-1",
        type="cancel",
        customer_id="cus_1",
        connection_id="con_1",
        outcome=Outcome.REJECTED,
    )
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert result_of(data, now).type == "purchase_order.command_rejected"


def test_a_refusal_says_all_its_reasons():
    some = [Refusal(reason=RefusalReason.VALIDATION, message=f"wrong {each}") for each in "ab"]
    error = WriteRefused(some, said="NO")
    assert (str(error), error.said, error.refusals) == ("wrong a; wrong b", "NO", tuple(some))
