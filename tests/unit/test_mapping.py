"""A connection's own mapping: what may be said in it, how extra columns are read, what of it people type."""

import datetime as dt
import re
import runpy
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.cli.mapped import Changes, changed, mapping_of, overrides_of
from relay.connectors import CONNECTORS
from relay.connectors.kit.own_columns import own_reader, own_rules
from relay.connectors.kit.sampling import LONGEST, MASKED, MOST, samples_of
from relay.connectors.protheus import PROTHEUS
from relay.connectors.tryton import TRYTON
from relay.control.given import mapping_given
from relay.domain.errors import UserError
from relay.domain.mapping import READERS, MappingOverrides, Names, ReaderName, Revisions, honoured
from relay.domain.orders import Status
from relay.store import database

NAMES = st.text("ABCXZ_019", min_size=1, max_size=8)
COLUMNS = st.dictionaries(NAMES, st.sampled_from(ReaderName), max_size=3)
OVERRIDES = st.builds(
    MappingOverrides,
    currencies=st.dictionaries(NAMES, st.sampled_from(["BRL", "USD"]), max_size=3),
    units=st.dictionaries(NAMES, st.sampled_from(["C62", "EA", "3B"]), max_size=3),
    statuses=st.dictionaries(NAMES, st.sampled_from([each for each in Status if each != "deleted"]), max_size=3),
    fields=COLUMNS,
    line_fields=COLUMNS,
    decimals=st.dictionaries(NAMES, st.integers(0, 12), max_size=3),
)
EVERYTHING = dict.fromkeys(MappingOverrides.model_fields, Names("name", r"\S+"))


# the overrides


@given(OVERRIDES)
def test_overrides_survive_being_stored(overrides):
    assert MappingOverrides.model_validate(overrides.told()) == overrides
    assert all(overrides.told().values())


@given(OVERRIDES)
def test_checking_the_names_twice_is_checking_them_once(overrides):
    once = honoured(EVERYTHING, overrides)
    assert honoured(EVERYTHING, once) == once == overrides


def test_a_list_of_columns_is_read_as_it_comes():
    assert MappingOverrides(fields=["C7_X"], line_fields=("C7_Y",)).told() == {
        "fields": {"C7_X": "auto"},
        "line_fields": {"C7_Y": "auto"},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"currencies": {"1": "real"}},
        {"units": {"CX": "box!"}},
        {"statuses": {"X": "lost"}},
        {"statuses": {"X": "deleted"}},
        {"fields": {"C7_X": "float"}},
        {"fields": "C7_X"},
        {"decimals": {"C7_PRECO": 13}},
        {"prices": {}},
        {"fields": {"": "auto"}},
    ],
)
def test_a_mapping_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValidationError):
        MappingOverrides.model_validate(wrong)
    with pytest.raises(UserError, match="mapping of protheus"):
        mapping_given(PROTHEUS, wrong)


def test_names_are_written_as_the_erp_writes_them_or_refused_each_by_name():
    mapped = mapping_given(PROTHEUS, {"fields": {"c7_xprior ": "text"}, "units": {"cx": "BX"}})
    assert mapped.told() == {"fields": {"C7_XPRIOR": "text"}, "units": {"cx": "BX"}}
    with pytest.raises(UserError) as caught:
        mapping_given(PROTHEUS, {"fields": {"A2_NOME": "text"}, "currencies": {"0": "BRL", "US": "USD"}})
    for part in ("fields: 'A2_NOME' is no column of SC7", "currencies: '0' is no currency index", "'US'"):
        assert part in str(caught.value)


def test_a_part_that_a_connector_does_not_honour_is_refused_by_name():
    with pytest.raises(UserError, match="decimals: this connector takes none; it takes currencies, units"):
        mapping_given(TRYTON, {"decimals": {"amount": 2}})
    with pytest.raises(UserError, match="it takes none"):
        honoured({}, MappingOverrides(units={"u": "EA"}))


@pytest.mark.parametrize("kind", CONNECTORS.values(), ids=lambda kind: kind.name)
def test_every_connector_says_which_parts_it_honours(kind):
    assert kind.overridable.keys() <= MappingOverrides.model_fields.keys()
    assert all(names.words and names.pattern for names in kind.overridable.values())


def test_the_revisions_of_a_connectors_rules_say_what_each_changed():
    revisions = Revisions({2: ("lines[].unit",), 3: ("status", "lines[].unit")})
    assert (revisions.version, Revisions().version) == (3, 1)
    assert revisions.since(1) == {"lines[].unit", "status"}
    assert revisions.since(3) == frozenset()


# readers of extra columns


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("auto", "URGENTE   ", "URGENTE"),
        ("auto", "   ", None),
        ("auto", 12.305, "12.305"),
        ("auto", Decimal("0.30000000000000004"), "0.3"),
        ("auto", True, True),
        ("auto", None, None),
        ("text", 7, "7"),
        ("text", " a b ", " a b"),
        ("number", " 12.50", "12.5"),
        ("number", "", None),
        ("date", "20261201", "2026-12-01"),
        ("date", "2026-12-01", "2026-12-01"),
        ("date", "00000000", None),
        ("code", " 01 ", "01"),
        ("code", 3.0, "3"),
        ("code", "  ", None),
        ("boolean", "S", True),
        ("boolean", ".f.", False),
        ("boolean", 1, True),
        ("boolean", " ", None),
        ("boolean", None, None),
        ("boolean", False, False),
    ],
)
def test_a_named_reader_reads_what_an_erp_gives(kind, value, read):
    assert own_reader(ReaderName(kind)).read(value) == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", True),
        ("number", "ten"),
        ("number", True),
        ("date", "soon"),
        ("code", 1.5),
        ("boolean", "maybe"),
        ("auto", []),
    ],
)
def test_what_a_reader_cannot_read_is_said_without_the_value(kind, value):
    with pytest.raises(ValueError, match=r"expected|no such") as caught:
        own_reader(ReaderName(kind)).read(value)
    assert str(value) not in str(caught.value) or value == []


@given(
    st.sampled_from([kind for kind in ReaderName if kind != "omit"]),
    st.one_of(st.text(), st.integers(), st.floats(), st.dates(), st.none(), st.booleans(), st.lists(st.integers())),
)
def test_a_reader_reads_text_truth_or_nothing_or_says_no(kind, value):
    try:
        read = own_reader(kind).read(value)
    except ValueError:
        return
    assert read is None or isinstance(read, (str, bool))


def test_a_connector_may_unwrap_its_erps_values_first_and_omitted_columns_have_no_rule():
    (rule,) = own_rules({"when": ReaderName.DATE, "note": ReaderName.OMIT}, "lines[].", plain=lambda day: day["day"])
    assert rule.path == "lines[].custom_fields.when"
    assert rule.reader.read({"day": str(dt.date(2026, 12, 1))}) == "2026-12-01"


def test_every_reader_is_told_in_words():
    assert READERS.keys() == set(ReaderName)


# samples


def test_samples_are_few_short_different_and_never_blank():
    values = ["a", "a", None, "", "  ", "b" * 100, "c\x07d", 5, [1], {"x": 1}]
    samples = samples_of("C7_XOBRA", values)
    assert samples[0] == "a"
    assert samples[2] == "c d"
    assert len(samples) == MOST
    assert len(samples[1]) == LONGEST


@pytest.mark.parametrize("name", ["password", "C7_XSENHA", "api_key", "C7_USERLGI", "party.token"])
def test_a_field_that_may_hold_a_secret_shows_no_value(name):
    assert samples_of(name, ["canary"]) == (MASKED,)
    assert samples_of(name, [""]) == ()


# as people type it


def test_a_mapping_is_typed_part_by_part():
    typed = ["units.CX=BX", "fields.party.lang.code", "fields.C7_XPRIOR=text", 'line_fields=["C7_XPESO"]', "units.="]
    assert mapping_of(typed[:4]) == {
        "units": {"CX": "BX"},
        "fields": {"party.lang.code": "auto", "C7_XPRIOR": "text"},
        "line_fields": ["C7_XPESO"],
    }
    for wrong in ("units", "units=BX", "=x", typed[4]):
        with pytest.raises(UserError, match="cannot be read"):
            mapping_of([wrong])
    with pytest.raises(UserError, match="is none"):
        mapping_of(["units={"])
    with pytest.raises(UserError, match="as a whole"):
        mapping_of(['fields=["A"]', "fields.B=text"])


# settings of before


def test_settings_that_were_a_mapping_become_one():
    migration = Path(database.__file__).parent / "migrations/versions/0008_mappings.py"
    moved = runpy.run_path(str(migration))["moved"]
    settings = {"url": "x", "currencies": {"2": "USD"}, "units": {}, "custom_fields": {"C7_X": "date"}}
    assert moved("protheus", settings) == ({"url": "x"}, {"currencies": {"2": "USD"}, "fields": {"C7_X": "date"}})
    assert moved("protheus", {"line_custom_fields": ["C7_Y"]}) == ({}, {"line_fields": {"C7_Y": "auto"}})
    assert moved("tryton", {"custom_fields": ["reference", "x"], "line_custom_fields": []}) == (
        {},
        {
            "fields": {"reference": "auto", "x": "auto", "description": "omit"},
            "line_fields": {"note": "omit"},
        },
    )
    assert moved("tryton", {"url": "x"}) == ({"url": "x"}, {})


def test_the_docs_tell_every_part_and_every_reader():
    page = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text()
    for part in MappingOverrides.model_fields:
        assert f"| `{part}` |" in page
    for name, words in READERS.items():
        assert f"| `{name}` | {words} |" in page


# as a command changes it


def test_a_command_changes_what_stands_and_a_file_says_all(tmp_path):
    stands = {"units": {"CX": "BX", "UN": "EA"}, "currencies": {"2": "USD"}}
    changes = Changes(("units.FD=BE", 'fields=["C7_X"]'), ("units.CX", "currencies"))
    assert changed(stands, changes) == {"units": {"UN": "EA", "FD": "BE"}, "fields": {"C7_X": "auto"}}
    assert stands["units"] == {"CX": "BX", "UN": "EA"}
    for never in ("units.KG", "statuses", "statuses.X"):
        with pytest.raises(UserError, match="the mapping says nothing of it"):
            changed(stands, Changes((), (never,)))
    file = tmp_path / "mapping.json"
    file.write_text('{"units": {"CX": "BX"}}')
    assert overrides_of(file) == {"units": {"CX": "BX"}}
    for wrong in ("{", "[]"):
        file.write_text(wrong)
        with pytest.raises(UserError, match="JSON"):
            overrides_of(file)
    with pytest.raises(UserError, match="cannot be read"):
        overrides_of(tmp_path / "none.json")


def test_the_examples_of_the_docs_are_good_mappings():
    docs = Path(__file__).parents[2] / "docs"
    for name in ("mapping.md", "connectors/protheus.md"):
        page = (docs / name).read_text()
        pairs = re.findall(r"--map (\S+)", page)
        assert pairs
        assert mapping_given(PROTHEUS, mapping_of(pairs)).told()
    page = (docs / "mapping.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert mapping_given(PROTHEUS, orjson.loads(example)).told() == orjson.loads(example)
    for part in MappingOverrides.model_fields:
        (pair,) = re.findall(rf"^\| `{part}` \|.*\| `({part}\.\S+)` \|$", page, re.MULTILINE)
        assert mapping_given(PROTHEUS, mapping_of([pair])).told().keys() == {part}
