"""A changed mapping: what happened to an order is told as it happened, what only the mapping shows otherwise apart."""

from datetime import timedelta

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.domain.changes import Change, apply
from relay.domain.events import ChangeEvent, Snapshot
from relay.domain.mapping import Edition, MappingOverrides, MappingVersion, Retold, Revisions
from relay.domain.orders import Line, PurchaseOrder, Status, Vendor, content_hash
from relay.domain.remapping import Remapping, as_before
from relay.domain.syncs import Announce, OpenSync, SyncKind
from relay.ports import Mappings, Page
from relay.stages.observe import Telling, observed
from relay.stages.poll import Patience
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.remap import Remap
from relay.stages.sync import Sync
from relay.stages.take import Take
from tests.fakes import LEASE, START, Erp, World, clock, connection, run

SCHEMA = jsonschema.Draft202012Validator(ChangeEvent.model_json_schema(mode="serialization"))
BRL, USD, NONE = (MappingOverrides(currencies={"1": code} if code else {}) for code in ("BRL", "USD", ""))
CHANGED = {2: ("lines[].unit", "notes"), 3: ("*",)}
RULES = Revisions(CHANGED)


def record(number="7", status="approved", raw="1", unit="UN", *, deleted=False, **values):
    """What an ERP holds of an order."""
    return {"number": number, "status": status, "raw": raw, "deleted": deleted, "unit": unit, **values}


def mapped(one, overrides):
    """The toy connector: a currency by its map."""
    return PurchaseOrder(
        remote_id="4500",
        number=one["number"],
        status=Status(one["status"]),
        currency=overrides.currencies.get(one["raw"]),
        currency_raw=one["raw"],
        remote_was_deleted=one["deleted"],
        lines=(Line(remote_id="1", quantity=1, unit=one["unit"]),),
        notes=one.get("notes"),
        remote_updated_at=START,
    )


def remapping(*overrides, retold=Retold.MAPPING_CHANGED, rules=1):
    """The last of these overrides stands; all of them are known, from version 1 on."""
    versions = {
        number: MappingVersion(number, each, retold if number == len(overrides) else Retold.MAPPING_CHANGED)
        for number, each in enumerate(overrides, 1)
    }
    revisions = Revisions({number: paths for number, paths in CHANGED.items() if number <= rules})
    return Remapping(Edition(rules, len(overrides)), revisions, versions)


def look(known, one, how, telling=None, *, under=True):
    """One look at a record; the events, whose changes make the new state of the old one. `known` is kept up."""
    overrides = how.versions[how.edition.version].overrides
    last = known.get("4500")

    def others(former):
        return {"4500": mapped(one, former)} if under else {}

    snapshots, entries = observed(
        connection(),
        [mapped(one, overrides)],
        known,
        now=START + timedelta(hours=1),
        telling=telling or Telling(),
        remapping=how,
        under=others,
    )
    events = [orjson.loads(each.body) for each in entries]
    for event in events:
        SCHEMA.validate(event)
    known.update({each.remote_id: each for each in snapshots})
    if last and last.sequence:
        tree = last.tree
        for event in events:
            tree = apply(tree, [Change.model_validate(each) for each in event["data"]["changes"]])
        if telling is None and how.tells(last):
            assert tree == known["4500"].tree
    return [(event["type"].removeprefix("purchase_order."), event["data"]["sequence"]) for event in events]


def known_as(one, *overrides):
    known = {}
    assert look(known, one, remapping(*overrides)) == [("created", 1)]
    return known


# overrides


def test_an_order_that_only_the_mapping_shows_otherwise_is_told_once_as_mapping_changed():
    known = known_as(record(), BRL)
    assert look(known, record(), remapping(BRL, USD)) == [("mapping_changed", 2)]
    assert known["4500"].edition == Edition(1, 2)
    assert look(known, record(), remapping(BRL, USD)) == []


def test_an_order_that_the_mapping_does_not_touch_is_told_nothing_and_known_under_the_new_one():
    known = known_as(record(raw="9"), BRL)
    assert look(known, record(raw="9"), remapping(BRL, USD)) == []
    assert known["4500"].edition == Edition(1, 2)


@pytest.mark.parametrize("retold", Retold)
def test_a_true_change_that_comes_with_the_mapping_is_told_as_what_it_is(retold):
    known = known_as(record(), BRL)
    told = look(known, record(status="closed"), remapping(BRL, USD, retold=retold))
    assert told == [("closed", 2), ("mapping_changed", 3)][: 2 if retold == "mapping_changed" else 1]
    assert known["4500"].tree["currency"] == "USD"


def test_a_silent_mapping_replaces_the_known_state_without_a_word():
    known = known_as(record(), BRL)
    assert look(known, record(), remapping(BRL, USD, retold=Retold.SILENT)) == []
    assert (known["4500"].tree["currency"], known["4500"].sequence) == ("USD", 1)
    assert look(known, record(status="closed"), remapping(BRL, USD, retold=Retold.SILENT)) == [("closed", 2)]


def test_one_version_that_is_to_be_told_among_silent_ones_is_told():
    known = known_as(record(), BRL)
    assert look(known, record(), remapping(BRL, NONE, USD, retold=Retold.SILENT)) == [("mapping_changed", 2)]


def test_going_back_and_forth_between_two_looks_is_nothing():
    known = known_as(record(), BRL)
    assert look(known, record(), remapping(BRL, USD, BRL)) == []
    assert known["4500"].edition == Edition(1, 3)


def test_the_event_says_that_nothing_happened_in_the_erp():
    known = known_as(record(), BRL)
    how = remapping(BRL, USD)
    _, (entry,) = observed(
        connection(), [mapped(record(), USD)], known, now=START, telling=Telling(), remapping=how,
        under=lambda former: {"4500": mapped(record(), former)},
    )  # fmt: skip
    data = orjson.loads(entry.body)["data"]
    assert (data["occurred_at"], data["kinds"]) == (None, ["mapping_changed"])
    (change,) = data["changes"]
    assert (change["path"], change["before"], change["after"]) == ("/currency", "BRL", "USD")


@pytest.mark.parametrize("retold", Retold)
def test_what_cannot_be_mapped_as_before_is_told_in_one_event_and_never_silently(retold):
    known = known_as(record(), BRL)
    told = look(known, record(status="closed"), remapping(BRL, USD, retold=retold), under=False)
    assert told == [("mapping_changed", 2)]


def test_a_version_that_nobody_keeps_is_as_one_that_cannot_be_mapped():
    known = known_as(record(), BRL)
    how = Remapping(Edition(1, 2), Revisions(), {2: MappingVersion(2, USD)})
    assert look(known, record(), how) == [("mapping_changed", 2)]


def test_a_delete_is_told_as_a_delete_whatever_else_cannot_be_told_apart():
    known = known_as(record(), BRL)
    gone = record(status="deleted", deleted=True)
    assert look(known, gone, remapping(BRL, USD), under=False) == [("deleted", 2)]


def test_an_order_of_which_nothing_was_told_is_told_nothing_of_a_mapping():
    known = {}
    assert look(known, record(), remapping(BRL), Telling(Announce.SILENT)) == []
    assert look(known, record(), remapping(BRL, USD)) == []
    assert (known["4500"].sequence, known["4500"].tree["currency"]) == (0, "USD")


def test_a_silent_sync_says_nothing_of_a_mapping_either():
    known = known_as(record(), BRL)
    assert look(known, record(status="closed"), remapping(BRL, USD), Telling(Announce.SILENT)) == []
    assert known["4500"].edition == Edition(1, 2)


def test_a_sync_for_a_mapping_leaves_orders_alone_that_were_never_seen():
    assert look({}, record(), remapping(BRL), Telling(known_only=True)) == []


records = st.builds(
    record,
    number=st.sampled_from(["7", "8"]),
    status=st.sampled_from(["approved", "closed", "on_hold"]),
    raw=st.sampled_from(["1", "2"]),
    unit=st.sampled_from(["UN", "KG"]),
)
maps = st.sampled_from([BRL, USD, NONE])


@given(st.lists(st.tuples(records, maps, st.sampled_from(Retold)), min_size=1, max_size=6))
def test_true_changes_are_told_as_without_any_mapping_and_nothing_else_is_but_as_mapping_changed(looks):
    """Beside it runs the same story under one mapping: its events are the true ones, in the same looks."""
    known, plain, versions = {}, {}, {}
    for number, (one, overrides, retold) in enumerate(looks, 1):
        versions[number] = MappingVersion(number, overrides, retold)
        told = look(known, one, Remapping(Edition(1, number), Revisions(), dict(versions)))
        # The toy's currency differs with its raw code only, so it is no true change that the plain story misses.
        true = look(plain, one, remapping(NONE))
        assert [kind for kind, _ in told if kind != "mapping_changed"] == [kind for kind, _ in true]
        assert [kind for kind, _ in told].count("mapping_changed") <= 1
        assert [sequence for _, sequence in told] == sorted(sequence for _, sequence in told)
        assert known["4500"].tree == mapped(one, overrides).tree()
        assert known["4500"].edition.version == number


# the connector's own rules


def test_a_new_version_of_the_rules_is_told_apart_from_what_other_fields_say():
    known = known_as(record(), BRL)
    told = look(known, record(status="closed", unit="C62"), remapping(BRL, rules=2))
    assert told == [("closed", 2), ("mapping_changed", 3)]
    assert known["4500"].edition == Edition(2, 1)


def test_rules_that_changed_everything_cannot_be_told_apart():
    known = known_as(record(), BRL)
    assert look(known, record(status="closed"), remapping(BRL, rules=3)) == [("mapping_changed", 2)]


def test_new_rules_are_told_even_when_the_overrides_are_silent():
    known = known_as(record(), BRL)
    told = look(known, record(unit="C62"), remapping(BRL, USD, retold=Retold.SILENT, rules=2))
    assert told == [("mapping_changed", 2)]


def tree(**values):
    return mapped(record(**values), BRL).tree()


def test_fields_are_put_back_where_the_objects_around_them_stand():
    order = mapped(record(unit="C62", notes="new"), BRL)
    order = order.model_copy(update={"vendor": Vendor(remote_id="1", name="New"), "custom_fields": {"X": "1"}})
    paths = frozenset({"lines[].unit", "notes", "vendor.name", "custom_fields.X", "ship_to.name", "lines[].item.code"})
    before = as_before(tree(notes="old"), order, paths)
    assert (before.lines[0].unit, before.notes, before.custom_fields) == ("UN", "old", {})
    assert before.vendor.name == "New"  # there was no vendor: that one is there is a true change
    assert before.remote_updated_at == order.remote_updated_at


def test_a_line_that_is_new_has_no_former_fields_and_one_that_cannot_be_put_back_makes_no_order():
    order = mapped(record(unit="C62"), BRL)
    assert as_before({**tree(), "lines": []}, order, frozenset({"lines[].unit"})).lines[0].unit == "C62"
    assert as_before({**tree(), "status": "lost"}, order, frozenset({"status"})) is None


# the stages


def test_a_runner_maps_with_what_stands_and_compares_with_what_stood():
    versions = {1: MappingVersion(1, BRL), 2: MappingVersion(2, USD, Retold.SILENT)}
    at = World(versions=versions)
    of = connection(mapping=versions[2])
    mappings, how = run(Remap(of, LEASE, Revisions(), at).run_once())
    assert mappings == Mappings(USD, (BRL,))
    assert (how.edition, how.versions) == (Edition(1, 2), versions)
    assert at.begun == []


def test_a_connection_without_overrides_asks_for_no_versions():
    at = World()
    mappings, how = run(Remap(connection(), LEASE, Revisions(), at).run_once())
    assert (mappings, how.edition) == (Mappings(), Edition(1, 0))
    assert "former_mappings" not in at.calls


def test_newer_rules_begin_a_sync_once_and_say_so():
    at = World()
    with capture_logs() as logs:
        _, how = run(Remap(connection(), LEASE, RULES, at).run_once())
        run(Remap(connection(rules=3), LEASE, RULES, at).run_once())
    assert [rules for rules, _ in at.begun] == [3]
    assert how.edition == Edition(3, 0)
    assert [(each["event"], each["rules"]) for each in logs] == [("connection.remapped", 3)]


def test_a_sync_for_a_mapping_tells_mapping_changes_and_no_order_that_it_meets_first():
    at = World(syncs=[OpenSync("syn_1", SyncKind.MAPPING, Announce.CHANGES)])
    before = mapped(record(), BRL)
    at.known = {"4500": Snapshot("4500", before.tree(), content_hash(before.tree()), 1, START, Edition(1, 1))}
    new = mapped(record(), USD)
    stray = new.model_copy(update={"remote_id": "4501"})
    page = Page((new, stray), "end", under=lambda former: {"4500": mapped(record(), former)})
    of, how = connection(synced=True), remapping(BRL, USD)
    take = Take(of, at, clock, lambda: None, how)

    async def work():
        stage = Sync(of, LEASE, Erp(pages=[page]), at, take, clock, lambda: 0.0, Patience(timedelta(1), timedelta(1)))
        await stage.look()
        while stage.open:
            await stage.run_once()

    run(work())
    assert [row.type for row in at.outbox] == ["purchase_order.mapping_changed"]
    assert at.known.keys() == {"4500"}


@pytest.mark.parametrize("there", [True, False])
def test_a_vanished_order_is_told_as_deleted_and_one_that_is_there_by_its_mapping(there):
    at = World()
    before = mapped(record(), BRL)
    at.known = {"4500": Snapshot("4500", before.tree(), content_hash(before.tree()), 1, START, Edition(1, 1))}
    at.missing["4500"] = 1
    erp = Erp(orders={"4500": mapped(record(), USD)} if there else {})
    of = connection(synced=True)
    run(Reconcile(of, LEASE, erp, at, clock, Doubt(2, 0.2), remapping(BRL, USD)).run_once())
    assert [row.type for row in at.outbox] == [f"purchase_order.{'mapping_changed' if there else 'deleted'}"]
    assert at.known["4500"].edition == Edition(1, 2 if there else 1)
