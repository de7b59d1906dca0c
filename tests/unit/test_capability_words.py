"""What a system takes, told to people."""

import pytest

from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.capability_words import command_rows, field_rows
from relay.domain.commands import CommandType
from relay.domain.orders import Status


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"creatable": True}, ("taken", "", "text", "")),
        ({"creatable": True, "required": True, "max_length": 6}, ("needed", "", "text, at most 6", "")),
        ({"updatable": True, "updatable_until": Status.DRAFT}, ("", "until draft", "text", "")),
        (
            {"updatable": True, "type": "amount", "decimals": 0, "readable": False},
            ("", "in any status", "amount, 0 decimals", ""),
        ),
        ({"creatable": True, "allowed": ("C", "F")}, ("taken", "", "text", "one of C, F")),
        ({"creatable": True, "reference": "vendors"}, ("taken", "", "text", "in the list vendors")),
    ],
)
def test_a_field_that_is_written_is_told_with_its_bounds(said, told):
    known = Capabilities(connector="any", fields=(FieldCapability(path="x", **said), FieldCapability(path="read")))
    assert list(field_rows(known)) == [("x", *told)]


def test_a_command_is_told_with_the_statuses_that_allow_it():
    some = [
        CommandCapability(type=CommandType.CREATE, note="With its lines."),
        CommandCapability(type=CommandType.CANCEL, statuses=(Status.DRAFT, Status.APPROVED)),
        CommandCapability(type=CommandType.CLOSE),
    ]
    assert list(command_rows(some)) == [
        ("create", "", "With its lines."),
        ("cancel", "draft, approved", ""),
        ("close", "any", ""),
    ]
