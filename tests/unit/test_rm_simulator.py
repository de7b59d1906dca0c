"""The simulated RM behaves as badly as the facts about real ones say, and no worse."""

import asyncio
import datetime as dt
import json
import random
from contextlib import asynccontextmanager

import httpx
import pytest

from relay.demo.people import RmPeople
from relay.demo.rm import NewItem
from relay.demo.rm_http import LIST_PATH, TOKEN_PATH, RmOptions, simulated_rm

MONDAY = dt.datetime(2026, 11, 2, 1, 30, tzinfo=dt.UTC)  # still Sunday in Brazil
TWO = [NewItem(1001, 100, 1.25), NewItem(1002, 4, 37.9)]
BODY = {
    "CompanyId": 1,
    "BranchId": 1,
    "MovementTypeCode": "1.1.10",
    "CostumerVendorCompanyId": 0,
    "CostumerVendorCode": "F00012",
    "PaymentTermCode": "030",
    "FreeField1": "cmd_1",
    "Items": [{"ProductId": 1001, "Quantity": 10, "UnitPrice": 1.5}],
}


class Clock:
    def __init__(self):
        self.now = MONDAY

    def __call__(self):
        return self.now

    def tick(self, **amount):
        self.now += dt.timedelta(**amount)


@asynccontextmanager
async def rm(**habits):
    clock = habits.setdefault("clock", Clock())
    async with simulated_rm(RmOptions(**habits)) as erp:
        erp.seed(0)
        auth = httpx.BasicAuth(erp.username, erp.password)
        async with httpx.AsyncClient(timeout=5, auth=auth, base_url=erp.url) as client:
            yield erp, client, clock


async def listed(client, **params):
    reply = await client.get(LIST_PATH, params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


def one(key):
    return f"/api/mov/v1/Movements/{key[0]}%7C{key[1]}"


async def refused(reply, status, words):
    assert reply.status_code == status, reply.text
    told = reply.json()
    assert {"code", "message", "detailedMessage"} <= told.keys()
    assert words in told["message"]


# logging in


async def test_a_token_lasts_five_minutes_and_its_refresh_renews_both():
    async with rm() as (erp, client, clock):
        login = {"username": erp.username, "password": erp.password}
        given = (await client.post(TOKEN_PATH, json=login, auth=None)).json()
        assert set(given) == {"access_token", "expires_in", "refresh_token", "token_type"}
        assert given["expires_in"] == 300

        async def opens(token):
            bearer = {"Authorization": f"Bearer {token}"}
            return (await client.get(LIST_PATH, headers=bearer, auth=None)).status_code

        assert await opens(given["access_token"]) == 200
        clock.tick(seconds=301)
        assert await opens(given["access_token"]) == 401
        again = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        fresh = (await client.post(TOKEN_PATH, json=again, auth=None)).json()
        assert await opens(fresh["access_token"]) == 200
        assert (await client.post(TOKEN_PATH, json=again, auth=None)).status_code == 401


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"username": "relay", "password": "wrong"}'])
async def test_a_wrong_login_opens_nothing(body):
    async with rm() as (_, client, _clock):
        reply = await client.post(TOKEN_PATH, content=body, auth=None)
        assert reply.status_code in {400, 401}
        assert (await client.get(LIST_PATH, auth=("relay", "wrong"))).status_code == 401


# reading


async def test_lines_come_collapsed_until_they_are_asked_for():
    async with rm() as (erp, client, _):
        key = erp.create_order(TWO)
        (shut,) = (await listed(client))["items"]
        assert (shut["Items"], "Items" in shut["_expandables"]) == ([], True)
        (wide,) = (await listed(client, expand="Items"))["items"]
        assert [item["SequentialId"] for item in wide["Items"]] == [1, 2]
        assert "Items" not in wide["_expandables"]
        assert wide["RECMODIFIEDON"] == "2026-11-01T22:30:00"
        (cut,) = (await listed(client, fields="InternalId,Items", expand="Items"))["items"]
        assert cut == {"InternalId": f"1|{key[1]}"}


async def test_pages_count_from_the_start_and_shift():
    async with rm() as (erp, client, _):
        keys = [erp.create_order(TWO) for _ in range(5)]
        first = await listed(client, page=1, pageSize=2, order="MovementId")
        assert (first["hasNext"], [each["MovementId"] for each in first["items"]]) == (True, [keys[0][1], keys[1][1]])
        erp.delete(keys[0])
        second = await listed(client, page=2, pageSize=2, order="MovementId")
        assert [each["MovementId"] for each in second["items"]] == [keys[3][1], keys[4][1]]


async def test_orders_go_by_any_field_and_by_change_only_where_rm_can():
    async with rm() as (erp, client, clock):
        first, second = erp.create_order(TWO), erp.create_order(TWO)
        clock.tick(minutes=1)
        erp.block(first)
        newest = await listed(client, order="-RECMODIFIEDON")
        assert [each["MovementId"] for each in newest["items"]] == [first[1], second[1]]
        erp.options = RmOptions(by_change=False)
        ignored = await listed(client, order="RECMODIFIEDON")
        assert [each["MovementId"] for each in ignored["items"]] == [first[1], second[1]]


async def test_a_filter_leaves_others_out_and_a_wrong_one_is_refused():
    async with rm() as (erp, client, _):
        erp.sell()
        erp.create_order(TWO)
        found = await listed(client, **{"$filter": "CompanyId eq 1 and MovementTypeCode eq '1.1.10'"})
        assert len(found["items"]) == 1
        await refused(await client.get(LIST_PATH, params={"$filter": "a like 'b'"}), 400, "Filtro inválido")
        await refused(await client.get(LIST_PATH, params={"page": "0"}), 400, "Valor inválido: page")


async def test_a_missing_movement_is_a_404_with_words():
    async with rm() as (_, client, _clock):
        for path in (one((1, 9)), "/api/mov/v1/movements/nothing", "/api/else"):
            reply = await client.get(path)
            assert (reply.status_code, "Movimento não localizado" in reply.text) == (404, True)


# writing


async def test_a_new_movement_gets_its_id_its_number_and_keeps_its_free_fields():
    async with rm() as (erp, client, _):
        reply = await client.post(LIST_PATH, json=BODY)
        assert reply.status_code == 200, reply.text
        made = reply.json()
        assert (made["Number"], made["Status"], made["FreeField1"]) == ("000001", "A", "cmd_1")
        assert made["InternalId"] == f"1|{made['MovementId']}"
        (item,) = made["Items"]
        assert (item["SequentialId"], item["NetValue"], item["ReceivableQuantity"]) == (1, 15.0, 10)
        (held,) = erp.movements()
        assert held["CustomerVendorCode"] == "F00012"


REFUSED = [
    ({"CompanyId": 9}, "Coligada 9 não cadastrada"),
    ({"BranchId": 9}, "Filial 9 não cadastrada"),
    ({"MovementTypeCode": "1.1.99"}, "Tipo de Movimento 1.1.99 não encontrado"),
    ({"CostumerVendorCode": "F99999"}, "Cliente/Fornecedor F99999 não encontrado"),
    ({"CostumerVendorCode": "F00099"}, "Cliente/Fornecedor F00099 está inativo"),
    ({"PaymentTermCode": None}, "Condição de Pagamento não informada"),
    ({"PaymentTermCode": "999"}, "Condição de Pagamento 999 inválida"),
    ({"Observation": "x" * 61}, "seriam truncados"),
    ({"Items": []}, "ao menos um item"),
    ({"Items": [{"ProductId": 1, "Quantity": 1, "UnitPrice": 1}]}, "Produto 1 não encontrado (item 1)"),
    ({"Items": [{"ProductId": 1001, "Quantity": 0, "UnitPrice": 1}]}, "Quantidade deve ser maior que zero (item 1)"),
    ({"Items": [{"ProductId": 1001, "Quantity": 1, "UnitPrice": 0}]}, "Preço Unitário deve ser maior que zero"),
]


@pytest.mark.parametrize(("spoilt", "words"), REFUSED, ids=[words for _, words in REFUSED])
async def test_business_errors_are_500s_with_a_sentence_and_nothing_is_written(spoilt, words):
    async with rm() as (erp, client, _):
        await refused(await client.post(LIST_PATH, json=BODY | spoilt), 500, words)
        assert erp.movements() == []


async def test_what_is_no_movement_is_a_400():
    async with rm() as (_, client, _clock):
        for body in (b"", b"[1]", json.dumps(BODY | {"Items": ["x"]}).encode()):
            assert (await client.post(LIST_PATH, content=body)).status_code == 400


async def test_a_change_is_one_transaction_of_header_and_lines():
    async with rm() as (erp, client, clock):
        key = erp.create_order(TWO)
        clock.tick(minutes=1)
        bad = {
            "Observation": "novo",
            "Items": [{"SequentialId": 1, "Quantity": 5}, {"SequentialId": 2, "UnitPrice": 0}],
        }
        await refused(await client.put(one(key), json=bad), 500, "Preço Unitário")
        assert erp.movement(key)["Observation"] is None
        good = {"Observation": "novo", "Items": [{"SequentialId": 1, "Quantity": 5}, *BODY["Items"]]}
        reply = await client.put(one(key), json=good)
        assert reply.status_code == 200, reply.text
        lines = {item["SequentialId"]: item["Quantity"] for item in reply.json()["Items"]}
        assert lines == {1: 5, 2: 10}
        assert reply.json()["RECMODIFIEDON"] == "2026-11-01T22:31:00"


async def test_lines_that_a_change_leaves_out_are_deleted_or_kept_as_the_installation_does():
    for lines, left in (("replace", {2}), ("merge", {1, 2})):
        async with rm(lines=lines) as (erp, client, _):
            key = erp.create_order(TWO)
            await client.put(one(key), json={"Items": [{"SequentialId": 2}]})
            assert {item["SequentialId"] for item in erp.movement(key)["Items"]} == left
            await refused(await client.put(one(key), json={"Items": [{"SequentialId": 7}]}), 500, "Item 7 não pertence")
    async with rm() as (erp, client, _):
        key = erp.create_order(TWO)
        await refused(await client.put(one(key), json={"Items": []}), 500, "ao menos um item")


async def test_fields_that_are_set_once_are_refused_aloud_or_dropped():
    async with rm() as (erp, client, _):
        key = erp.create_order(TWO)
        await refused(await client.put(one(key), json={"BranchId": 2}), 500, "O campo BranchId não pode ser alterado")
    async with rm(loud=False) as (erp, client, _):
        key = erp.create_order(TWO)
        reply = await client.put(one(key), json={"BranchId": 2, "Observation": "novo"})
        assert (reply.json()["BranchId"], reply.json()["Observation"]) == (1, "novo")


async def test_cancelling_is_not_deleting():
    async with rm() as (erp, client, _):
        key, other = erp.create_order(TWO), erp.create_order(TWO)
        assert (await client.post(f"/api/mov/v1/Movements/Cancel/1%7C{key[1]}")).status_code == 204
        assert (await client.get(one(key))).json()["Status"] == "C"
        assert (await client.delete(one(other))).status_code == 204
        assert (await client.get(one(other))).status_code == 404
        await refused(await client.post(f"/api/mov/v1/Movements/Cancel/1%7C{key[1]}"), 500, "está cancelado")


@pytest.mark.parametrize("end", ["finish", "cancel", "receive"])
async def test_what_is_received_closed_or_cancelled_cannot_be_changed(end):
    async with rm() as (erp, client, _):
        key = erp.create_order(TWO)
        if end == "receive":
            erp.receive(key, 1, 5)
        else:
            getattr(erp, end)(key)
        await refused(await client.put(one(key), json={"Observation": "x"}), 500, "não pode ser alterado")
        await refused(await client.post(f"/api/mov/v1/Movements/Cancel/1%7C{key[1]}"), 500, "não pode ser cancelado")


# faults


@pytest.mark.parametrize(
    "fault", ["after reset", "after timeout", "after 500_ttalk", "truncated", "short", "after html"]
)
async def test_a_call_whose_answer_is_lost_was_done(fault):
    async with rm() as (erp, client, _):
        erp.faults.next(fault, on="create")
        await _quietly(client.post(LIST_PATH, json=BODY, timeout=0.2))
        assert len(erp.movements()) == 1


@pytest.mark.parametrize("fault", ["reset", "timeout", "500_ttalk", "html", "429", "503_retry_after", "empty"])
async def test_a_call_that_fails_before_it_is_done_was_not(fault):
    async with rm() as (erp, client, _):
        await _quietly(client.post(LIST_PATH, json=BODY, headers={"X-Fail": fault}, timeout=0.2))
        assert erp.movements() == []
        assert erp.faults.served == 1
        assert (await client.post(LIST_PATH, json=BODY)).status_code == 200


async def _quietly(call):
    try:
        return await call
    except httpx.TransportError:
        return None


async def test_faults_come_by_chance_and_heal():
    async with rm() as (erp, client, _):
        erp.faults.chance = lambda call, _request: "429" if call == "list" else None
        assert (await client.get(LIST_PATH)).status_code == 429
        assert (await client.post(LIST_PATH, json=BODY)).status_code == 200
        erp.faults.next("short", 5, on="list")
        erp.faults.heal()
        assert (await client.get(LIST_PATH)).status_code == 200


async def test_faults_are_asked_for_and_movements_looked_at_over_http():
    async with rm() as (erp, client, _):
        key = erp.create_order(TWO)
        asked = {"fault": "500_error_code", "on": "read"}
        assert (await client.post("/simulator/faults", json=asked, auth=None)).status_code == 204
        assert (await client.get(one(key))).json()["errorCode"] == 500
        for wrong in ({"fault": "500_error_code"}, {"fault": "x", "on": "read"}, {"fault": "429", "on": "x"}, []):
            assert (await client.post("/simulator/faults", json=wrong)).status_code == 400
        held = (await client.get("/simulator/movements", auth=None)).json()["movements"]
        assert held == erp.movements()
        assert (await client.get("/simulator/else")).status_code == 404


async def test_few_calls_are_answered_at_once():
    async with rm(workers=2, latency=0.02, queue_wait=0.03) as (erp, client, _):
        replies = await asyncio.gather(*(client.get(LIST_PATH) for _ in range(8)))
        assert erp.most_at_once == 2
        assert {reply.status_code for reply in replies} == {200, 503}


# people


async def test_the_same_dice_fill_the_same_company_with_orders_in_every_state():
    async with rm() as (erp, _client, _), rm() as (other, _other_client, _):
        for each in (erp, other):
            each.seed(120)
        assert erp.movements() == other.movements()
        orders = [record for record in erp.movements() if record["MovementTypeCode"] == "1.1.10"]
        assert {record["Status"] for record in orders} == set("ABCFG")
        assert 100 < len(orders) < 120
        assert len(orders) < len(erp.movements())


async def test_people_take_orders_through_their_lives():
    async with rm() as (erp, _client, _):
        people = RmPeople(erp, random.Random(3))
        told = " ".join([await people.change() for _ in range(200)])
        for what in ("created for", "approved", "a line added", "5 received", "cancelled", "closed"):
            assert what in told
