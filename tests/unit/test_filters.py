"""Filters: what is written is what holds, what cannot be meant is refused with its place; nothing else is raised."""

import re
import time
from decimal import Decimal

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.control.given import where_given
from relay.docs.pages import ROOT
from relay.domain.command_samples import sample_result
from relay.domain.errors import UserError
from relay.domain.events import EVENT_TYPES
from relay.domain.filters import LONGEST, Condition, parse
from relay.domain.filters.comparisons import SIGNS, number
from relay.domain.filters.conditions import RESERVED
from relay.domain.filters.event_fields import COMPARED, EVENT, Kind
from relay.domain.filters.parser import DEEPEST, MOST_VALUES
from relay.domain.notice_samples import sample_notice
from relay.domain.notices import NoticeType, notice_event
from relay.domain.results import Outcome
from relay.domain.samples import sample_event

EVENTS = {each: orjson.loads(sample_event(each).model_dump_json()) for each in EVENT_TYPES}
UPDATED = EVENTS["purchase_order.updated"]


def with_order(**fields):
    return {**UPDATED, "data": {**UPDATED["data"], "order": {**UPDATED["data"]["order"], **fields}}}


def with_changes(*changes):
    return {"data": {"changes": [dict(zip(("path", "before", "after"), each, strict=True)) for each in changes]}}


@pytest.mark.parametrize(
    "text",
    [
        'data.order.total > 100 and data.order.currency == "BRL"',
        "data.order.total == 150",
        "150 == data.order.total",
        'data.order.total >= "149.999"',
        "data.order.total != 149.5",
        "data.order.total in [1, 150.000]",
        "data.order.total not in [1, 2]",
        "data.order.total == data.order.subtotal",
        "data.sequence == 2",
        'data.order.vendor.code in ["X", "FOR001"]',
        'data.order.number == "000123"',
        "data.order.vendor.site_code == 1",
        'data.order.delivery_date < "2026-04-01" and data.order.delivery_date >= "2026-03-20"',
        "data.order.delivery_date startswith '2026-03'",
        'data.order.vendor.name contains "São" and data.order.vendor.name endswith "Ltda"',
        'data.kinds contains "line_updated"',
        'any(data.order.lines, item.code startswith "PAR" and quantity >= 120)',
        "all(data.order.lines, quantity > 1)",
        "any(data.order.lines, required_date <= data.order.delivery_date)",
        'data.order.custom_fields["C7_XPRIOR"] == "URGENTE"',
        'data.order.custom_fields.C7_XPRIOR == "URGENTE"',
        'any(data.changes, path == "/total" and before < 130 and after > 130)',
        "exists(data.order.vendor) and not exists(data.order.buyer)",
        "data.order.buyer == null and data.order.vendor != null",
        "not data.order.remote_was_deleted",
        "data.order.remote_was_deleted == false",
        "not (data.order.total < 1 or data.order.total > 1000)",
        'type == "purchase_order.updated"',
        "changed(lines.quantity)",
    ],
)
def test_this_holds_for_the_sample_of_an_update(text):
    assert parse(text).holds(UPDATED)


@pytest.mark.parametrize(
    "text",
    [
        "data.order.total < 20",
        'data.order.currency == "USD"',
        'data.order.currency < "BRL"',
        'data.order.vendor.name contains "sao"',
        "all(data.order.lines, quantity > 1000)",
        "any(data.order.lines, any(schedules, quantity > 0))",
        'data.kinds contains "approved"',
        "changed(delivery_date)",
        "data.order.total > data.order.subtotal",
    ],
)
def test_this_does_not_hold_for_the_sample_of_an_update(text):
    assert not parse(text).holds(UPDATED)


def test_decimals_are_compared_as_numbers_even_with_each_other():
    assert parse("data.order.total > data.order.subtotal").holds(with_order(total="1000", subtotal="999.99"))
    assert parse('data.order.custom_fields["X"] > 9').holds(with_order(custom_fields={"X": "10"}))
    assert not parse('data.order.custom_fields["X"] > 9').holds(with_order(custom_fields={"X": "ten"}))


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "startswith", "endswith", "contains"])
def test_a_comparison_with_a_field_that_is_absent_is_false(sign):
    assert not parse(f'data.order.custom_fields["X"] {sign} "A"').holds(UPDATED)


def test_absent_is_null_and_differs_from_every_value():
    assert parse('data.order.custom_fields["X"] == null').holds(UPDATED)
    assert parse('data.order.custom_fields["X"] != "A"').holds(UPDATED)
    assert parse('data.order.custom_fields["X"] not in ["A"]').holds(UPDATED)
    assert parse('data.order.custom_fields["X"] in ["A", null]').holds(UPDATED)


@pytest.mark.parametrize("operator", ["==", "!="])
def test_whole_lists_and_objects_equal_nothing(operator):
    text = f"data.order.raw {operator} data.order.custom_fields"
    assert parse(text).holds(with_order(raw={"a": 1}, custom_fields={"a": 1})) is (operator == "!=")


def test_true_is_no_number_and_no_text():
    for text in ('data.order.custom_fields["X"] == 1', 'data.order.custom_fields["X"] == "true"'):
        assert not parse(text).holds(with_order(custom_fields={"X": True}))
    assert parse('data.order.custom_fields["X"]').holds(with_order(custom_fields={"X": True}))


def test_raw_records_may_hold_any_json():
    record = {"items": [{"qty": 0.1, "data": "x"}, {"qty": 1e400}], "codes": [7, "8"], "note": "abc"}
    for text in (
        "any(data.order.raw.items, qty == 0.1)",
        "data.order.raw.codes contains 7",
        'data.order.raw.codes contains "8"',
        'data.order.raw.note contains "b"',
        'not data.order.raw.note startswith "b"',
        "not any(data.order.raw.note, x == 1)",
    ):
        assert parse(text).holds(with_order(raw=record)), text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1.50", Decimal("1.5")),
        (7, Decimal(7)),
        (0.1, Decimal("0.1")),
        (float("inf"), None),
        (True, None),
        ("1e9", None),
        ("NaN", None),
        ("٣", None),
        ("1_0", None),
        ("9" * 101, None),
        (None, None),
        ([], None),
    ],
)
def test_a_number_is_a_json_number_or_a_plain_decimal(value, read):
    assert number(value) == read


# What changed


@pytest.mark.parametrize(
    ("path", "before", "after", "named"),
    [
        ("/delivery_date", "2026-03-20", "2026-03-25", "delivery_date"),
        ("/delivery_date", "2026-03-20", "2026-03-25", "data.order.delivery_date"),
        ("/lines/0001/quantity", "1", "2", "lines.quantity"),
        ("/lines/0001/quantity", "1", "2", "lines"),
        ("/lines/a~1b/schedules/1/date", None, "2026-03-25", "lines.schedules.date"),
        ("/vendor/name", "A", "B", "vendor"),
        ("/vendor", None, {"name": "B", "code": None}, "vendor.name"),
        ("/lines/0002", None, {"quantity": "5", "schedules": [{"date": "2026-03-25"}]}, "lines.quantity"),
        ("/lines/0002", {"quantity": "5", "schedules": [{"date": "2026-03-25"}]}, None, "lines.schedules.date"),
        ("/lines/0002", {"item": {"code": "A"}}, None, "lines.item"),
        ("/custom_fields/C7_X~1Y", "1", "2", 'custom_fields["C7_X/Y"]'),
    ],
)
def test_a_field_changed_when_a_change_is_there_or_inside_or_took_it_along(path, before, after, named):
    assert parse(f"changed({named})").holds(with_changes(("/number", "1", "2"), (path, before, after)))


@pytest.mark.parametrize(
    ("path", "before", "after", "named"),
    [
        ("/order_date", "2026-03-20", "2026-03-25", "delivery_date"),
        ("/lines/quantity/unit", "1", "2", "lines.quantity"),
        ("/vendor", None, {"name": "B", "code": None}, "vendor.code"),
        ("/vendor", None, {"name": "B"}, "vendor.tax_id"),
        ("/lines/0002", None, {"unit": "UN", "schedules": []}, "lines.schedules.date"),
        ("/custom_fields/X", "1", "2", 'custom_fields["Y"]'),
    ],
)
def test_a_field_did_not_change_when_another_did(path, before, after, named):
    assert not parse(f"changed({named})").holds(with_changes((path, before, after)))


def test_nothing_changed_on_an_orders_first_event():
    assert not parse("changed(total) or changed(lines)").holds(EVENTS["purchase_order.created"])


@pytest.mark.parametrize("changes", [None, "x", [None], [{}], [{"path": 1}], [{"path": ""}], [{"path": "total"}]])
def test_changes_of_another_form_change_nothing(changes):
    assert not parse("changed(total)").holds({"data": {"changes": changes}})


# Refused


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("", 1, "a field or a value is expected"),
        ("data.order.totl > 5", 1, "there is no field data.order.totl; did you mean total?"),
        ("5 < order.total", 5, "did you mean data.order.total?"),
        ("sequence > 1", 1, "did you mean data.sequence?"),
        ("supplier > 1", 1, "the known ones are type, timestamp, data"),
        ("data.order.total.value > 1", 1, "data.order.total has no fields"),
        ("data.order.lines.quantity > 1", 1, "look into it with any(data.order.lines, ...)"),
        ("any(data.order.lines, quantiy > 1)", 23, "did you mean quantity?"),
        ("any(data.order.lines, type == 1)", 23, "there is no field type"),
        ("any(data.order.total, x > 1)", 5, "is no list"),
        ("any(data.kinds, x > 1)", 5, 'data.kinds contains "..."'),
        ("any(data.order.lines, any(data.order.lines, quantity > 1))", 27, "only lists of the member"),
        ("any(data.order.lines, changed(total))", 31, "outside of any(...) and all(...)"),
        ('any(data.order.lines, data.order.notes contains "x")', 23, "fields of the member"),
        ("changed(lines.quantiy)", 9, "did you mean quantity?"),
        ("changed(remote_version)", 9, "there is no field remote_version"),
        ("changed(total", 14, "`)` is expected"),
        ("data.order.total = 5", 18, "write `==` instead of `=`"),
        ("data.order.total > 5 && data.sequence > 1", 22, "write `and` instead of `&&`"),
        ("data.order.total <> 5", 18, "write `!=` instead of `<>`"),
        ("data.order.total > 5 OR data.sequence > 1", 22, "write `or` instead of `OR`"),
        ("data.order.total > 5 foo", 22, "`and`, `or` or the end is expected"),
        ("data.order.total", 1, "alone is no condition"),
        ("true", 1, "alone is no condition"),
        ('"data.order.total" > 5', 1, "without quotes"),
        ('"x" contains data.order.buyer', 1, "without quotes"),
        ('1 in [1, "x"]', 1, "without quotes"),
        ("data.order.total in data.kinds", 21, "`[` is expected"),
        ("data.order.total in [data.sequence]", 22, "values only"),
        ("data.order.buyer contains data.order.number", 1, "after contains a value is expected"),
        ('data.order.total > "abc"', 20, '"abc" cannot stand here: give a number'),
        ("data.order.total == true", 21, "give a number"),
        ("data.order.total > null", 20, "== and != only"),
        ("data.order.buyer < true", 20, "== and != only"),
        ("data.order.buyer == true", 21, "give a text in quotes"),
        ('data.order.remote_was_deleted == "true"', 34, "give true or false"),
        ('data.order.delivery_date > "31/12/2026"', 28, 'give a date, like "2026-03-31"'),
        ("data.order.delivery_date > 2026", 28, "give a date"),
        ('data.order.total startswith "1"', 29, "startswith is for texts"),
        ("data.order.buyer startswith 1", 29, "startswith is for texts"),
        ('data.order.lines contains "x"', 27, "a whole list or object"),
        ('data.order.vendor == "x"', 22, "a whole list or object"),
        ('data.order.status == "aproved"', 22, 'did you mean "approved"?'),
        ('data.order.status in ["approved", "done"]', 35, "it is one of draft, "),
        ('type == "approved"', 9, 'did you mean "purchase_order.approved"?'),
        ('data.kinds contains "foo"', 21, "it is one of created, "),
        ('data.order.status == "' + "x" * 99 + '"', 22, "x… never stands there"),
        ('data.order.buyer == "x', 21, "the text is not closed"),
        ("data.order.buyer == #", 21, "this character means nothing here"),
        ("data.order.buyer == 'a\x00'", 23, "this character cannot be used"),
        ("data.order.buyer == 'a\ud800'", 23, "this character cannot be used"),
        ("data.order.custom_fields[X] == 1", 26, "a name in quotes is expected"),
        ("data.order. > 1", 13, "the name of a field is expected"),
        ("and > 1", 1, "a field is expected"),
        ("exists(1)", 8, "a field is expected"),
        ("data.order.total not > 5", 22, "`in` is expected"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text, at, said):
    with pytest.raises(UserError) as refused:
        parse(text)
    first, shown, caret = str(refused.value).split("\n")
    assert first.startswith(f"the condition cannot be used, at character {at}: ")
    assert said in first
    assert caret.endswith("^")
    assert at > len(text) or shown[len(caret) - 1] in {text[at - 1], "\ufffd"}


def test_a_long_filters_error_shows_the_part_around_its_place():
    with pytest.raises(UserError) as refused:
        parse("data.order.total > 1\nand " * 20 + "data.order.totl > 1")
    assert str(refused.value).split("\n")[1:] == [
        "   and data.order.total > 1 and data.order.totl > 1",
        "  " + " " * 30 + "^",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data.order.total > 1" + " " * LONGEST, f"give {LONGEST} at most"),
        ("(" * (DEEPEST + 1), f"more than {DEEPEST} deep"),
        ("not " * (DEEPEST + 1), f"more than {DEEPEST} deep"),
        (f"data.sequence in [{','.join('1' * MOST_VALUES)}]", f"more than {MOST_VALUES} fields and values"),
    ],
)
def test_a_filter_has_its_limits(text, said):
    with pytest.raises(UserError, match=said):
        parse(text)


def test_what_people_give_is_stored_without_blanks_around_it_and_nothing_means_every_event():
    assert where_given(" \n") == ""
    assert where_given(" data.sequence > 1\n") == "data.sequence > 1"
    with pytest.raises(UserError, match=r"^where: the condition cannot be used, at character 1: there is no field x"):
        where_given("x > 1")


# For all filters and all events


def places(shape, front=()):
    """(path, shape) of every field below `shape` that is in no list."""
    for name, each in shape.fields.items():
        path = ".".join((*front, name))
        yield path, each
        yield from places(each, (*front, name))


def constants(shape):
    texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=8)
    match shape.kind:
        case Kind.NUMBER:
            return st.decimals(-1000, 1000, places=2).map(lambda value: format(value, "f"))
        case Kind.DATE:
            return st.dates().map(lambda day: f'"{day.isoformat()}"')
        case Kind.TRUTH:
            return st.sampled_from(["true", "false"])
        case _:
            words = st.sampled_from(shape.words) if shape.words else texts
            return words.map(lambda text: '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"')


@st.composite
def comparisons(draw, fields):
    path, shape = draw(st.sampled_from(fields))
    signs = ["==", "!="] if shape.kind is Kind.TRUTH else ["==", "!=", "<", "<=", ">", ">="]
    signs += ["startswith", "endswith", "contains"] if shape.kind in {Kind.TEXT, Kind.ANY} else []
    value = draw(constants(shape))
    return draw(
        st.sampled_from(
            [
                *(f"{path} {sign} {value}" for sign in signs),
                *(f"{value} {sign} {path}" for sign in signs if not sign.isalpha()),
                f"{path} in [{value}, null]",
                f"{path} not in [{value}]",
                f"exists({path})",
                f"{path} == null",
            ]
        )
    )


SCALARS = {Kind.TEXT, Kind.NUMBER, Kind.DATE, Kind.TRUTH, Kind.ANY}
FIELDS = [(path, shape) for path, shape in places(EVENT) if shape.kind in SCALARS]
LINE = [(path, shape) for path, shape in places(COMPARED.fields["lines"].each) if shape.kind in SCALARS]
CHANGE = [(path, shape) for path, shape in places(EVENT.fields["data"].fields["changes"].each)]
TESTS = (
    comparisons(FIELDS)
    | st.sampled_from([f"changed({path})" for path, _ in places(COMPARED)])
    | st.builds("{}(data.order.lines, {})".format, st.sampled_from(["any", "all"]), comparisons(LINE))
    | st.builds("{}(data.changes, {})".format, st.sampled_from(["any", "all"]), comparisons(CHANGE))
)
FILTERS = st.recursive(
    TESTS,
    lambda parts: st.one_of(
        st.builds("not {}".format, parts.map("({})".format)),
        st.builds("({}) and {}".format, parts, TESTS),
        st.builds("{} or ({})".format, parts, parts),
        st.builds("any(data.order.lines, any(schedules, {}))".format, st.just('date > "2026-01-01" and quantity < 3')),
    ),
    max_leaves=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(st.sampled_from([path.split(".")[-1] for path, _ in [*FIELDS, *CHANGE]]), parts, max_size=4)
    ),
    max_leaves=20,
)


@given(FILTERS, st.sampled_from(EVENT_TYPES))
def test_a_filter_prints_as_a_text_that_means_the_same(text, event_type):
    read = parse(text)
    again = parse(str(read))
    assert again == read
    assert hash(again) == hash(read)
    assert str(again) == str(read)
    assert again.holds(EVENTS[event_type]) is read.holds(EVENTS[event_type])


@given(FILTERS, JSON, JSON, JSON)
def test_no_filter_ever_fails_on_whatever_json(text, order, changes, raw):
    read = parse(text)
    for event in (order, {"data": order}, {"type": raw, "data": {"order": order, "changes": changes}}):
        if isinstance(event, dict):
            assert read.holds(event) in {True, False}


PIECES = [
    *RESERVED,
    *"()[],.\"'\\ <>=!-",
    "==",
    "<=",
    "!=",
    "data",
    ".order",
    ".lines",
    ".total",
    "1",
    "2.50",
    "quantity",
]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join) | st.lists(st.sampled_from(PIECES)).map(" ".join))
@example('"\\')
@example("data.order.lines[")
def test_whatever_is_written_is_a_condition_or_a_users_mistake(text):
    try:
        assert isinstance(parse(text), Condition)
    except UserError as error:
        str(error).encode()


@given(
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.decimals(-10, 10, places=3), st.decimals(-10, 10, places=2)
)
def test_numbers_compare_as_their_values_do(sign, left, right):
    expected = {"==": left == right, "!=": left != right, "<": left < right, "<=": left <= right}
    expected |= {">": left > right, ">=": left >= right}
    event = with_order(total=format(left, "f"))
    assert parse(f"data.order.total {sign} {right:f}").holds(event) is expected[sign]


def test_the_slowest_filter_takes_time_in_proportion_to_the_event():
    test = 'any(data.order.lines, item.description contains "y" or data.order.total > quantity)'
    slow = parse(" or ".join([test] * (LONGEST // (len(test) + 4))))

    def seconds(lines):
        line = {"quantity": "1000", "item": {"description": "x" * 1000}}
        event = with_order(lines=[line] * lines)
        started = time.process_time()
        assert not slow.holds(event)
        return time.process_time() - started

    few = min(seconds(200) for _ in range(3))
    many = min(seconds(2000) for _ in range(3))
    assert many < 40 * few


# The page


CONDITIONS = (ROOT / "docs" / "webhooks.md").read_text().partition("### Conditions")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^\| [^|`]+ \| `(.+)` \|$", CONDITIONS, re.MULTILINE)


def test_the_page_has_its_examples():
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_page_can_be_used(text):
    assert isinstance(parse(text), Condition)


@pytest.mark.parametrize("sign", [*SIGNS, "in", "not in", "exists", "changed", "any", "all", "not", "and", "or"])
def test_every_word_of_the_language_is_on_the_page(sign):
    assert re.search(rf"^\| .*`{re.escape(sign)}[`( ]", CONDITIONS, re.MULTILINE)


def test_the_page_shows_the_error_that_comes_and_names_the_limits():
    with pytest.raises(UserError) as refused:
        where_given("data.order.totl > 1000")
    assert f"```\n{refused.value}\n```" in CONDITIONS
    assert f"{LONGEST:,} characters, {MOST_VALUES} fields and values, and {DEEPEST} levels" in CONDITIONS


@pytest.mark.parametrize(
    "text", ["any(data.order.lines, any(schedules, quantity > 10))", 'data.order.custom_fields["C7 X"] == 1']
)
def test_what_the_page_says_beside_its_examples_can_be_used(text):
    assert text.partition(" ==")[0].removeprefix("data.order.") in CONDITIONS
    assert isinstance(parse(text), Condition)


RESULT = orjson.loads(sample_result(Outcome.REJECTED).model_dump_json())


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('data.outcome == "rejected" and data.type == "update_lines"', True),
        ('type == "purchase_order.command_rejected"', True),
        ('any(data.refusals, reason == "workflow_state")', True),
        ('data.order.status == "approved"', False),
        ("data.order.total > 1", False),
        ("any(data.order.lines, quantity > 1)", False),
        ("data.sequence == 1", False),
        ("changed(total)", False),
    ],
)
def test_conditions_are_asked_of_results_too_and_a_missing_order_is_nothing(text, holds):
    assert parse(where_given(text)).holds(RESULT) is holds


def test_a_word_that_no_outcome_is_is_refused():
    with pytest.raises(UserError, match="never stands there"):
        where_given('data.outcome == "done"')


NOTICE = orjson.loads(notice_event(sample_notice(NoticeType.CONNECTION_NEEDS_RECONNECT)).model_dump_json())


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('type == "connection.needs_reconnect" and data.subject_name == "protheus"', True),
        ('data.reason contains "refuses the login"', True),
        ('type startswith "purchase_order."', False),
        ("data.order.total > 1", False),
    ],
)
def test_conditions_are_asked_of_a_connections_notices_too(text, holds):
    assert parse(where_given(text)).holds(NOTICE) is holds
