"""A connection's mapping on the whole line: changed by command and API while a worker reads, told apart or silently."""

import asyncio
from collections import defaultdict

import orjson
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.errors import AlreadyThere, Transient, UserError
from relay.domain.mapping import Retold
from relay.domain.syncs import SyncState
from tests.fixtures.api import serving_control
from tests.fixtures.line import RELAY, eventually, state_of
from tests.fixtures.store import World

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def erp():
    async with simulated_protheus(Options()) as running:
        running.seed(0)
        yield running


def an_order(erp, **more):
    lines = [NewLine("PAR-M8-30", 10, 1.25, columns={"C7_XPESO": 12.305})]
    return erp.create_order(lines, **more)


class Heard:
    """What a receiver heard of each order: its events, each once."""

    def __init__(self, hook):
        self.hook, self.of = hook, defaultdict(dict)

    def events(self, name):
        while not self.hook.received.empty():
            webhook = self.hook.received.get_nowait()
            assert webhook.verified
            event = orjson.loads(webhook.body)
            known = self.of[event["data"]["remote_id"]]
            known.setdefault(event["data"]["event_id"], event)
            assert [each["data"]["sequence"] for each in known.values()] == list(range(1, len(known) + 1))
        return list(self.of[name].values())

    def types(self, name):
        return [each["type"].removeprefix("purchase_order.") for each in self.events(name)]

    def last(self, name):
        events = self.events(name)
        return events[-1]["data"]["order"] if events else {}


async def said(line, *arguments, code=0):
    """What a command answers; JSON when that was asked for."""
    process = await asyncio.create_subprocess_exec(
        RELAY,
        *map(str, arguments),
        env=line.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == code, (out.decode(), err.decode())
    return orjson.loads(out) if "--json" in arguments else (out + err).decode()


async def read_again(line, saved):
    """Wait for the end of the sync that a saved mapping began."""
    async with asyncio.timeout(60):
        while (seen := await line.control.sync(saved["sync_id"])).ended_at is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    assert seen.state is SyncState.DONE
    return seen


async def test_a_mapping_is_added_to_changed_and_reverted_by_command_and_told_as_such(line, erp):
    connection = await line.protheus(erp)
    dollars, plain = an_order(erp, currency=2, columns={"C7_XPRIOR": "URGENTE"}), an_order(erp)
    one, other = state_of(erp, dollars), state_of(erp, plain)
    mapping = ("connections", "mapping")
    async with line.receiver() as hook:
        heard = Heard(hook)
        worker = await line.worker()
        await line.synced(connection)
        await eventually(lambda: len(heard.events(one)) == len(heard.events(other)) == 1, "both snapshots")

        shown = await said(line, *mapping, "show", connection, "--sample")
        assert "C7_XPRIOR" in shown
        assert "URGENTE" in shown
        added = ("--map", "fields.C7_XPRIOR=text", "--map", "line_fields.C7_XPESO=number")
        checked = await said(line, *mapping, "check", connection, *added, "--json")
        assert (checked["works"], checked["orders"]) == (True, 2)
        assert {each["path"] for each in checked["changed"]} >= {"custom_fields.C7_XPRIOR"}
        saved = await said(line, *mapping, "set", connection, *added, "--json")
        assert (saved["saved"], saved["version"]) == (True, 1)
        await read_again(line, saved)
        await eventually(lambda: heard.types(one) == ["snapshot", "mapping_changed"], "the extra columns")
        assert heard.last(one)["custom_fields"] == {"C7_XPRIOR": "URGENTE"}
        assert heard.last(one)["lines"][0]["custom_fields"] == {"C7_XPESO": "12.305"}

        saved = await said(line, *mapping, "set", connection, "--map", "currencies.2=USD", "--json")
        await read_again(line, saved)
        await eventually(lambda: heard.last(one)["currency"] == "USD", "the currency")
        erp.receive(dollars, "0001", 4)
        await eventually(lambda: heard.types(one)[-1] == "quantity_received", "a true change after it")

        saved = await said(line, *mapping, "revert", connection, 1, "--retold", "silent", "--json")
        await read_again(line, saved)
        erp.receive(plain, "0001", 1)
        await eventually(lambda: len(heard.events(other)) == 3, "a true change of the other order")
        table = await said(line, *mapping, "versions", connection)
        assert len(table.splitlines()) == 4
        again = await said(line, *mapping, "set", connection, "--map", "fields.C7_XPRIOR=text")
        assert "nothing to change" in again
        assert await worker.stop() == 0
    assert heard.types(one) == ["snapshot", "mapping_changed", "mapping_changed", "quantity_received"]
    assert heard.types(other)[:2] == ["snapshot", "mapping_changed"]
    assert "mapping_changed" not in heard.types(other)[2:]


async def test_true_changes_go_on_being_told_while_orders_are_read_again_for_a_mapping(line, erp):
    connection = await line.protheus(erp, settings={"page_size": 5})
    orders = [an_order(erp, currency=2) for _ in range(15)]
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        await line.synced(connection)
        saved = await line.control.set_mapping(connection, {"currencies": {"2": "USD"}})
        for order in orders:
            erp.receive(order, "0001", 3)
        await read_again(line, {"sync_id": saved.sync_id})

        def all_told():
            return all(
                set(heard.types(state_of(erp, order))) == {"snapshot", "mapping_changed", "quantity_received"}
                for order in orders
            )

        await eventually(all_told, "each order's mapping and receipt")
    for order in orders:
        for event in heard.events(state_of(erp, order)):
            kinds = set(event["data"]["kinds"])
            paths = {each["path"] for each in event["data"]["changes"]}
            if event["type"] == "purchase_order.mapping_changed":
                assert (kinds, paths) == ({"mapping_changed"}, {"/currency"})
            elif event["type"] == "purchase_order.quantity_received":
                assert "/currency" not in paths


async def test_what_cannot_work_is_not_saved_unless_forced_and_costs_no_order_then(line, erp):
    connection = await line.protheus(erp)
    order = an_order(erp, columns={"C7_XPRIOR": "URGENTE"})
    await line.worker()
    await line.synced(connection)
    missing = {"fields": {"C7_XNADA": "text", "C7_XPRIOR": "auto"}}
    with pytest.raises(UserError, match="has no column C7_XNADA"):
        await line.control.set_mapping(connection, missing)
    with pytest.raises(UserError, match="would be rejected: C7_XPRIOR: expected a number"):
        await line.control.set_mapping(connection, {"fields": {"C7_XPRIOR": "number"}})
    told = await said(line, "connections", "mapping", "check", connection, "--map", "fields.C7_XNADA", code=1)
    assert "problem: the ERP has no column C7_XNADA" in told
    saved = await line.control.set_mapping(connection, missing, force=True)
    assert saved.checked.missing == ("C7_XNADA",)
    await read_again(line, {"sync_id": saved.sync_id})
    seen = await line.control.connection(connection)
    assert seen.problem is None
    assert "SC7 has no column C7_XNADA, or this user may not see it" in seen.notices
    shown = await line.control.mapping(connection, sample=True)
    assert shown.sample.missing == ("C7_XNADA",)
    rows = {each.path: each.readable for each in shown.fields}
    assert (rows["custom_fields.C7_XNADA"], rows["custom_fields.C7_XPRIOR"]) == (False, True)
    assert state_of(erp, order)
    with pytest.raises(AlreadyThere, match="at version 1 by now, not 0"):
        await line.control.set_mapping(connection, {}, base=0)
    with pytest.raises(UserError, match="no version 7"):
        await line.control.revert_mapping(connection, 7)
    back = await line.control.revert_mapping(connection, 0, retold=Retold.SILENT)
    assert (back.version, (await line.control.mapping(connection)).overrides.told()) == (2, {})


async def test_an_erp_that_is_away_is_no_reason_to_save_unless_forced(line, erp):
    connection = await line.protheus(erp)
    await line.registry.database.transact(
        lambda at: at.execute("UPDATE connections SET settings = $1", {"url": "http://127.0.0.1:9/", "tenant": "T1,01"})
    )
    with pytest.raises(Transient, match="Nothing was stored"):
        await line.control.set_mapping(connection, {"units": {"CX": "BX"}})
    saved = await line.control.set_mapping(connection, {"units": {"CX": "BX"}}, force=True)
    assert (saved.saved, saved.checked) == (True, None)


async def test_the_api_shows_tries_saves_and_reverts_a_mapping_and_notes_who(line, erp):
    connection = await line.protheus(erp)
    an_order(erp, currency=2, columns={"C7_XPRIOR": "URGENTE"})
    path = f"/v1/connections/{connection}/mapping"
    async with serving_control(World(line.registry.database), control=line.control) as api:
        shown = (await api.get(path)).json()
        assert (shown["version"], shown["sample"]) == (0, None)
        rule = next(each for each in shown["fields"] if each["path"] == "lines[].quantity")
        assert (rule["source"], rule["required"], rule["updatable_until"]) == ("C7_QUANT", True, "approved")
        sample = (await api.get(path, params={"sample": "true"})).json()["sample"]
        assert {"source": "C7_XPRIOR", "per_line": False, "samples": ["URGENTE"]} in sample["unmapped"]
        wanted = {"overrides": {"currencies": {"2": "USD"}}}
        checked = (await api.post(f"{path}/check", wanted)).json()
        (changed,) = checked["changed"]
        assert (changed["path"], changed["orders"], changed["examples"][0]["after"]) == ("currency", 1, "USD")
        assert (await api.call("PUT", path, json=wanted, key="read")).status_code == 403
        saved = await api.call("PUT", path, json={**wanted, "base": 0, "retold": "silent"}, key="write")
        assert (saved.status_code, saved.json()["version"]) == (200, 1)
        assert (await api.call("PUT", path, json={"overrides": {}, "base": 0})).status_code == 409
        wrong = await api.call("PUT", path, json={"overrides": {"fields": {"A2_NOME": "text"}}})
        assert (wrong.status_code, "is no column of SC7" in wrong.json()["detail"]) == (400, True)
        assert (await api.call("PUT", path, json={"overrides": {"fields": {"C7_X": "sum(1)"}}})).status_code == 400
        assert (await api.post(f"{path}/revert", {"version": 0})).json()["version"] == 2
        versions = (await api.get(f"{path}/versions")).json()
        assert [(each["number"], each["reverts_to"], each["made_by"]) for each in versions] == [
            (2, 0, "admin"),
            (1, None, "write"),
        ]
        assert ("set_mapping", connection) in await api.audited("action", "subject")


async def test_newer_rules_of_a_connector_are_read_with_once_and_what_was_read_is_remembered(line, erp):
    """A connection of a former version of relay: its rules are older than the connector's."""
    connection = await line.protheus(erp)
    an_order(erp)
    worker = await line.worker()
    await line.synced(connection)
    assert await worker.stop() == 0
    syncs = await line.control.syncs(connection)
    await line.registry.database.transact(lambda at: at.execute("UPDATE connections SET rules = 0"))
    await line.worker()
    await eventually(lambda: line.workers[-1].said("sync.ended"), "all is read again")
    again = await line.control.syncs(connection)
    assert len(again) == len(syncs) + 1
    assert (again[0].kind, again[0].told) == ("mapping", 0)


@pytest.mark.slow
@pytest.mark.tryton
async def test_a_real_trytons_mapping_is_changed_and_reverted_beside_true_changes(line, tryton_erp):
    buyer = tryton_erp.buyer
    name = str(await buyer.create_order([("PAR-M8", 100, "1.2500")], reference="WEB-1"))
    connection = await line.tryton(tryton_erp)
    mapping = ("connections", "mapping")
    async with line.receiver() as hook:
        heard = Heard(hook)
        await line.worker()
        await line.synced(connection)
        await eventually(lambda: heard.types(name) == ["snapshot"], "the snapshot")
        shown = await said(line, *mapping, "show", connection, "--sample")
        assert "invoice_method" in shown
        own = ("--map", "fields.invoice_method=code", "--map", "currencies.BRL=XTS", "--map", "units.u=EA")
        checked = await said(line, *mapping, "check", connection, *own, "--json")
        assert {each["path"] for each in checked["changed"]} >= {"currency", "custom_fields.invoice_method"}
        saved = await said(line, *mapping, "set", connection, *own, "--json")
        await read_again(line, saved)
        await eventually(lambda: heard.types(name) == ["snapshot", "mapping_changed"], "the mapping")
        last = heard.last(name)
        assert (last["currency"], last["lines"][0]["unit"]) == ("XTS", "EA")
        assert last["custom_fields"]["invoice_method"] == "order"
        (bolts,) = await buyer.lines(int(name))
        await buyer.change_line(bolts["id"], quantity=80.0)
        await eventually(lambda: heard.types(name)[-1] == "updated", "a true change")
        saved = await said(line, *mapping, "revert", connection, 0, "--retold", "silent", "--json")
        await read_again(line, saved)
        await buyer.change_line(bolts["id"], quantity=60.0)
        await eventually(lambda: len(heard.types(name)) == 4, "another true change")
    assert heard.types(name) == ["snapshot", "mapping_changed", "updated", "updated"]
    assert heard.last(name)["currency"] == "BRL"
    (change,) = [each for each in heard.events(name)[-1]["data"]["changes"] if each["path"].endswith("/quantity")]
    assert (change["before"], change["after"]) == ("80", "60")
    assert "/currency" not in {each["path"] for each in heard.events(name)[-1]["data"]["changes"]}
