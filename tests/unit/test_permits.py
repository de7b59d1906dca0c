"""Permits: each class of refusal, with its field, its rule and what to do, word for word."""

import pytest

from relay.domain.capabilities import Capabilities, CommandCapability, FieldCapability
from relay.domain.commands import CommandType, read_command
from relay.domain.orders import Line, PurchaseOrder, Status
from relay.domain.permits import RANK, refusals
from relay.domain.results import RefusalReason as Why

ALL = tuple(CommandCapability(type=each) for each in CommandType)


def field(path, **values):
    return FieldCapability(path=path, creatable=True, updatable=True, **values)


FIELDS = (
    field("vendor.code", required=True, max_length=6),
    field("vendor.remote_id"),
    field("currency", allowed=("BRL", "USD")),
    field("notes", max_length=10),
    field("delivery_date", type="date", updatable_until=Status.APPROVED),
    field("ship_to", type="object"),
    field("exchange_rate", type="amount", decimals=4),
    FieldCapability(path="incoterm", creatable=True),
    FieldCapability(path="freight_total", type="amount", updatable=True),
    FieldCapability(path="buyer"),
    FieldCapability(path="order_date", type="date", readable=False),
    field("lines[].item.code", required=True),
    field("lines[].quantity", required=True, type="amount", decimals=2),
    field("lines[].unit"),
    field("lines[].unit_raw", required=True),
    field("custom_fields.C7_XDATE", type="date"),
    field("custom_fields.C7_XTIME", type="datetime"),
    field("custom_fields.C7_XNUM", type="amount"),
    field("custom_fields.C7_XFLAG", type="boolean", allowed=("true",)),
    field("custom_fields.C7_XTEXT"),
)
LINE = {"item": {"code": "BOLT"}, "quantity": "2.50", "unit": "C62"}
ORDER = {"vendor": {"code": "V1"}}


def system(*, commands=ALL, fields=FIELDS, **values):
    return Capabilities(connector="erp", fields=fields, commands=commands, **values)


def bought(status=Status.APPROVED, version="7", lines=("1", "2"), gone=()):
    parts = tuple(Line(remote_id=each, remote_was_deleted=each in gone) for each in lines)
    return PurchaseOrder(remote_id="4500", status=status, remote_version=version, lines=parts)


def told(given, order=None, capabilities=None):
    command = read_command({"command_id": "c1", "connection_id": "con_1"} | given)
    found = refusals(command, capabilities or system(), order)
    return [(each.reason, each.field, each.message, each.fix) for each in found]


def create(order=None, lines=(LINE,)):
    return {"type": "create", "order": ORDER if order is None else ORDER | order, "lines": list(lines)}


def update(order=None, lines=(), **values):
    return {"type": "update", "remote_id": "4500", "order": order or {}, "lines": list(lines)} | values


def test_what_the_system_takes_is_refused_nowhere():
    assert told(create({"type": "standard", "notes": None, "currency": "BRL", "ship_to": {"city": "Recife"}})) == []
    assert told(update({"notes": None, "ship_to": None}, [{"remote_id": "2", "quantity": "3.1000"}]), bought()) == []
    assert told({"type": "cancel", "remote_id": "4500", "expected_version": "7"}, bought()) == []
    assert told({"type": "cancel_lines", "remote_id": "4500", "lines": ["1", "2"]}, bought()) == []
    assert told({"type": "add_lines", "remote_id": "4500", "lines": [LINE]}, bought()) == []


def test_a_command_that_the_system_does_not_have():
    few = system(commands=(CommandCapability(type=CommandType.CREATE), CommandCapability(type=CommandType.CANCEL)))
    assert told({"type": "approve", "remote_id": "4500"}, bought(), few) == [
        (Why.NOT_PERMITTED, "type", "erp has no command approve", "It takes create and cancel")
    ]


def test_a_system_that_is_only_read():
    assert told(create(), None, system(commands=())) == [
        (Why.NOT_PERMITTED, "type", "nothing can be written to this erp", "Change the order in the ERP itself")
    ]


def test_an_order_that_is_gone():
    gone = (
        Why.CONFLICT,
        "remote_id",
        "the ERP shows no order 4500: it was deleted, or never was there",
        "Look the order up again; a new one is made with create",
    )
    assert told({"type": "close", "remote_id": "4500"}, None) == [gone]
    assert told({"type": "close", "remote_id": "4500"}, bought().deleted()) == [gone]


def test_an_order_that_was_changed_since_it_was_seen():
    assert told(update({"notes": "x"}, expected_version="6"), bought()) == [
        (
            Why.CONFLICT,
            "expected_version",
            "the order was changed since you saw it: its version is now 7",
            "Look at the order again, and send a new command with its remote_version",
        )
    ]


def test_a_version_where_the_system_has_none():
    assert told(update({"notes": "x"}, expected_version="6"), bought(version=None)) == [
        (Why.VALIDATION, "expected_version", "this system has no versions of orders", "Leave expected_version out")
    ]


def test_a_command_in_the_wrong_status():
    statuses = (Status.DRAFT, Status.APPROVED)
    commands = (
        CommandCapability(type=CommandType.CLOSE),
        CommandCapability(type=CommandType.CANCEL, statuses=statuses),
    )
    cancel = {"type": "cancel", "remote_id": "4500"}
    assert told(cancel, bought(Status.RECEIVED), system(commands=commands)) == [
        (
            Why.WORKFLOW_STATE,
            "status",
            "cancel is for orders that are draft or approved, and this one is received",
            "Bring the order to such a status in the ERP first",
        )
    ]
    for status in (*statuses, Status.ON_HOLD, Status.OTHER):
        assert told(cancel, bought(status), system(commands=commands)) == []


def test_the_connector_may_say_itself_what_helps_in_the_wrong_status():
    commands = (CommandCapability(type=CommandType.CLOSE, statuses=(Status.RECEIVED,), note="Receive it first"),)
    ((_, _, message, fix),) = told({"type": "close", "remote_id": "4500"}, bought(), system(commands=commands))
    assert (message, fix) == ("close is for orders that are received, and this one is approved", "Receive it first")


def test_a_field_that_the_system_has_not():
    unknown = "Leave it out; the connection's capabilities list what can be written"
    assert told(create({"freight_type": "C", "order_date": "2026-01-31", "type": "blanket"})) == [
        (Why.NOT_WRITABLE_FIELD, "type", "type is nothing that erp takes", unknown),
        (Why.NOT_WRITABLE_FIELD, "order_date", "order_date is nothing that erp takes", unknown),
        (Why.NOT_WRITABLE_FIELD, "freight_type", "freight_type is nothing that erp takes", unknown),
    ]
    assert told(update({"bill_to": None, "branch": {"remote_id": "1"}}), bought()) == [
        (Why.NOT_WRITABLE_FIELD, "branch.remote_id", "branch.remote_id is nothing that erp takes", unknown),
        (Why.NOT_WRITABLE_FIELD, "bill_to", "bill_to is nothing that erp takes", unknown),
    ]


def test_a_field_that_only_the_system_itself_fills():
    own = (Why.NOT_WRITABLE_FIELD, "buyer", "buyer is erp's own and cannot be written", "Leave it out")
    assert told(create({"buyer": "Ana"})) == [own]
    assert told(update({"buyer": "Ana"}), bought()) == [own]


def test_a_field_that_only_something_new_takes():
    assert told(update({"incoterm": "FOB"}), bought()) == [
        (
            Why.NOT_WRITABLE_FIELD,
            "incoterm",
            "incoterm is given once, to something new, and stays as it is",
            "Leave it out",
        )
    ]


def test_a_field_that_only_an_update_takes():
    assert told(create({"freight_total": "1"})) == [
        (
            Why.NOT_WRITABLE_FIELD,
            "freight_total",
            "freight_total cannot be given to something new",
            "Leave it out, and send an update once the order is there",
        )
    ]


def test_a_field_of_which_it_is_too_late():
    assert told(update({"delivery_date": "2026-01-31"}), bought(Status.RECEIVED)) == [
        (
            Why.WORKFLOW_STATE,
            "delivery_date",
            "delivery_date can be changed until an order is approved, and this one is received",
            "Leave it out",
        )
    ]


@pytest.mark.parametrize("status", [Status.DRAFT, Status.REJECTED, Status.APPROVED, Status.ON_HOLD, Status.OTHER])
def test_it_is_not_too_late_before_that_status_or_where_only_the_erp_can_tell(status):
    assert told(update({"delivery_date": "2026-01-31"}), bought(status)) == []


def test_every_status_has_a_rank_but_those_in_which_the_erp_decides():
    assert set(Status) - set(RANK) == {Status.ON_HOLD, Status.OTHER}


def test_what_a_new_order_cannot_be_without():
    given = {
        "type": "create",
        "order": {"vendor": {"code": None}},
        "lines": [LINE, {"quantity": "1", "unit_raw": "UN"}],
    }
    assert told(given) == [
        (Why.VALIDATION, "vendor.code", "vendor.code is missing: a new order needs it", "Give it"),
        (
            Why.VALIDATION,
            "lines[1].item.code",
            "lines[1].item.code is missing: a new line needs it",
            "Give it",
        ),
    ]
    assert [each[1] for each in told({"type": "add_lines", "remote_id": "4500", "lines": [{}]}, bought())] == [
        "lines[0].item.code",
        "lines[0].quantity",
        "lines[0].unit_raw",
    ]


def test_the_systems_own_key_stands_in_for_a_required_code():
    assert told({"type": "create", "order": {"vendor": {"remote_id": "17"}}, "lines": [LINE]}) == []


def test_a_required_field_is_not_emptied():
    assert told(update({"vendor": {"code": None}}), bought()) == [
        (
            Why.VALIDATION,
            "vendor.code",
            "vendor.code cannot be empty",
            "Give a value, or leave it out to keep the one that is there",
        )
    ]


def test_a_text_that_is_too_long():
    assert told(update({"notes": "much too long"}), bought()) == [
        (Why.VALIDATION, "notes", "notes has 13 characters, and at most 10 fit", "Shorten it")
    ]


def test_more_decimals_than_are_kept():
    assert told(update(lines=[{"remote_id": "1", "quantity": "1.2345"}]), bought()) == [
        (
            Why.VALIDATION,
            "lines[0].quantity",
            "lines[0].quantity has 4 decimals, and at most 2 are kept",
            "Round it yourself",
        )
    ]


def test_a_value_that_is_none_of_a_few():
    assert told(create({"currency": "EUR"})) == [
        (Why.VALIDATION, "currency", "currency must be one of BRL and USD", "Give one of these")
    ]


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("C7_XDATE", "31/01/2026", "a date, as 2026-01-31"),
        ("C7_XTIME", "2026-01-31T12:00:00", "a time with its zone, as 2026-01-31T12:00:00Z"),
        ("C7_XNUM", "many", "a decimal number"),
        ("C7_XNUM", "NaN", "a decimal number"),
        ("C7_XFLAG", "yes", "true or false"),
        ("C7_XTEXT", True, "text"),
    ],
)
def test_a_custom_field_of_the_wrong_type(name, value, shape):
    path = f"custom_fields.{name}"
    assert told(update({"custom_fields": {name: value}}), bought()) == [
        (Why.VALIDATION, path, f"{path} must be {shape}", "Write it so")
    ]


def test_custom_fields_of_the_right_type():
    given = {
        "C7_XDATE": "2026-01-31",
        "C7_XTIME": "2026-01-31T12:00:00Z",
        "C7_XNUM": "1E+2",
        "C7_XFLAG": True,
        "C7_XTEXT": "",
    }
    assert told(update({"custom_fields": given}), bought()) == []


def test_custom_fields_where_the_system_takes_none_but_those_it_is_known_to_have():
    given = update({"custom_fields": {"C7_OTHER": "1"}})
    assert told(given, bought()) == [
        (
            Why.NOT_WRITABLE_FIELD,
            "custom_fields.C7_OTHER",
            "custom_fields.C7_OTHER is nothing that erp takes",
            "Leave it out; the connection's capabilities list what can be written",
        )
    ]
    assert told(given, bought(), system(custom_fields=True)) == []


def test_a_line_that_the_order_does_not_have():
    there = "Name one that it has: 1"
    expected = [
        (Why.VALIDATION, "lines[0].remote_id", "the order has no line 2", there),
        (Why.VALIDATION, "lines[1].remote_id", "the order has no line 9", there),
    ]
    lines = [{"remote_id": "2"}, {"remote_id": "9"}]
    order = bought(gone=("2",))
    assert told(update(lines=lines), order) == expected
    assert told({"type": "update_lines", "remote_id": "4500", "lines": lines}, order) == expected
    assert told({"type": "cancel_lines", "remote_id": "4500", "lines": ["1", "3"]}, order) == [
        (Why.VALIDATION, "lines[1]", "the order has no line 3", there)
    ]


def test_an_order_without_lines_names_none():
    assert told({"type": "cancel_lines", "remote_id": "4500", "lines": ["1"]}, bought(lines=())) == [
        (Why.VALIDATION, "lines[0]", "the order has no line 1", "It has no lines: add one first")
    ]


def test_only_some_of_many_lines_are_named():
    many = bought(lines=tuple(map(str, range(1, 31))))
    ((_, _, _, fix),) = told({"type": "cancel_lines", "remote_id": "4500", "lines": ["99"]}, many)
    assert fix == f"Name one that it has: {', '.join(map(str, range(1, 21)))} and 10 more"


def test_a_line_that_is_named_twice():
    assert told({"type": "cancel_lines", "remote_id": "4500", "lines": ["1", "1"]}, bought()) == [
        (Why.VALIDATION, "lines[1]", "line 1 is named twice", "Say all of a line in one place")
    ]


def test_everything_that_is_wrong_is_told_at_once():
    given = create({"notes": "much too long", "buyer": "Ana"}, [{"quantity": "1.234"}])
    assert [each[1] for each in told(given)] == [
        "buyer",
        "notes",
        "lines[0].quantity",
        "lines[0].item.code",
        "lines[0].unit_raw",
    ]
