"""The Protheus connector writes through a customer's wrapper, three ways, over real HTTP and against every fault."""

import datetime as dt
import json
import random
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from relay.connectors.protheus import ProtheusConnector, ProtheusCredentials, ProtheusSettings
from relay.connectors.protheus.bodies import shown
from relay.connectors.protheus.rows import version_of
from relay.connectors.protheus.wrapper import Wrapper
from relay.demo.protheus import NewLine
from relay.demo.protheus_faults import Planned
from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.protheus_rows import OrderKey
from relay.domain.commands import mark, read_command
from relay.domain.errors import CredentialsRefused, Throttled, Transient, Unavailable, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import Status
from relay.domain.permits import refusals
from relay.domain.results import WriteRefused
from relay.ports import Mappings, Pace
from relay.wire.erp import polite_client

MONDAY = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
PACE = Pace(per_second=10_000, burst=10_000, at_once=3, timeout=20)
PAGE = Path("docs/connectors/protheus.md").read_text()
PEDIDOS = "/wspedcom/pedidos"
COLUMNS = {
    "C7_OBS": {"length": 60},
    "C7_XRELAY": {"length": 40},
    "C7_XPRIOR": {"length": 10, "allowed": ["NORMAL", "URGENTE"]},
    "C7_ZDTINT": {"type": "D"},
}
LINE_COLUMNS = {"C7_XPESO": {"type": "N", "decimals": 3, "line": True}}
FLAT = {
    "shape": "flat",
    "create": {"path": PEDIDOS},
    "change": {"path": f"{PEDIDOS}/{{number}}", "method": "PUT"},
    "cancel": {"path": f"{PEDIDOS}/{{number}}", "method": "DELETE"},
    "close": {"path": f"{PEDIDOS}/{{number}}/residuo", "reason": "MOTIVO"},
    "approve": {"path": f"{PEDIDOS}/{{number}}/liberacao", "fields": {"ACAO": "L"}},
    "reject": {"path": f"{PEDIDOS}/{{number}}/liberacao", "fields": {"ACAO": "R"}},
    "columns": COLUMNS | LINE_COLUMNS,
}
MATA120 = {"path": "/execauto/mata120"}
EXECAUTO = {
    "shape": "execauto",
    "create": MATA120,
    "change": MATA120,
    "cancel": MATA120,
    "mark": "C7_XRELAY",
    "answer": {"number": "pedido"},
    "columns": COLUMNS | LINE_COLUMNS,
}
EAI = {"shape": "eai", "columns": COLUMNS}
SHAPES = {"flat": FLAT, "execauto": EXECAUTO, "eai": EAI}

every_shape = pytest.mark.parametrize("writing", SHAPES.values(), ids=SHAPES)

ORDER = {
    "order_date": "2026-11-02",
    "vendor": {"code": "FOR002"},
    "payment_terms": {"code": "030"},
}
BOLTS = {"item": {"code": "PAR-M8-30"}, "quantity": "100", "unit_price": "1.25", "required_date": "2026-11-20"}
BEARINGS = {"item": {"code": "ROL-6204"}, "quantity": "4", "unit_price": "37.90", "cost_center": "117"}


def command(type_="create", **given):
    head = {"type": type_, "command_id": "c-1", "connection_id": "con_1"}
    if type_ == "create":
        head |= {"order": ORDER, "lines": [BOLTS, BEARINGS]}
    else:
        head |= {"remote_id": "D MG 01|000001"}
    return read_command(head | given)


class World:
    """One simulated Protheus with a connector to it."""

    def __init__(self, erp, client, settings, mapping):
        self.erp, self.client, self.settings, self.mapping = erp, client, settings, mapping
        self.connector = self.connect()
        self.writer = self.connector.writer()

    def connect(self, client=None, **given):
        settings = {"url": self.erp.url, "tenant": self.erp.tenant, "stamps": "on"} | self.settings | given
        credentials = ProtheusCredentials(username=self.erp.username, password=self.erp.password)
        overrides = Mappings(MappingOverrides(**self.mapping))
        return ProtheusConnector(ProtheusSettings(**settings), credentials, client or self.client, overrides)

    async def read(self, remote_id="D MG 01|000001"):
        return await self.connector.read(remote_id)

    async def prepared(self, given):
        order = None if given.type == "create" else await self.read(given.remote_id)
        return await self.writer.prepare(given, order)

    async def write(self, prepared, fault):
        """Write; a call that is not answered is not waited for long."""
        if fault != "timeout":
            return await self.writer.write(prepared)
        async with polite_client(replace(PACE, timeout=0.3)) as client:
            return await self.connect(client, login="basic").writer().write(prepared)

    async def do(self, given):
        return await self.writer.write(await self.prepared(given))

    async def refused(self, given):
        """The refusals of a command that is refused before the ERP is told."""
        before = len(self.erp.writes())
        with pytest.raises(WriteRefused) as caught:
            await self.prepared(given)
        assert len(self.erp.writes()) == before
        return told(caught.value)

    async def refused_by_erp(self, given):
        prepared = await self.prepared(given)
        with pytest.raises(WriteRefused) as caught:
            await self.writer.write(prepared)
        return told(caught.value), caught.value.said

    def an_order(self, **given):
        lines = [NewLine("PAR-M8-30", 100, 1.25), NewLine("ROL-6204", 4, 37.9)]
        return self.erp.create_order(lines, **given)

    def rows(self, number="000001"):
        rows = self.erp.rows(OrderKey("D MG 01", number))
        return [
            {name: value.rstrip() if isinstance(value, str) else value for name, value in row.items()} for row in rows
        ]


def told(error):
    return [(each.reason.value, each.field, each.message) for each in error.refusals]


@asynccontextmanager
async def world(writing=FLAT, habits=None, mapping=None, **settings):
    options = Options(clock=lambda: MONDAY, **(habits or {}))
    async with simulated_protheus(options) as erp, polite_client(PACE) as client:
        erp.seed(0)
        yield World(erp, client, settings | {"writing": writing}, mapping or {})


# every way in


@every_shape
async def test_a_new_order_is_made_with_its_lines_and_read_back_as_it_was_given(writing):
    async with world(writing) as at:
        remote_id = await at.do(command())
        assert remote_id == "D MG 01|000001"
        order = await at.read()
        assert order.status is Status.PENDING_APPROVAL
        assert (order.vendor.remote_id, order.payment_terms.code) == ("FOR002|01", "030")
        assert order.order_date == dt.date(2026, 11, 2)
        first, second = order.lines
        assert (first.item.code, first.quantity, first.unit_price) == ("PAR-M8-30", Decimal(100), Decimal("1.25"))
        assert (first.required_date, second.cost_center) == (dt.date(2026, 11, 20), "117")
        assert second.amount == Decimal("151.60")
        assert {row["C7_FILENT"] for row in at.rows()} == {"D MG 01"}


@every_shape
async def test_an_order_is_changed_header_and_lines_in_one_call(writing):
    async with world(writing) as at:
        at.an_order()
        changed = {"remote_id": "0002", "quantity": "7", "unit_price": "36.5"}
        given = command("update", order={"payment_terms": {"code": "060"}, "notes": "Portão 3"}, lines=[changed])
        assert await at.do(given) == "D MG 01|000001"
        assert len(at.erp.writes()) == 1
        order = await at.read()
        assert (order.payment_terms.code, order.notes) == ("060", "Portão 3")
        assert [line.quantity for line in order.lines] == [Decimal(100), Decimal(7)]
        assert [row["C7_OBS"] for row in at.rows()] == ["Portão 3", "Portão 3"]


@every_shape
async def test_lines_are_added_changed_and_taken_away(writing):
    async with world(writing) as at:
        at.an_order()
        await at.do(command("add_lines", lines=[BEARINGS, BOLTS]))
        await at.do(command("update_lines", lines=[{"remote_id": "0003", "quantity": "5.5"}]))
        await at.do(command("cancel_lines", lines=["0001", "0004"]))
        seen = [(row["C7_ITEM"], row["C7_QUANT"], row["D_E_L_E_T_"]) for row in at.rows()]
        assert seen == [("0001", 100, "*"), ("0002", 4, ""), ("0003", 5.5, ""), ("0004", 100, "*")]


@every_shape
async def test_a_cancelled_order_is_deleted(writing):
    async with world(writing) as at:
        at.an_order()
        assert await at.do(command("cancel", reason="not needed")) == "D MG 01|000001"
        assert (await at.read()).status is Status.DELETED


async def test_an_order_is_closed_approved_and_rejected_where_the_wrapper_can():
    async with world() as at:
        at.an_order()
        await at.do(command("reject"))
        assert (await at.read()).status is Status.REJECTED
        await at.do(command("approve"))
        assert (await at.read()).status is Status.APPROVED
        await at.do(command("close", reason="enough"))
        assert (await at.read()).status is Status.CLOSED
        assert json.loads(at.erp.writes()[-1].body) == {
            "C7_FILIAL": "D MG 01",
            "C7_NUM": "000001",
            "MOTIVO": "enough",
        }


@pytest.mark.parametrize("type_", ["close", "approve", "reject"])
async def test_a_wrapper_that_declares_none_of_these_is_not_asked_for_them(type_):
    async with world(EXECAUTO) as at:
        at.an_order()
        assert type_ not in {each.type for each in at.connector.capabilities().commands}
        with pytest.raises(Unsupported, match=f"has no {type_}: declare it in `writing`"):
            await at.prepared(command(type_))


@every_shape
async def test_a_vendors_columns_of_its_own_are_written_where_they_belong(writing):
    async with world(writing, mapping={"fields": {"C7_XPRIOR": "text", "C7_ZDTINT": "date"}}) as at:
        own = {"C7_XPRIOR": "URGENTE", "C7_ZDTINT": "2026-12-24"}
        lines = [BOLTS, BEARINGS | ({} if writing is EAI else {"custom_fields": {"C7_XPESO": "1.125"}})]
        await at.do(command(order=ORDER | {"custom_fields": own, "freight_type": "CIF"}, lines=lines))
        order = await at.read()
        assert (order.custom_fields, order.freight_type) == (own, "CIF")
        assert [row["C7_XPESO"] for row in at.rows()] == ([0, 0] if writing is EAI else [0, 1.125])


# the bodies, as they were recorded


def recorded(request):
    return json.loads(request.body)


async def test_the_flat_body():
    async with world() as at:
        await at.do(command(external_reference="PO-77"))
        await at.do(
            command(
                "update",
                order={"ship_to": {"location_code": "D MG 02"}},
                lines=[{"remote_id": "0001", "quantity": "9.50"}],
            )
        )
        await at.do(command("cancel_lines", lines=["0001"]))
        create, change, away = at.erp.writes()
        assert (create.method, create.path, create.headers["tenantid"]) == (
            "POST",
            "/rest/wspedcom/pedidos",
            "T1,D MG 01",
        )
        assert recorded(create) == {
            "C7_FILIAL": "D MG 01",
            "C7_CONTATO": "",
            "C7_FILENT": "D MG 01",
            "C7_EMISSAO": "20261102",
            "C7_FORNECE": "FOR002",
            "C7_LOJA": "01",
            "C7_COND": "030",
            "ITENS": [
                {
                    "C7_OBS": "PO-77",
                    "C7_PRODUTO": "PAR-M8-30",
                    "C7_QUANT": 100,
                    "C7_PRECO": 1.25,
                    "C7_DATPRF": "20261120",
                },
                {"C7_OBS": "PO-77", "C7_PRODUTO": "ROL-6204", "C7_QUANT": 4, "C7_PRECO": 37.9, "C7_CC": "117"},
            ],
        }
        assert (change.method, change.path) == ("PUT", "/rest/wspedcom/pedidos/000001")
        header = {"C7_FILIAL": "D MG 01", "C7_NUM": "000001", "C7_EMISSAO": "20261102", "C7_FORNECE": "FOR002"}
        header |= {"C7_LOJA": "01", "C7_COND": "030"}
        line = {"C7_ITEM": "0001", "C7_PRODUTO": "PAR-M8-30", "C7_QUANT": 9.5, "C7_PRECO": 1.25}
        assert recorded(change) == header | {"C7_FILENT": "D MG 02", "ITENS": [line]}
        assert b'"C7_QUANT":9.50,"C7_PRECO":1.25' in change.body
        line = {"C7_ITEM": "0001", "AUTODELETA": "S"}
        assert recorded(away) == header | {"C7_FILENT": "D MG 02", "ITENS": [line]}


async def test_the_arrays_of_execauto():
    async with world(EXECAUTO) as at:
        await at.do(command())
        await at.do(command("update_lines", lines=[{"remote_id": "0002", "unit_price": "38"}]))
        await at.do(command("cancel_lines", lines=["0001"]))
        await at.do(command("cancel"))
        create, change, away, cancel = (recorded(each) for each in at.erp.writes())
        head = [["C7_EMISSAO", "20261102", None], ["C7_FORNECE", "FOR002", None], ["C7_LOJA", "01", None]]
        head += [["C7_COND", "030", None]]
        own = mark(command())
        assert create == {
            "nTipo": 1,
            "nOpc": 3,
            "aCab": [*head, ["C7_CONTATO", "", None], ["C7_FILENT", "D MG 01", None]],
            "aItens": [
                [
                    ["C7_PRODUTO", "PAR-M8-30", None],
                    ["C7_QUANT", 100, None],
                    ["C7_PRECO", 1.25, None],
                    ["C7_DATPRF", "20261120", None],
                    ["C7_XRELAY", own, None],
                ],
                [
                    ["C7_PRODUTO", "ROL-6204", None],
                    ["C7_QUANT", 4, None],
                    ["C7_PRECO", 37.9, None],
                    ["C7_CC", "117", None],
                    ["C7_XRELAY", own, None],
                ],
            ],
        }
        head = [["C7_NUM", "000001", None], *head, ["C7_FILENT", "D MG 01", None]]
        kept = [["C7_PRODUTO", "ROL-6204", None], ["C7_QUANT", 4, None], ["C7_PRECO", 38, None]]
        place = [["LINPOS", "C7_ITEM", "0002"], ["AUTODELETA", "N", None]]
        assert change == {"nTipo": 1, "nOpc": 4, "aCab": head, "aItens": [[*place, *kept]]}
        assert away["aItens"][0][:2] == [["LINPOS", "C7_ITEM", "0001"], ["AUTODELETA", "S", None]]
        assert cancel == {"nTipo": 1, "nOpc": 5, "aCab": head, "aItens": []}


async def test_the_eai_message():
    async with world(EAI) as at:
        given = ORDER | {"notes": "Portão 3", "freight_type": "FOB", "custom_fields": {"C7_XPRIOR": "URGENTE"}}
        await at.do(command(order=given, lines=[BOLTS | {"warehouse": "02", "discount": "0.50"}, BEARINGS]))
        lines = [{"remote_id": "0001", "quantity": "90"}]
        await at.do(command("update_lines", lines=lines))
        await at.do(command("cancel_lines", lines=["0002"]))
        await at.do(command("cancel"))
        create, change, away, cancel = at.erp.writes()
        assert create.path == "/rest/totvseai/standardmessage/v1/contents/Order_4_009"
        own = mark(command())
        assert recorded(create) == {
            "Header": {
                "Type": "BusinessMessage",
                "Transaction": "Order",
                "Version": "4.009",
                "SourceApplication": "relay",
            },
            "Content": {
                "BusinessEvent": {"Entity": "Order", "Event": "upsert"},
                "BusinessContent": {
                    "CompanyId": "T1",
                    "CompanyInternalId": "T1|D MG 01",
                    "BranchId": "D MG 01",
                    "OrderPurpose": "1",
                    "InternalId": own,
                    "RegisterDate": "2026-11-02",
                    "CustomerCode": "FOR002",
                    "PaymentTermCode": "030",
                    "Observation": f"{own} | Portão 3",
                    "CustomerInternalId": "T1||FOR002|01",
                    "PaymentConditionInternalId": "T1||030",
                    "FreightType": "2",
                    "OTHER": {"ADDFIELDS": {"ADDFIELD": [{"field": "C7_XPRIOR", "value": "URGENTE"}]}},
                    "SalesOrderItens": {
                        "Item": [
                            {
                                "ItemCode": "PAR-M8-30",
                                "Quantity": 100,
                                "UnityPrice": 1.25,
                                "ItemDiscounts": 0.5,
                                "DeliveryDate": "2026-11-20",
                                "WarehouseInternalId": "T1||02",
                            },
                            {"ItemCode": "ROL-6204", "Quantity": 4, "UnityPrice": 37.9, "CostCenterCode": "117"},
                        ]
                    },
                },
            },
        }
        content = recorded(change)["Content"]["BusinessContent"]
        assert (content["OrderId"], content["InternalId"]) == ("000001", "D MG 01|000001")
        assert content["SalesOrderItens"]["Item"] == [
            {"OrderItem": "0001", "ItemCode": "PAR-M8-30", "Quantity": 90, "UnityPrice": 1.25}
        ]
        content = recorded(away)["Content"]["BusinessContent"]
        assert content["SalesOrderItens"]["Item"] == [{"OrderItem": "0002", "Event": "delete"}]
        assert recorded(cancel)["Content"]["BusinessEvent"] == {"Entity": "Order", "Event": "delete"}
        assert "SalesOrderItens" not in recorded(cancel)["Content"]["BusinessContent"]


async def test_names_dates_numbers_and_fixed_fields_are_the_wrappers_own():
    writing = FLAT | {
        "names": {"C7_FORNECE": "fornecedor", "C7_NUM": "pedido", "C7_ITEM": "linha"},
        "lines": "linhas",
        "away": ["excluir", True],
        "header_fields": {"ORIGEM": "relay"},
        "line_fields": {"C7_TES": "001"},
        "numbers": "text",
        "dates": "DD/MM/YYYY",
        "charset": "cp1252",
    }
    async with world(writing) as at:
        at.an_order()
        given = ORDER | {"notes": "Peça"}
        sent = (await at.prepared(command(order=given, lines=[BOLTS]))).inner
        body = json.loads(sent.content.decode("cp1252"))
        assert (body["fornecedor"], body["C7_EMISSAO"], body["ORIGEM"]) == ("FOR002", "02/11/2026", "relay")
        (line,) = body["linhas"]
        assert (line["C7_QUANT"], line["C7_PRECO"], line["C7_TES"]) == ("100", "1.25", "001")
        assert line["C7_OBS"].endswith("Peça")
        sent = (await at.prepared(command("cancel_lines", lines=["0002"]))).inner
        body = json.loads(sent.content)
        assert (body["pedido"], body["linhas"]) == ("000001", [{"linha": "0002", "excluir": True}])


async def test_all_lines_go_along_where_the_wrapper_wants_them():
    async with world(FLAT | {"every_line": True}) as at:
        at.an_order()
        await at.do(command("update_lines", lines=[{"remote_id": "0002", "quantity": "7"}]))
        assert [line["C7_ITEM"] for line in recorded(at.erp.writes()[-1])["ITENS"]] == ["0001", "0002"]
        assert [row["C7_QUANT"] for row in at.rows()] == [100, 7]


async def test_a_preview_shows_what_would_be_sent_and_sends_nothing():
    async with world() as at:
        preview = (await at.prepared(command(lines=[BEARINGS]))).preview
        assert (preview.method, preview.path) == ("POST", "/wspedcom/pedidos")
        assert preview.body["ITENS"][0]["C7_PRECO"] == "37.90"
        assert at.erp.writes() == []
        at.an_order()
        preview = (await at.prepared(command("cancel"))).preview
        assert (preview.method, preview.path, preview.body) == ("DELETE", "/wspedcom/pedidos/000001", None)


async def test_a_path_holds_the_orders_key_percent_encoded():
    writing = FLAT | {"cancel": {"path": "/x/{branch}/{number}?id={remote_id}", "method": "DELETE"}}
    async with world(writing) as at:
        at.an_order()
        preview = (await at.prepared(command("cancel"))).preview
        assert preview.path == "/x/D%20MG%2001/000001?id=D%20MG%2001%7C000001"


async def test_an_emptied_field_is_blank_and_an_emptied_object_too():
    async with world() as at:
        at.an_order(note="Portão 3")
        lines = [{"remote_id": "0001", "cost_center": None, "required_date": None, "discount": None}]
        await at.do(command("update", order={"notes": None, "ship_to": None}, lines=lines))
        sent = recorded(at.erp.writes()[-1])
        assert sent["C7_FILENT"] == ""
        first = sent["ITENS"][0]
        assert (first["C7_OBS"], first["C7_CC"], first["C7_DATPRF"], first["C7_VLDESC"]) == ("", "", "", 0)
        assert (await at.read()).notes is None


@every_shape
async def test_what_events_call_its_key_names_a_vendor_terms_and_an_item_as_well(writing):
    async with world(writing) as at:
        keys = {"vendor": {"remote_id": "FOR001|02"}, "payment_terms": {"remote_id": "060"}}
        line = BOLTS | {"item": {"remote_id": "ROL-6204", "description": "Rolamento especial"}}
        await at.do(command(order=ORDER | keys, lines=[line]))
        order = await at.read()
        assert (order.vendor.remote_id, order.payment_terms.code) == ("FOR001|02", "060")
        assert (order.lines[0].item.code, order.lines[0].item.description) == ("ROL-6204", "Rolamento especial")
        assert refusals(command(order=ORDER | keys, lines=[line]), at.connector.capabilities(), None) == ()


async def test_a_key_and_a_code_that_differ_are_refused():
    async with world() as at:
        given = ORDER | {"vendor": {"remote_id": "FOR001|02", "code": "FOR002"}}
        rule = "vendor.code names another one than the key beside it"
        assert await at.refused(command(order=given)) == [("validation", "vendor.code", rule)]
        same = ORDER | {"vendor": {"remote_id": "FOR001|02", "code": "FOR001", "site_code": "02"}}
        await at.prepared(command(order=same))


async def test_a_currency_is_an_index_by_the_connections_map():
    async with world(mapping={"currencies": {"2": "USD"}}) as at:
        await at.do(command(order=ORDER | {"currency": "USD", "exchange_rate": "5.4321"}))
        row = at.rows()[0]
        assert (row["C7_MOEDA"], row["C7_TXMOEDA"]) == (2, 5.4321)
        await at.do(command(order=ORDER | {"currency_raw": "3"}))
        assert at.rows("000002")[0]["C7_MOEDA"] == 3


async def test_a_new_order_may_be_of_another_branch_where_all_are_read():
    async with world(all_branches=True) as at:
        assert await at.do(command(order=ORDER | {"branch": {"remote_id": "M SP 01"}})) == "M SP 01|000001"
        assert await at.writer.find(command()) == "M SP 01|000001"
        given = command("update", remote_id="M SP 01|000001", order={"notes": "x"})
        assert await at.do(given) == "M SP 01|000001"


async def test_a_shared_table_has_no_branch_in_its_keys():
    async with world(FLAT | {"shared": True}) as at:
        assert await at.do(command()) == "|000001"


def test_the_declarations_on_the_connectors_page_are_taken():
    declared = [json.loads(each) for each in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
    assert ["writing" in each for each in declared] == [True, False]
    for each in declared:
        whole = each if "writing" in each else {"url": "http://erp/rest", "tenant": "T1,01", "writing": each}
        assert ProtheusSettings(**whole).writing is not None
    for part in Wrapper.model_fields:
        assert f"`{part}`" in PAGE, part


async def test_the_bodies_on_the_connectors_page_are_those_that_are_sent():
    bodies = [
        json.loads(each, parse_float=Decimal, parse_int=Decimal)
        for each in re.findall(r"^(?:POST|PUT) /rest/[^\n]*\n(\{.*?\})$\n(?:\n|```)", PAGE, re.MULTILINE | re.DOTALL)
    ]
    (flat,) = (
        json.loads(each) for each in re.findall(r"^```json\n(\{\n  \"url.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    )
    terms = {
        "order_date": "2026-11-02",
        "vendor": {"code": "FOR001", "site_code": "01"},
        "payment_terms": {"code": "030"},
    }
    line = {"item": {"code": "PAR-M8-30"}, "quantity": "100", "unit_price": "1.25"}
    change = {"order": {"payment_terms": {"code": "060"}}, "lines": [{"remote_id": "0001", "quantity": "90"}]}
    async with world(flat["writing"]) as at:
        created = (await at.prepared(command(order=terms, lines=[line]))).preview.body
        written = shown(bodies[0])
        assert created["ITENS"][0].keys() == written["ITENS"][0].keys()
        assert created | {"ITENS": []} == written | {"ITENS": []}
        at.an_order()
        changed = (await at.prepared(command("update", **change))).preview.body
        assert changed | {"ITENS": [], "C7_NUM": "000123"} == shown(bodies[1]) | {"ITENS": []}
        assert changed["ITENS"] == shown(bodies[1])["ITENS"][:1]
    async with world(EXECAUTO) as at:
        at.an_order()
        sent = (await at.prepared(command("update", **change))).preview.body
        away = (await at.prepared(command("cancel_lines", lines=["0002"]))).preview.body
        assert sent["aCab"][1:] == bodies[2]["aCab"][1:]
        assert [*sent["aItens"], *away["aItens"]] == shown(bodies[2])["aItens"]


# refused before the ERP is told


VENDOR_GONE = ("validation", "vendor.code", "vendor.code is no vendor that the ERP has (SA2)")


@every_shape
async def test_every_code_is_looked_up_and_all_that_are_wrong_are_named(writing):
    async with world(writing) as at:
        given = {"order_date": "2026-11-02", "vendor": {"code": "FOR999"}, "payment_terms": {"code": "777"}}
        lines = [BOLTS | {"item": {"code": "NADA"}}, BEARINGS, BOLTS | {"item": {"code": "NADA"}}]
        assert await at.refused(command(order=given, lines=lines)) == [
            VENDOR_GONE,
            ("validation", "payment_terms.code", "payment_terms.code is no payment term that the ERP has (SE4)"),
            ("validation", "lines[0].item.code", "lines[0].item.code is no product that the ERP has (SB1)"),
            ("validation", "lines[2].item.code", "lines[2].item.code is no product that the ERP has (SB1)"),
        ]


async def test_a_vendor_is_a_code_with_a_store():
    async with world() as at:
        several = command(order=ORDER | {"vendor": {"code": "FOR001"}})
        rule = "vendor.site_code is missing: this vendor has the stores 01, 02"
        assert await at.refused(several) == [("validation", "vendor.site_code", rule)]
        unknown = command(order=ORDER | {"vendor": {"code": "FOR001", "site_code": "09"}})
        rule = "vendor.site_code is no store of this vendor, which has 01, 02 (SA2)"
        assert await at.refused(unknown) == [("validation", "vendor.site_code", rule)]
        at.erp.block_vendor("FOR001", "02")
        at.writer = at.connect().writer()
        blocked = command(order=ORDER | {"vendor": {"code": "FOR001", "site_code": "02"}})
        rule = "vendor.code is a vendor that is blocked in the ERP (A2_MSBLQL)"
        assert await at.refused(blocked) == [("validation", "vendor.code", rule)]
        await at.do(several)
        assert at.rows()[0]["C7_LOJA"] == "01"
        at.erp.block_vendor("FOR003", "01")
        assert await at.refused(command(order=ORDER | {"vendor": {"code": "FOR003"}})) == [
            ("validation", "vendor.code", rule)
        ]


async def test_a_code_that_was_found_is_believed_and_one_that_was_not_is_asked_for_again():
    async with world() as at:
        gone = command(order=ORDER | {"vendor": {"code": "NOVO01"}})
        assert await at.refused(gone) == [VENDOR_GONE]
        at.erp.add_vendor("NOVO01", "01", "Novo")
        await at.prepared(gone)
        asked = len(at.erp.queries())
        await at.prepared(gone)
        assert len(at.erp.queries()) == asked


async def test_lists_that_the_user_may_not_see_are_the_erps_to_judge():
    hidden = frozenset({"A2_COD", "E4_CODIGO", "B1_COD"})
    async with world(habits={"hidden_columns": hidden}) as at:
        given = ORDER | {"vendor": {"code": "FOR999", "site_code": "01"}}
        refusals, _ = await at.refused_by_erp(command(order=given))
        assert refusals == [("validation", "vendor.code", "vendor.code is not in the ERP (C7_FORNECE)")]


async def test_a_list_without_a_column_for_blocked_codes_has_none():
    async with world(absent_columns=["A2_MSBLQL", "B1_MSBLQL"]) as at:
        at.erp.block_vendor("FOR002", "01")
        refusals, _ = await at.refused_by_erp(command())
        assert refusals == [("validation", "vendor.code", "vendor.code is blocked in the ERP (C7_FORNECE)")]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (
            command(lines=[BOLTS | {"unit_price": "0"}]),
            ("validation", "lines[0].unit_price", "lines[0].unit_price must be more than zero"),
        ),
        (
            command(lines=[BOLTS, BOLTS | {"quantity": "-1"}]),
            ("validation", "lines[1].quantity", "lines[1].quantity must be more than zero"),
        ),
        (
            command(order=ORDER | {"notes": "→ Portão"}),
            ("validation", "notes", "notes holds →, which the ERP's encoding (Windows-1252) lacks"),
        ),
        (
            command(order=ORDER | {"currency": "JPY"}),
            ("validation", "currency", "currency is no currency of this connection"),
        ),
        (
            command(order=ORDER | {"currency_raw": "R$"}),
            ("validation", "currency_raw", "currency_raw must be a number"),
        ),
        (
            command(order=ORDER | {"buyer": "003"}),
            ("not_writable_field", "buyer", "buyer is nothing that MATA120 takes"),
        ),
        (
            command(order=ORDER | {"custom_fields": {"C7_ZDTINT": "24/12/2026"}}),
            (
                "validation",
                "custom_fields.C7_ZDTINT",
                "custom_fields.C7_ZDTINT must be a date, as 2026-01-31",
            ),
        ),
        (
            command(external_reference="PO-77 | B"),
            ("validation", "external_reference", "external_reference holds ' | ', which parts it from the notes"),
        ),
        (
            command(external_reference="PO-→"),
            (
                "validation",
                "external_reference",
                "external_reference holds →, which the ERP's encoding (Windows-1252) lacks",
            ),
        ),
        (
            command(order=ORDER | {"notes": "x" * 43}),
            (
                "validation",
                "notes",
                "notes has 43 characters, and at most 42 fit behind the order's own key in C7_OBS",
            ),
        ),
    ],
)
async def test_a_new_order_that_no_column_can_hold_is_refused(given, refusal):
    async with world() as at:
        assert await at.refused(given) == [refusal]


async def test_a_reference_must_fit_into_the_column_that_keeps_it():
    async with world(FLAT | {"columns": {}}) as at:
        rule = "external_reference has 31 characters, and C7_OBS holds 30"
        assert await at.refused(command(external_reference="x" * 31)) == [("validation", "external_reference", rule)]
        await at.do(command(external_reference="x" * 30))
        assert at.rows()[0]["C7_OBS"] == "x" * 30


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (
            command("update_lines", lines=[{"remote_id": "0009", "quantity": "1"}]),
            ("validation", "lines[0].remote_id", "the order has no line 0009"),
        ),
        (
            command("cancel_lines", lines=["0002", "0009"]),
            ("validation", "lines[1]", "the order has no line 0009"),
        ),
        (
            command("cancel_lines", lines=["0002", "0001"]),
            ("validation", "lines", "lines are all that the order has, and MATA120 leaves none without lines"),
        ),
        (
            command("update", order={"payment_terms": None}),
            ("validation", "payment_terms.code", "payment_terms.code is no payment term that the ERP has (SE4)"),
        ),
    ],
)
async def test_a_change_that_fits_no_line_or_list_is_refused(given, refusal):
    async with world() as at:
        at.an_order()
        assert await at.refused(given) == [refusal]


@pytest.mark.parametrize(
    ("happen", "why"),
    [
        (lambda erp, order: erp.receive(order, "0002", 1), "some of it was received (C7_QUJE)"),
        (lambda erp, order: erp.pre_receive(order, "0002", 1), "some of it is in a pre-receipt (C7_QTDACLA)"),
        (lambda erp, order: erp.eliminate_residue(order, "0002"), "its balance was eliminated (C7_RESIDUO, C7_ENCER)"),
    ],
)
@pytest.mark.parametrize("given", [command("update", order={"notes": "x"}), command("cancel")])
async def test_an_order_of_which_something_has_happened_is_left_alone(happen, why, given):
    async with world() as at:
        happen(at.erp, at.an_order())
        message = f"line 0002: {why}, and MATA120 changes and deletes no such order"
        assert await at.refused(given) == [("workflow_state", "status", message)]


async def test_an_order_that_is_gone_is_a_conflict():
    async with world() as at:
        assert await at.refused(command("cancel")) == [("conflict", "remote_id", "the ERP shows no such order")]


async def test_items_have_an_end():
    async with world() as at:
        at.erp.corrupt(at.an_order(), "C7_ITEM", "9999", item="0002")
        rule = "lines are more than the items up to 9999 leave room for"
        assert await at.refused(command("add_lines", lines=[BOLTS])) == [("validation", "lines", rule)]


# refused by the ERP itself


REFUSALS = ["own", "400_ttalk", "500_ttalk", "500_error_code", "200_status_400"]


@every_shape
@pytest.mark.parametrize("refusals", REFUSALS)
@pytest.mark.parametrize("charset", ["utf-8", "cp1252-silent"])
async def test_the_erps_no_is_understood_however_it_is_dressed(writing, refusals, charset):
    async with world(writing, {"refusals": refusals, "charset": charset}) as at:
        prepared = await at.prepared(command(lines=[BEARINGS, BOLTS]))
        at.erp.retire_product("PAR-M8-30")
        with pytest.raises(WriteRefused) as caught:
            await at.writer.write(prepared)
        rule = "lines[1].item.code is blocked in the ERP (C7_PRODUTO)"
        assert told(caught.value) == [("validation", "lines[1].item.code", rule)]
        assert "AJUDA:REGBLOQ\nRegistro bloqueado para uso." in caught.value.said
        assert "Produto               - C7_PRODUTO := PAR-M8-30    < -- Invalido" in caught.value.said
        assert at.erp.orders() == []


@every_shape
async def test_an_order_that_was_received_in_between_is_refused_by_its_state(writing):
    async with world(writing) as at:
        order = at.an_order()
        prepared = await at.prepared(command("update", order={"notes": "x"}))
        at.erp.receive(order, "0001", 1)
        with pytest.raises(WriteRefused) as caught:
            await at.writer.write(prepared)
        ((reason, field, message),) = told(caught.value)
        assert (reason, field) == ("workflow_state", "status")
        assert message.startswith("the order is received, in a pre-receipt or closed")
        assert "Pedido já atendido total ou parcialmente" in caught.value.said


async def test_an_order_that_was_deleted_in_between_is_a_conflict():
    async with world() as at:
        order = at.an_order()
        prepared = await at.prepared(command("cancel"))
        at.erp.delete_order(order)
        with pytest.raises(WriteRefused) as caught:
            await at.writer.write(prepared)
        assert told(caught.value) == [("conflict", "remote_id", "the ERP has no such order")]


# answers, one by one


def answering(status, body=None, content_type="application/json", headers=None, **writing):
    """A writer whose ERP answers every write in this way, and its command to write."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    def answer(_request):
        return httpx.Response(status, content=content, headers={"Content-Type": content_type} | (headers or {}))

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    settings = ProtheusSettings(url="http://erp/rest", tenant="T1,D MG 01", login="basic", writing=FLAT | writing)
    credentials = ProtheusCredentials(username="relay", password="x")
    return ProtheusConnector(settings, credentials, client, Mappings()).writer()


async def written(writer, type_="create"):
    """What becomes of a call; changes are of order 000001."""
    given = command() if type_ == "create" else command("approve")
    if type_ == "create":
        writer._references = NoList()
    return await writer.write(await writer.prepare(given, None))


class NoList:
    """Every code is there."""

    async def vendor(self, _code, store):
        return store or "01", []

    async def listed(self, _listing, _places):
        return []


@pytest.mark.parametrize(
    ("body", "reason", "field", "message"),
    [
        (
            {"errorCode": 500, "errorMessage": "Fornecedor inválido"},
            "validation",
            "vendor.code",
            "vendor.code is refused by the ERP (C7_FORNECE)",
        ),
        (
            {"code": "500", "message": "Condição de pagamento não cadastrada"},
            "validation",
            "payment_terms.code",
            "payment_terms.code is not in the ERP (C7_COND)",
        ),
        (
            {"message": "Item 2: produto bloqueado"},
            "validation",
            "lines[1].item.code",
            "lines[1].item.code is blocked in the ERP (C7_PRODUTO)",
        ),
        (
            {"message": "Produto inexistente"},
            "validation",
            "lines[].item.code",
            "lines[].item.code is not in the ERP (C7_PRODUTO)",
        ),
        (
            {"message": "Usuário sem permissão para a rotina"},
            "not_permitted",
            None,
            "the ERP does not let relay's user do this",
        ),
        ({"message": "Registro em uso por outro usuário"}, "conflict", None, "somebody else works on it in the ERP"),
        (
            {"message": "Pedido encerrado"},
            "workflow_state",
            "status",
            "the order is received, in a pre-receipt or closed, and MATA120 changes and deletes no such order",
        ),
        ({"message": "AJUDA:XYZ\r\nAlgo"}, "validation", None, "MATA120 refuses it"),
        (
            {"message": "AJUDA:REGNOIS C7_FORNECE := FOR999 < -- Invalido"},
            "validation",
            "vendor.code",
            "vendor.code is not in the ERP (C7_FORNECE)",
        ),
        ({"message": "AJUDA:OBRIGAT\nC7_CONTATO :=  <-- Inválido"}, "validation", None, "C7_CONTATO is missing"),
        (
            {"message": "C7_ITEM := 0002 < -- Invalido"},
            "validation",
            "lines[1].remote_id",
            "lines[1].remote_id is refused by the ERP (C7_ITEM)",
        ),
        ({"message": "Limite do comprador excedido"}, "not_permitted", None, "the ERP refuses it: limite do comprador"),
        (
            {"message": "O centro 117 não aceita compras"},
            "validation",
            "lines[].cost_center",
            "lines[].cost_center is refused by the ERP (C7_CC)",
        ),
        ({"message": "Período fechado"}, "workflow_state", "status", "the ERP refuses it: período fechado"),
    ],
)
async def test_a_500_that_is_the_erps_own_no_is_one(body, reason, field, message):
    phrases = [
        {"says": "limite do comprador", "reason": "not_permitted"},
        {"says": "nao aceita compras", "column": "C7_CC"},
        {"says": "período fechado", "reason": "workflow_state"},
    ]
    with pytest.raises(WriteRefused) as caught:
        await written(answering(500, body, refusals=phrases))
    assert told(caught.value) == [(reason, field, message)]
    assert caught.value.refusals[0].fix


async def test_all_columns_that_a_log_marks_are_named():
    log = "AJUDA:REGNOIS\r\nC7_FORNECE := X < -- Invalido\r\nErro no Item 0001\r\nC7_PRODUTO := Y < -- Invalido\r\n\x07"
    with pytest.raises(WriteRefused) as caught:
        await written(answering(500, {"message": "Erro", "detailedMessage": log}))
    assert [each.field for each in caught.value.refusals] == ["vendor.code", "lines[0].item.code"]
    assert caught.value.said == "Erro\n" + log.replace("\r\n", "\n").removesuffix("\n\x07")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": "400", "message": "Algo deu errado"}),
        (422, {"Mensagem": "Algo deu errado"}),
        (200, {"Status": "400", "Mensagem": "Algo deu errado"}),
        (200, {"code": 409, "message": "Algo deu errado"}),
    ],
)
async def test_what_calls_the_request_wrong_is_a_refusal_whatever_it_says(status, body):
    with pytest.raises(WriteRefused) as caught:
        await written(answering(status, body))
    assert told(caught.value) == [("validation", None, "the ERP refuses it")]
    assert caught.value.said == "Algo deu errado"


DOUBTFUL = [
    (500, b"<html>Internal Server Error</html>", Unavailable),
    (
        500,
        {
            "code": "500",
            "message": "Erro",
            "detailedMessage": "THREAD ERROR ([1], relay, srv) C7_FORNECE < -- Invalido",
        },
        Unavailable,
    ),
    (500, {"errorCode": 500, "errorMessage": "Erro na execução"}, Unavailable),
    (502, None, Unavailable),
    (408, None, Unavailable),
    (400, b"<html>Bad Request</html>", UnexpectedReply),
    (302, None, UnexpectedReply),
    (200, b"<html>ok</html>", UnexpectedReply),
    (200, None, UnexpectedReply),
    (200, b'{"Status":"200","C7_N', UnexpectedReply),
    (200, [], UnexpectedReply),
    (200, {"Status": "500", "Mensagem": "Erro"}, UnexpectedReply),
    (200, {"Status": "200"}, UnexpectedReply),
    (200, {"Status": "200", "C7_NUM": "  "}, UnexpectedReply),
    (200, {"Status": "200", "C7_NUM": True}, UnexpectedReply),
    (200, {"Status": "200", "C7_NUM": "x" * 21}, UnexpectedReply),
    (204, None, UnexpectedReply),
]


@pytest.mark.parametrize(("status", "body", "error"), DOUBTFUL)
async def test_everything_else_leaves_it_open_whether_it_was_done(status, body, error):
    with pytest.raises(error) as caught:
        await written(answering(status, body))
    assert not getattr(caught.value, "unsent", False)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {}, CredentialsRefused),
        (403, {}, Unsupported),
        (404, {}, Unsupported),
        (429, {"Retry-After": "7"}, Throttled),
        (503, {"Retry-After": "7"}, Throttled),
    ],
)
async def test_what_was_not_let_in_was_not_done(status, headers, error):
    with pytest.raises(error) as caught:
        await written(answering(status, {"message": "Fornecedor inválido"} if status < 404 else None, headers=headers))
    assert getattr(caught.value, "retry_after", 7) == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (204, None),
        (200, {}),
        (200, {"Status": "200"}),
        (201, {"C7_NUM": "000001"}),
        (200, {"Status": 200, "C7_NUM": 1}),
    ],
)
async def test_a_change_is_done_when_nothing_speaks_against_it(status, body):
    if body == {"Status": 200, "C7_NUM": 1}:
        with pytest.raises(UnexpectedReply, match="another order's number"):
            await written(answering(status, body), "approve")
    else:
        assert await written(answering(status, body), "approve") == "D MG 01|000001"


async def test_a_wrapper_says_in_its_own_way_that_it_was_done():
    answer = {
        "status": "resultado.ok",
        "done": ["sim"],
        "number": "resultado.pedidos.0.numero",
        "said": ["resultado.erro"],
    }
    done = {"resultado": {"ok": "Sim", "pedidos": [{"numero": "000077"}]}}
    assert await written(answering(200, done, answer=answer)) == "D MG 01|000077"
    no = {"resultado": {"ok": "nao", "erro": "Fornecedor bloqueado"}}
    with pytest.raises(WriteRefused) as caught:
        await written(answering(200, no, answer=answer))
    assert told(caught.value) == [("validation", "vendor.code", "vendor.code is blocked in the ERP (C7_FORNECE)")]
    for silent in ({}, {"resultado": []}):
        with pytest.raises(UnexpectedReply, match="does not say that it was done"):
            await written(answering(200, silent, answer=answer))


# faults over HTTP, and finding again


@pytest.mark.parametrize("fault", ["reset", "html", "500_ttalk", "timeout", "truncated", "short", "html_200", "empty"])
@every_shape
async def test_an_order_that_was_made_but_not_answered_is_found_by_its_mark(writing, fault):
    async with world(writing) as at:
        at.an_order()
        given = command(order=ORDER | {"notes": "Portão 3"})
        assert await at.writer.find(given) is None
        prepared = await at.prepared(given)
        at.erp.fail_next(fault, on="write", applied=True)
        with pytest.raises((Unavailable, UnexpectedReply)) as caught:
            await at.write(prepared, fault)
        assert not getattr(caught.value, "unsent", False)
        assert await at.writer.find(given) == "D MG 01|000002"
        assert (await at.read("D MG 01|000002")).lines[1].quantity == 4


@pytest.mark.parametrize("fault", ["reset", "html", "500_ttalk", "timeout"])
async def test_an_order_that_was_not_made_is_not_found(fault):
    async with world() as at:
        prepared = await at.prepared(command())
        at.erp.fail_next(fault, on="write")
        with pytest.raises(Unavailable):
            await at.write(prepared, fault)
        assert await at.writer.find(command()) is None
        assert await at.writer.write(prepared) == "D MG 01|000001"


async def test_a_write_is_sent_once_however_it_fails():
    async with world() as at:
        prepared = await at.prepared(command())
        for fault in ("429", "503_retry_after", "503", "reset"):
            at.erp.fail_next(fault, on="write")
            before = len(at.erp.writes())
            with pytest.raises((Throttled, Unavailable)):
                await at.writer.write(prepared)
            assert len(at.erp.writes()) == before + 1


async def test_what_fails_at_the_login_was_not_sent():
    async with world() as at:
        prepared = await at.prepared(command())
        at.erp.login.expire_tokens()
        at.erp.login.expire_refresh_tokens()
        at.connector._query._auth._renew_at = 0
        at.erp.fail_next("503", on="token")
        with pytest.raises(Unavailable) as caught:
            await at.connect().writer().write(prepared)
        assert caught.value.unsent
        assert at.erp.writes() == []


@pytest.mark.parametrize("reference", ["PO-77", "PO 77/B", "50%_off[x]", "D'Água", "Compra ção"])
async def test_an_order_is_found_by_its_senders_reference_and_by_no_other(reference):
    async with world() as at:
        given = command(external_reference=reference)
        for other in (reference + "0", reference + " 0", "x" + reference, reference.lower() + "z"):
            await at.do(command(external_reference=other))
        assert await at.writer.find(given) is None
        made = await at.do(given)
        assert await at.writer.find(given) == made


async def test_deleted_orders_and_their_lines_are_not_found():
    async with world() as at:
        await at.do(command())
        at.erp.delete_line(OrderKey("D MG 01", "000001"), "0001")
        assert await at.writer.find(command()) == "D MG 01|000001"
        at.erp.delete_order(OrderKey("D MG 01", "000001"))
        assert await at.writer.find(command()) is None


async def test_relays_own_mark_is_found_where_the_erp_writes_it_in_capitals():
    async with world(habits={"blanks_count": True}) as at:
        await at.do(command())
        key = OrderKey("D MG 01", "000001")
        at.erp.change_header(key, {"C7_OBS": mark(command()).upper()})
        assert await at.writer.find(command()) == "D MG 01|000001"


async def test_the_newest_of_two_orders_with_one_reference_is_found():
    async with world() as at:
        for _ in range(2):
            await at.do(command(external_reference="PO-77"))
        assert await at.writer.find(command(external_reference="PO-77")) == "D MG 01|000002"


async def test_a_mark_that_cannot_be_read_back_says_so():
    async with world(habits={"hidden_columns": frozenset({"C7_OBS"})}) as at:
        await at.do(command())
        with pytest.raises(Unsupported, match="keeps C7_OBS back"):
            await at.writer.find(command())


async def test_rows_that_only_begin_like_the_mark_hide_none():
    async with world() as at:
        for _ in range(51):
            await at.do(command(external_reference="A" + "B"))
        with pytest.raises(UnexpectedReply, match="more than 100 rows of SC7 begin like the mark"):
            await at.writer.find(command(external_reference="A"))


async def test_without_a_column_for_the_mark_nothing_is_found():
    async with world(FLAT | {"mark": None}) as at:
        assert not at.writer.finds
        await at.do(command())
        assert at.rows()[0]["C7_OBS"] == ""
        assert await at.writer.find(command()) is None
    async with world(absent_columns=["C7_OBS"]) as at:
        assert not at.writer.finds
    async with world() as at:
        assert at.writer.finds


async def made_once(at, given):
    """As relay does it: looked for before it is sent, and again whenever it is open whether it was done."""
    while True:
        if found := await at.writer.find(given):
            return found
        prepared = await at.prepared(given)
        with suppress(Transient, UnexpectedReply):
            return await at.writer.write(prepared)


@every_shape
async def test_new_orders_are_each_made_once_however_often_their_answers_are_lost(writing):
    dice = random.Random(4)
    faults = [None, "reset", "html", "html_200", "500_ttalk", "429", "503", "truncated", "short", "empty"]
    async with world(writing) as at:

        def fate(_request):
            fault = dice.choice(faults)
            return fault and Planned(fault, applied=dice.random() < 0.5 and fault not in {"429", "503"})

        at.erp.faults.choose = fate
        wanted = {}
        for number in range(40):
            given = command(command_id=f"c-{number}", lines=[BEARINGS | {"quantity": str(number + 1)}])
            wanted[await made_once(at, given)] = Decimal(number + 1)
        assert {"|".join(key) for key in at.erp.orders()} == wanted.keys()
        assert len(wanted) == 40
        for remote_id, quantity in wanted.items():
            assert [line.quantity for line in (await at.read(remote_id)).lines] == [quantity]
        assert len(at.erp.writes()) > 60


# versions


async def test_an_order_that_was_changed_after_it_was_read_is_a_conflict():
    async with world() as at:
        order = at.an_order()
        seen = await at.read()
        at.erp.change_line(order, "0001", {"C7_QUANT": 7})
        with pytest.raises(WriteRefused) as caught:
            await at.writer.prepare(command("update", order={"notes": "x"}), seen)
        message = "the order was changed in the ERP after it was read"
        assert told(caught.value) == [("conflict", "remote_id", message)]
        at.erp.purge(order)
        with pytest.raises(WriteRefused):
            await at.writer.prepare(command("approve"), seen)
        assert at.erp.writes() == []


async def test_a_version_moves_with_the_content_and_not_with_the_stamp():
    async with world(mapping={"fields": {"C7_XPRIOR": "text"}}) as at:
        order = at.an_order()
        first = (await at.read()).remote_version
        plain = at.connect(stamps="off")
        assert (await plain.read("D MG 01|000001")).remote_version == first
        at.erp.change_header(order, {"C7_COND": "030"})
        assert (await at.read()).remote_version == first
        for happen in (
            lambda: at.erp.receive(order, "0001", 1),
            lambda: at.erp.approve(order),
            lambda: at.erp.delete_line(order, "0002"),
        ):
            happen()
            now = (await at.read()).remote_version
            assert now != first
            first = now


# what is declared, and what is offered


async def test_without_a_way_in_nothing_can_be_written():
    async with world(None) as at:
        assert at.writer is None
        assert at.connector.capabilities().commands == ()


def field(at, path):
    return next(each for each in at.connector.capabilities().fields if each.path == path)


async def test_the_capabilities_say_what_the_wrapper_lets_through():
    async with world(mapping={"fields": {"C7_XPRIOR": "text"}, "currencies": {"2": "USD"}}) as at:
        commands = {each.type.value: each for each in at.connector.capabilities().commands}
        assert list(commands) == [
            *("create", "update", "add_lines", "update_lines", "cancel_lines", "cancel", "close", "approve", "reject")
        ]
        assert commands["create"].statuses == ()
        assert commands["update"].statuses == (Status.PENDING_APPROVAL, Status.REJECTED, Status.APPROVED)
        assert Status.PARTIALLY_RECEIVED in commands["close"].statuses
        assert commands["cancel"].note.startswith("MATA120 deletes the order")
        terms = field(at, "payment_terms.code")
        assert (terms.creatable, terms.required, terms.updatable_until) == (True, True, Status.APPROVED)
        assert (terms.max_length, terms.reference) == (3, "payment terms")
        assert not field(at, "vendor.code").updatable
        assert field(at, "notes").max_length == 60
        assert field(at, "currency").allowed == ("BRL", "USD")
        assert field(at, "freight_type").allowed == ("CIF", "FOB", "THIRD_PARTY", "NONE")
        assert field(at, "branch.remote_id").allowed == ("D MG 01",)
        own = field(at, "custom_fields.C7_XPRIOR")
        assert (own.readable, own.creatable, own.updatable, own.allowed) == (True, True, True, ("NORMAL", "URGENTE"))
        weight = field(at, "lines[].custom_fields.C7_XPESO")
        assert (weight.readable, weight.type, weight.decimals, weight.creatable) == (False, "amount", 3, True)
        assert not any(
            each.path == "custom_fields.C7_XRELAY" for each in at.connector.capabilities().fields if not each.creatable
        )


async def test_the_capabilities_follow_the_columns_as_they_are_declared():
    columns = {
        "C7_FORNECE": {"length": 8, "update": True},
        "C7_PRECO": {"decimals": 4},
        "C7_CC": {"required": True, "allowed": ["117", "118"]},
        "C7_LOCAL": {"create": False, "update": False},
        "C7_TPFRETE": {"allowed": ["C", "F"]},
    }
    async with world(FLAT | {"columns": columns}, absent_columns=["C7_CONTA"]) as at:
        vendor = field(at, "vendor.code")
        assert (vendor.max_length, vendor.updatable) == (8, True)
        assert field(at, "lines[].unit_price").decimals == 4
        center = field(at, "lines[].cost_center")
        assert (center.required, center.allowed) == (True, ("117", "118"))
        assert not field(at, "lines[].warehouse").creatable
        assert not field(at, "lines[].account").creatable
        assert field(at, "freight_type").allowed == ("CIF", "FOB")
        at.an_order()
        await at.do(command("update", order={"vendor": {"code": "FOR003"}}))
        assert {row["C7_FORNECE"] for row in at.rows()} == {"FOR003"}


async def test_the_message_of_the_eai_has_no_field_for_some_columns():
    async with world(EAI | {"columns": COLUMNS | LINE_COLUMNS}) as at:
        lacking = [
            each
            for each in ("ship_to.location_code", "currency", "lines[].account", "lines[].custom_fields.C7_XPESO")
            if not field(at, each).creatable
        ]
        assert len(lacking) == 4
        assert field(at, "custom_fields.C7_XPRIOR").creatable
        assert {each.type.value for each in at.connector.capabilities().commands} == {
            *("create", "update", "add_lines", "update_lines", "cancel_lines", "cancel")
        }


async def test_a_wrapper_that_only_creates_changes_nothing():
    async with world({"shape": "flat", "create": {"path": "/x"}}) as at:
        assert [each.type.value for each in at.connector.capabilities().commands] == ["create"]
        assert not field(at, "notes").updatable
    async with world({"shape": "flat", "change": {"path": "/x"}}) as at:
        assert not field(at, "notes").creatable
        assert not field(at, "branch.remote_id").creatable


async def test_a_status_of_another_name_is_still_the_erps_code():
    async with world(mapping={"statuses": {"B": "draft"}}) as at:
        approve = next(each for each in at.connector.capabilities().commands if each.type == "approve")
        assert Status.DRAFT in approve.statuses


@pytest.mark.parametrize(
    ("writing", "problem"),
    [
        ({"shape": "flat"}, "it has no operation: give create, change or cancel a path"),
        ({"shape": "flat", "create": {"path": "pedidos"}}, "String should match pattern"),
        ({"shape": "flat", "create": {"path": "/p/{number}"}}, "a new order has no number yet"),
        ({"shape": "flat", "cancel": {"path": "/p/{id}"}}, "a path may hold {branch}, {number}, {remote_id}"),
        ({"shape": "flat", "create": {"path": "/p"}, "mark": "C7_XRELAY"}, "say how long C7_XRELAY is"),
        (
            {"shape": "flat", "create": {"path": "/p"}, "columns": {"C7_OBS": {"length": 14}}},
            "C7_OBS is too short for a key of 15 characters",
        ),
        ({"shape": "flat", "create": {"path": "/p"}, "columns": {"A2_COD": {}}}, "String should match pattern"),
        ({"shape": "eai"}, "tenant: new orders need its branch"),
        ({"shape": "soap", "create": {"path": "/p"}}, "'flat', 'execauto' or 'eai'"),
    ],
)
def test_a_declaration_that_cannot_stand_is_refused_with_what_to_do(writing, problem):
    tenant = "T1," if writing == {"shape": "eai"} else "T1,01"
    with pytest.raises(ValidationError) as caught:
        ProtheusSettings(url="http://erp/rest", tenant=tenant, writing=writing)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Decimal("12.299999999999999"), Decimal("12.3"), True),
        (12, Decimal("12.0"), True),
        (12, Decimal("12.0001"), False),
        ("x ", "x", True),
        (" x", "x", False),
        ("12", 12, False),
        (Decimal("1e99999999"), Decimal("1e99999998"), False),
        (None, "None", True),
    ],
)
def test_a_version_is_of_values_not_of_how_they_are_written(one, other, same):
    def row(value):
        return {
            "C7_NUM": "000001",
            "C7_ITEM": "0001",
            "C7_QUANT": value,
            "S_T_A_M_P_": str(value),
            "C7_XOWN": str(value),
        }

    assert (version_of([row(one)]) == version_of([row(other)])) is same
    assert version_of([row(one), row(3)]) == version_of([row(3), row(one)])
