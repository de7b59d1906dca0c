"""What was read, whose it is and who changed what, from the command line: orders, customers and the audit log."""

import asyncio
import re

import pytest

from relay.domain.events import ChangeEvent
from relay.domain.orders import Item, Line, PurchaseOrder, Status, Vendor, order_id
from relay.store.database import opened
from tests.fixtures.store import NOW, World, observed

pytest_plugins = ["tests.fixtures.cli"]

ERP = "con_acme_erp"
LINES = (Line(remote_id="1", line_number="0001", item=Item(code="BOLT"), quantity="3", unit="EA", unit_price="1.50"),)


@pytest.fixture
def installed(relay, environment, database_url):
    environment.setenv("RELAY_DATABASE__URL", database_url)
    return relay


@pytest.fixture
def told(installed, database_url):
    """Order r1, number 000001, of acme/erp, approved and then with notes; r2 and r3 share a number, r4 is deleted."""

    async def made():
        async with opened(database_url) as database:
            world = World(database)
            erp = await world.connection()

            async def tell(remote_id, before=None, **values):
                order = PurchaseOrder(remote_id=remote_id, **{"status": Status.APPROVED, **values})
                snapshot, entry = observed(erp.subject, order, before, NOW)
                await world.orders.save_page(erp.lease, erp.subject, [snapshot], [entry], None)
                return snapshot, entry.body

            first = {"number": "000001", "vendor": Vendor(remote_id="7", name="Aço & Cia"), "lines": LINES}
            before, created = await tell("r1", **first, total="4.50")
            _, changed = await tell("r1", before, **first, total="4.50", notes="\x1b[2Jurgent")
            for remote_id in ("r2", "r3"):
                await tell(remote_id, number="000002")
            before, _ = await tell("r4", number="000004")
            await tell("r4", before, number="000004", status=Status.DELETED, remote_was_deleted=True)
            await world.sql("UPDATE snapshots SET deleted = true WHERE remote_id = 'r4'")
            return changed, created

    return asyncio.run(made())


def test_the_orders_of_a_connection_are_listed_for_people_and_as_json(installed, told):
    listed = installed("orders", "list", "acme/erp", "--json")
    assert listed.code == 0, listed.err
    assert [each["remote_id"] for each in listed.json] == ["r3", "r2", "r1"]
    assert "r4" in {each["remote_id"] for each in installed("orders", "list", ERP, "--deleted", "--json").json}
    assert len(installed("orders", "list", "erp", "--most", "1", "--json").json) == 1
    assert installed("orders", "list", "erp", "--since", "2999-01-01T00:00Z").out.startswith("no orders")
    (row,) = [line for line in installed("orders", "list", "erp").out.splitlines() if line.startswith("000001")]
    assert row.split()[:8] == ["000001", "r1", "approved", "Aço", "&", "Cia", "4.50", "1"]


@pytest.mark.parametrize("name", ["r1", "000001", order_id(ERP, "r1")])
def test_an_order_is_shown_by_whatever_people_call_it(installed, told, name):
    shown = installed("orders", "show", "erp", name, "--json")
    assert shown.code == 0, shown.err
    assert (shown.json["remote_id"], shown.json["order"]["lines"][0]["unit_price"]) == ("r1", "1.50")
    text = installed("orders", "show", "erp", name).out
    assert "BOLT" in text
    assert "Aço & Cia" in text
    assert "urgent" in text
    assert "\x1b" not in text


def test_an_order_is_shown_with_the_commands_for_it_that_are_not_over(installed, told, tmp_path):
    assert "not over" not in installed("orders", "show", "erp", "r1").out
    file = tmp_path / "commands.json"
    file.write_text('{"type": "cancel", "remote_id": "r1", "command_id": "c-1"}')
    assert installed("commands", "send", file, "--connection", "erp", "--wait", "0s").code == 0
    shown = installed("orders", "show", "erp", "000001").out
    assert re.search(
        r"not over:\nid +command +type .*\ncmd_[0-9a-f]{32} +c-1 +cancel .* its turn$", shown, re.MULTILINE
    )


def test_the_history_of_an_order_is_told_newest_first_and_whole_as_json(installed, told):
    events = installed("orders", "history", "erp", "000001", "--json").json
    assert [ChangeEvent.model_validate(each) for each in events] == [
        ChangeEvent.model_validate_json(body) for body in told
    ]
    _, newest, oldest = installed("orders", "history", "erp", "r1").out.splitlines()
    assert (newest.split()[0], oldest.split()[0]) == ("2", "1")
    assert "notes" in newest
    assert len(installed("orders", "history", "erp", "r1", "--most", "1", "--json").json) == 1


@pytest.mark.parametrize(
    ("order", "code", "says"),
    [
        ("nothing", 4, "relay has not read an order 'nothing'"),
        (f"po_{'0' * 32}", 4, "there is no order"),
        ("000002", 2, "several orders are called '000002'; say which: 'r2', 'r3'\n"),
    ],
)
def test_an_order_that_cannot_be_told_is_named(installed, told, order, code, says):
    for verb in ("show", "history"):
        refused = installed("orders", verb, "erp", order)
        assert (refused.code, says in refused.err) == (code, True), refused.err


def test_a_connection_that_is_not_there_has_no_orders(installed):
    refused = installed("orders", "list", "nothing", "--json")
    assert (refused.code, refused.error["code"]) == (4, "not_found")


def test_a_customer_is_added_listed_shown_and_removed(installed):
    assert installed("customers", "list").out.startswith("no customers yet")
    assert installed("customers", "add", "Aço & Cia").code == 2
    assert installed("customers", "add", "acme").out == "added acme\n"
    again = installed("customers", "add", "acme", "--json")
    assert (again.code, again.error["code"]) == (1, "failed")
    assert [(each["id"], each["connections"]) for each in installed("customers", "list", "--json").json] == [
        ("acme", 0)
    ]
    assert "acme" in installed("customers", "list").out
    assert installed("customers", "show", "acme", "--json").json["endpoints"] == 0
    assert installed("customers", "show", "acme").out.splitlines()[0] == "customer     acme"
    assert installed("customers", "show", "nobody").code == 4
    asked = installed("customers", "remove", "acme")
    assert (asked.code, "Give --yes" in asked.err) == (2, True)
    assert installed("customers", "remove", "acme", "--yes").out == "removed acme\n"
    assert installed("customers", "remove", "acme", "--yes", "--json").error["code"] == "not_found"


def test_a_customer_with_something_left_is_not_removed(installed, told):
    refused = installed("customers", "remove", "acme", "--yes")
    assert refused.code == 2
    assert installed("customers", "show", "acme", "--json").json["connections"] == 1


def test_the_audit_log_tells_the_latest_first_and_is_narrowed(installed):
    assert installed("audit").out == "nothing was changed yet\n"
    key = installed("operators", "add", "ci", "--json").json["operator"]["id"]
    installed("customers", "add", "acme")
    installed("customers", "add", "acme")
    audited = installed("audit", "--json").json
    noted = [(each["action"], each["subject"], each["caller_id"], each["status"]) for each in audited]
    assert noted == [
        ("add_customer", "acme", "local", 409),
        ("add_customer", "acme", "local", 201),
        ("add_operator", key, "local", 201),
    ]
    assert [each["action"] for each in installed("audit", "--subject", key, "--json").json] == ["add_operator"]
    assert len(installed("audit", "--caller", "local", "--most", "2", "--json").json) == 2
    assert installed("audit", "--caller", key).out == "nothing that fits\n"
    assert "add_operator" in installed("audit").out.splitlines()[-1]
