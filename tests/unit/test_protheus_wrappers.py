"""The simulated Protheus writes as MATA120 behind a customer's wrapper does: all or nothing, and rudely."""

import asyncio
import datetime as dt
from contextlib import asynccontextmanager

import httpx
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_faults import Planned
from relay.demo.protheus_http import Options, simulated_protheus
from relay.demo.protheus_wrappers import EAI_PATH, EXECAUTO_PATH, FLAT_PATH

MONDAY = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
HEADER = {"C7_EMISSAO": "20261102", "C7_FORNECE": "FOR001", "C7_LOJA": "01", "C7_COND": "030"}
BOLTS = {"C7_PRODUTO": "PAR-M8-30", "C7_QUANT": 100, "C7_PRECO": 1.25, "C7_OBS": "rl-abc"}
BEARINGS = {"C7_PRODUTO": "ROL-6204", "C7_QUANT": 4, "C7_PRECO": 37.9, "C7_DATPRF": "20261125"}
ORDER = HEADER | {"ITENS": [BOLTS, BEARINGS]}


class Desk:
    """One simulated Protheus, and a client that is logged in."""

    def __init__(self, erp, client):
        self.erp = erp
        self.client = client

    async def send(self, method, path, body=None, **headers):
        sent = {"tenantId": self.erp.tenant} | headers
        auth = httpx.BasicAuth(self.erp.username, self.erp.password)
        return await self.client.request(method, f"{self.erp.url}{path}", json=body, headers=sent, auth=auth)

    async def execauto(self, option, header, *items):
        arrays = [[name, value, None] for name, value in header.items()]
        return await self.send("POST", EXECAUTO_PATH, {"nTipo": 1, "nOpc": option, "aCab": arrays, "aItens": items})

    async def eai(self, content, event="upsert"):
        entity = {"Entity": "Order", "Event": event}
        body = {"Content": {"BusinessEvent": entity, "BusinessContent": {"OrderPurpose": "1"} | content}}
        return await self.send("POST", EAI_PATH, body)

    def rows(self, order=None):
        order = order or self.erp.purchase_orders()[-1]
        return [{name: _plain(value) for name, value in row.items()} for row in self.erp.rows(order)]


def _plain(value):
    return value.rstrip() if isinstance(value, str) else value


def arrays(columns, item="", delete="N"):
    position = [["LINPOS", "C7_ITEM", item], ["AUTODELETA", delete, None]] if item else []
    return [*position, *([name, value, None] for name, value in columns.items())]


@asynccontextmanager
async def desk(**habits):
    options = Options(clock=lambda: MONDAY, **habits)
    async with simulated_protheus(options) as erp, httpx.AsyncClient(timeout=5) as client:
        erp.seed(0)
        yield Desk(erp, client)


async def an_order(at):
    assert (await at.send("POST", FLAT_PATH, ORDER)).json()["Status"] == "200"
    return at.erp.purchase_orders()[-1]


# three ways in


async def test_a_flat_body_includes_an_order_and_answers_its_number():
    async with desk() as at:
        reply = await at.send("POST", FLAT_PATH, ORDER)
        assert reply.json() == {
            "Status": "200",
            "Mensagem": "Operação realizada",
            "C7_FILIAL": "D MG 01",
            "C7_NUM": "000001",
        }
        first, second = at.rows()
        assert (first["C7_ITEM"], first["C7_QUANT"], first["C7_TOTAL"], first["C7_OBS"]) == ("0001", 100, 125, "rl-abc")
        assert (second["C7_ITEM"], second["C7_DATPRF"], second["C7_CONAPRO"]) == ("0002", "20261125", "B")
        assert {row["C7_FILENT"] for row in (first, second)} == {"D MG 01"}


async def test_arrays_include_an_order_only_with_the_whole_header():
    async with desk() as at:
        refused = await at.execauto(3, HEADER, arrays(BOLTS))
        assert refused.status_code == 500
        assert "C7_CONTATO :=     < -- Invalido" in refused.json()["detailedMessage"]
        whole = HEADER | {"C7_CONTATO": "", "C7_FILENT": "D MG 01", "C7_OBS": "belongs to the lines"}
        reply = await at.execauto(3, whole, arrays(BOLTS), arrays(BEARINGS))
        assert (reply.status_code, reply.json()) == (201, {"filial": "D MG 01", "pedido": "000002"})
        assert [row["C7_OBS"] for row in at.rows()] == ["rl-abc", ""]


async def test_the_eai_message_includes_changes_and_deletes_an_order():
    async with desk() as at:
        content = {
            "RegisterDate": "2026-11-02",
            "CustomerCode": "FOR001",
            "CustomerInternalId": "T1||FOR001|02",
            "PaymentTermCode": "030",
            "FreightType": "1",
            "Observation": "rl-abc",
            "OTHER": {"ADDFIELDS": {"ADDFIELD": [{"field": "C7_XPRIOR", "value": "URGENTE"}]}},
            "SalesOrderItens": {
                "Item": [
                    {"ItemCode": "PAR-M8-30", "Quantity": 100, "UnityPrice": 1.25, "WarehouseInternalId": "T1||02"},
                    {"ItemCode": "ROL-6204", "Quantity": 4, "UnityPrice": 37.9},
                ]
            },
        }
        reply = await at.eai(content)
        (told,) = reply.json()["Content"]["ReturnContent"]["ListOfInternalId"]
        assert told["Destination"] == "D MG 01|000001"
        row = at.rows()[0]
        assert (row["C7_LOJA"], row["C7_TPFRETE"], row["C7_OBS"], row["C7_XPRIOR"]) == ("02", "C", "rl-abc", "URGENTE")
        assert row["C7_LOCAL"] == "02"
        items = [{"OrderItem": "0001", "Quantity": 90}, {"OrderItem": "0002", "Event": "delete"}]
        assert (await at.eai({"OrderId": "000001", "SalesOrderItens": {"Item": items}})).status_code == 200
        assert [(row["C7_QUANT"], row["D_E_L_E_T_"]) for row in at.rows()] == [(90, ""), (4, "*")]
        assert (await at.eai({"OrderId": "000001"}, "delete")).status_code == 200
        assert at.erp.orders() == []


async def test_an_eai_message_of_a_sale_is_refused():
    async with desk() as at:
        reply = await at.eai({"OrderPurpose": "2"})
        assert reply.status_code == 400
        assert reply.json()["DetailedMessage"] == "OrderPurpose diferente de 1 - Compra"


async def test_a_change_names_lines_by_their_item_and_leaves_the_others_alone():
    async with desk() as at:
        await an_order(at)
        lines = [{"C7_ITEM": "0002", "C7_QUANT": 7}, {"C7_PRODUTO": "CAB-25-FX", "C7_QUANT": 50, "C7_PRECO": 2.43}]
        reply = await at.send("PUT", f"{FLAT_PATH}/000001", {"C7_COND": "060", "ITENS": lines})
        assert reply.json()["C7_NUM"] == "000001"
        seen = [(row["C7_ITEM"], row["C7_QUANT"], row["C7_COND"]) for row in at.rows()]
        assert seen == [("0001", 100, "060"), ("0002", 7, "060"), ("0003", 50, "060")]
        assert at.rows()[1]["C7_TOTAL"] == 265.3


async def test_arrays_change_by_position_and_delete_by_mark():
    async with desk() as at:
        await an_order(at)
        header = HEADER | {"C7_NUM": "000001"}
        reply = await at.execauto(4, header, arrays({"C7_PRECO": 1.3}, "0001"), arrays({}, "0002", "S"))
        assert reply.status_code == 200
        assert [(row["C7_PRECO"], row["D_E_L_E_T_"]) for row in at.rows()] == [(1.3, ""), (37.9, "*")]
        assert (await at.execauto(5, {"C7_NUM": "000001"})).status_code == 200
        assert {row["D_E_L_E_T_"] for row in at.rows()} == {"*"}


async def test_a_wrapper_of_its_own_closes_and_approves():
    async with desk() as at:
        order = await an_order(at)
        await at.send("POST", f"{FLAT_PATH}/000001/liberacao", {"ACAO": "L"})
        assert {row["C7_CONAPRO"] for row in at.rows(order)} == {"L"}
        await at.send("POST", f"{FLAT_PATH}/000001/residuo")
        assert {row["C7_RESIDUO"] for row in at.rows(order)} == {"S"}
        assert (await at.send("POST", f"{FLAT_PATH}/000001/unknown")).status_code == 404
        for action, body in (("residuo", None), ("liberacao", {"ACAO": "L"})):
            reply = await at.send("POST", f"{FLAT_PATH}/000009/{action}", body)
            assert "C7_NUM     := 000009    < -- Invalido" in reply.json()["Mensagem"]


async def test_stamps_move_when_an_order_is_written():
    async with desk() as at:
        order = await an_order(at)
        assert {row["S_T_A_M_P_"] for row in at.erp.rows(order)} == {"2026-11-02T12:00:00.000"}


# saying no


@pytest.mark.parametrize(
    ("columns", "line", "said"),
    [
        ({"C7_FORNECE": "FOR999"}, {}, "Fornecedor            - C7_FORNECE := FOR999    < -- Invalido"),
        ({"C7_LOJA": "09"}, {}, "Loja                  - C7_LOJA    := 09    < -- Invalido"),
        ({"C7_FORNECE": "FOR012"}, {}, "AJUDA:REGBLOQ"),
        ({"C7_COND": ""}, {}, "Cond. Pagto           - C7_COND    :=     < -- Invalido"),
        ({"C7_COND": "777"}, {}, "C7_COND    := 777    < -- Invalido"),
        ({}, {"C7_PRODUTO": "NADA"}, "Produto               - C7_PRODUTO := NADA    < -- Invalido"),
        ({}, {"C7_PRECO": 0}, "Prc Unitario          - C7_PRECO   := 0    < -- Invalido"),
        ({}, {"C7_QUANT": "many"}, "C7_QUANT   := many    < -- Invalido"),
    ],
)
async def test_an_inclusion_is_refused_with_the_log_and_leaves_a_gap_in_the_numbers(columns, line, said):
    async with desk() as at:
        at.erp.block_vendor("FOR012", "01")
        body = HEADER | columns | {"ITENS": [BOLTS, BEARINGS | line]}
        reply = await at.send("POST", FLAT_PATH, body)
        assert reply.status_code == 200
        assert reply.json()["Status"] == "400"
        assert said in reply.json()["Mensagem"]
        assert ("Erro no Item 0002" in reply.json()["Mensagem"]) is bool(line)
        assert at.erp.orders() == []
        assert (await at.send("POST", FLAT_PATH, ORDER)).json()["C7_NUM"] == "000002"


async def test_an_order_without_lines_is_refused():
    async with desk() as at:
        assert "C7_ITEM" in (await at.send("POST", FLAT_PATH, HEADER)).json()["Mensagem"]


@pytest.mark.parametrize(
    ("happen", "said"),
    [
        (lambda erp, order: erp.receive(order, "0001", 1), "Pedido já atendido total ou parcialmente"),
        (lambda erp, order: erp.pre_receive(order, "0002", 1), "Pedido em pré-nota a classificar"),
        (lambda erp, order: erp.eliminate_residue(order, "0001"), "Pedido com resíduo eliminado"),
        (lambda erp, order: erp.delete_order(order), "C7_NUM     := 000001    < -- Invalido"),
    ],
)
async def test_an_order_of_which_something_has_happened_is_neither_changed_nor_deleted(happen, said):
    async with desk() as at:
        order = await an_order(at)
        happen(at.erp, order)
        before = at.erp.rows(order)
        for method, body in (("PUT", {"ITENS": [{"C7_ITEM": "0001", "C7_QUANT": 1}]}), ("DELETE", None)):
            reply = await at.send(method, f"{FLAT_PATH}/000001", body)
            assert said in reply.json()["Mensagem"]
        assert at.erp.rows(order) == before


async def test_a_change_of_one_bad_line_changes_nothing():
    async with desk() as at:
        order = await an_order(at)
        before = at.erp.rows(order)
        for bad in ({"C7_ITEM": "0009", "C7_QUANT": 1}, {"C7_ITEM": "0002", "C7_PRECO": 0}, {"C7_PRODUTO": "NADA"}):
            lines = [{"C7_ITEM": "0001", "C7_QUANT": 1}, bad]
            reply = await at.send("PUT", f"{FLAT_PATH}/000001", {"C7_COND": "060", "ITENS": lines})
            assert reply.json()["Status"] == "400"
        away = [{"C7_ITEM": item, "AUTODELETA": "S"} for item in ("0001", "0002")]
        reply = await at.send("PUT", f"{FLAT_PATH}/000001", {"ITENS": away})
        assert "utilize a exclusão do pedido" in reply.json()["Mensagem"]
        assert at.erp.rows(order) == before


@pytest.mark.parametrize(
    ("refusals", "status", "name"),
    [
        ("400_ttalk", 400, "detailedMessage"),
        ("500_ttalk", 500, "detailedMessage"),
        ("500_error_code", 500, "errorMessage"),
        ("200_status_400", 200, "Mensagem"),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "cp1252-silent"])
async def test_an_installation_may_say_no_in_its_own_way(refusals, status, name, charset):
    async with desk(refusals=refusals, charset=charset) as at:
        reply = await at.send("POST", FLAT_PATH, ORDER | {"C7_FORNECE": "FOR999"})
        assert reply.status_code == status
        text = reply.content.decode("cp1252" if charset == "cp1252-silent" else "utf-8")
        assert f'"{name}":"AJUDA:REGNOIS\\r\\nNão existe registro' in text


async def test_the_eai_says_no_in_capitals():
    async with desk() as at:
        reply = await at.eai({"CustomerCode": "FOR999"})
        assert reply.status_code == 400
        assert sorted(reply.json()) == ["Code", "DetailedMessage", "HelpUrl", "Message"]


@pytest.mark.parametrize("body", [[], {"nOpc": 9}, {"nOpc": 4, "aCab": []}, {"nOpc": 3, "aCab": [["x"]]}])
async def test_a_body_that_the_wrapper_cannot_use_ends_its_thread(body):
    async with desk() as at:
        reply = await at.send("POST", EXECAUTO_PATH, body)
        assert reply.status_code == 500
        assert reply.json()["detailedMessage"].startswith("THREAD ERROR")
        assert at.erp.orders() == []


async def test_a_body_in_the_servers_own_encoding_is_read():
    async with desk() as at:
        text = '{"C7_EMISSAO":"02/11/2026","C7_FORNECE":"FOR001","C7_LOJA":"01","C7_COND":"030","C7_OBS":"Peça",'
        body = text + '"ITENS":[{"C7_PRODUTO":"PAR-M8-30","C7_QUANT":1,"C7_PRECO":1}]}'
        auth = httpx.BasicAuth(at.erp.username, at.erp.password)
        await at.client.post(f"{at.erp.url}{FLAT_PATH}", content=body.encode("cp1252"), auth=auth)
        (row,) = at.rows()
        assert (row["C7_OBS"], row["C7_EMISSAO"]) == ("Peça", "20261102")


# logging in, tenants, workers


async def test_nobody_writes_without_a_login_or_in_anothers_branch():
    async with desk() as at:
        url = f"{at.erp.url}{FLAT_PATH}"
        assert (await at.client.post(url, json=ORDER)).status_code == 401
        assert (await at.send("POST", FLAT_PATH, ORDER, tenantId="T9,X")).status_code == 400
        assert (await at.send("POST", FLAT_PATH, ORDER, tenantId="T1,M SP 01")).json()["C7_FILIAL"] == "M SP 01"


async def test_only_so_many_calls_are_worked_on_at_once():
    async with desk(workers=2, latency=0.02) as at:
        replies = await asyncio.gather(*(at.send("POST", FLAT_PATH, ORDER) for _ in range(6)))
        assert at.erp.most_at_once == 2
        assert sorted(reply.json()["C7_NUM"] for reply in replies) == [f"{number:06d}" for number in range(1, 7)]


async def test_the_same_call_twice_is_two_orders():
    async with desk() as at:
        for _ in range(2):
            await at.send("POST", FLAT_PATH, ORDER)
        assert len(at.erp.orders()) == 2
        assert len(at.erp.writes()) == 2


# faults


@pytest.mark.parametrize("fault", ["html", "500_ttalk", "429", "503_retry_after", "html_200", "empty"])
@pytest.mark.parametrize("applied", [False, True])
async def test_a_failure_comes_before_the_write_or_after_it(fault, applied):
    async with desk() as at:
        at.erp.fail_next(fault, on="write", applied=applied)
        reply = await at.send("POST", FLAT_PATH, ORDER)
        assert "C7_NUM" not in reply.text
        assert len(at.erp.orders()) == applied


@pytest.mark.parametrize("asked", ["reset", "after reset"])
async def test_a_header_of_the_request_asks_for_a_failure(asked):
    async with desk() as at:
        with pytest.raises(httpx.TransportError):
            await at.send("POST", FLAT_PATH, ORDER, **{"x-fail": asked})
        assert len(at.erp.orders()) == (asked == "after reset")


@pytest.mark.parametrize("fault", ["truncated", "short"])
async def test_a_cut_answer_is_of_a_write_that_was_done(fault):
    async with desk() as at:
        at.erp.fail_next(fault, on="write")
        try:
            reply = await at.send("POST", FLAT_PATH, ORDER)
            assert "000001" not in reply.text
        except httpx.RemoteProtocolError:
            assert fault == "short"
        assert len(at.erp.orders()) == 1


async def test_a_call_that_hangs_may_have_been_done():
    async with desk() as at:
        at.erp.fail_next("timeout", on="write", applied=True)
        at.client.timeout = httpx.Timeout(0.2)
        with pytest.raises(httpx.ReadTimeout):
            await at.send("POST", FLAT_PATH, ORDER)
        assert len(at.erp.orders()) == 1


async def test_a_script_chooses_which_writes_fail_and_reads_go_on():
    async with desk() as at:
        dice = iter([None, Planned("reset"), Planned("reset", applied=True), None])
        at.erp.faults.choose = lambda _: next(dice)
        for _ in range(4):
            try:
                await at.send("POST", FLAT_PATH, ORDER)
            except httpx.TransportError:
                continue
        assert len(at.erp.orders()) == 3
        at.erp.heal()
        assert (await at.send("POST", FLAT_PATH, ORDER)).json()["C7_NUM"] == "000004"


async def test_what_people_do_is_seen_beside_what_is_written():
    async with desk() as at:
        at.erp.create_order([NewLine("PAR-M8-30", 1, 1)])
        await at.send("POST", FLAT_PATH, ORDER)
        assert [order.number for order in at.erp.purchase_orders()] == ["000001", "000002"]
