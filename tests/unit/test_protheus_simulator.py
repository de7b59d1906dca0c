"""The simulated Protheus behaves as badly as the facts about real ones say, and no worse."""

import asyncio
import datetime as dt
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import QUERY_PATH, Options, simulated_protheus
from relay.demo.protheus_login import TOKEN_PATH

MONDAY = dt.datetime(2026, 11, 2, 1, 30, tzinfo=dt.UTC)  # still Sunday in Brazil
TWO_LINES = [NewLine("PAR-M8-30", 100, 1.25), NewLine("ROL-6204", 4, 37.9)]


class Clock:
    def __init__(self):
        self.now = MONDAY

    def __call__(self):
        return self.now

    def tick(self, **amount):
        self.now += dt.timedelta(**amount)


@asynccontextmanager
async def protheus(**habits):
    clock = habits.setdefault("clock", Clock())
    async with simulated_protheus(Options(**habits)) as erp, httpx.AsyncClient(timeout=5) as client:
        yield erp, client, clock


async def login(erp, client, **headers):
    given = {"username": erp.username, "password": erp.password} | headers
    return await client.post(f"{erp.url}{TOKEN_PATH}?grant_type=password", headers=given)


async def refresh(erp, client, token):
    return await client.post(f"{erp.url}{TOKEN_PATH}?grant_type=refresh_token&refresh_token={token}")


async def query(erp, client, *, headers=None, auth=None, **params):
    auth = auth or httpx.BasicAuth(erp.username, erp.password)
    headers = {"tenantId": erp.tenant} | (headers or {})
    return await client.get(f"{erp.url}{QUERY_PATH}", params=params, headers=headers, auth=auth)


async def items(erp, client, **params):
    reply = await query(erp, client, **params)
    assert reply.status_code == 200, reply.text
    return reply.json()["items"]


# logging in


async def test_header_credentials_give_a_bearer_token_that_opens_the_query():
    async with protheus() as (erp, client, _):
        given = (await login(erp, client)).json()
        assert given["token_type"] == "Bearer"
        assert given["expires_in"] == 3600
        reply = await client.get(
            f"{erp.url}{QUERY_PATH}?tables=SE4", headers={"Authorization": f"Bearer {given['access_token']}"}
        )
        assert reply.status_code == 200


async def test_a_refresh_renews_both_tokens_and_uses_up_the_old_refresh_token():
    async with protheus() as (erp, client, _):
        first = (await login(erp, client)).json()
        second = (await refresh(erp, client, first["refresh_token"])).json()
        assert {second["access_token"], second["refresh_token"]}.isdisjoint(first.values())
        assert (await refresh(erp, client, first["refresh_token"])).status_code == 401
        assert (await refresh(erp, client, second["refresh_token"])).status_code == 201


async def test_tokens_expire():
    async with protheus(token_lifetime=60, refresh_lifetime=120) as (erp, client, clock):
        given = (await login(erp, client)).json()
        bearer = {"Authorization": f"Bearer {given['access_token']}"}
        clock.tick(seconds=61)
        assert (await client.get(f"{erp.url}{QUERY_PATH}?tables=SE4", headers=bearer)).status_code == 401
        clock.tick(seconds=60)
        assert (await refresh(erp, client, given["refresh_token"])).status_code == 401


@pytest.mark.parametrize("empty", [True, False])
async def test_wrong_password_is_refused_with_or_without_a_body(empty):
    async with protheus(empty_401=empty) as (erp, client, _):
        reply = await login(erp, client, password="wrong")
        assert reply.status_code == 401
        assert (reply.content == b"") is empty
        assert erp.login.refused == 1


async def test_changing_the_password_ends_every_session():
    async with protheus() as (erp, client, _):
        token = (await login(erp, client)).json()
        erp.login.change_password("another")
        reply = await query(erp, client, headers={"Authorization": f"Bearer {token['access_token']}"}, tables="SE4")
        assert reply.status_code == 401
        assert (await refresh(erp, client, token["refresh_token"])).status_code == 401


async def test_a_login_without_a_content_length_is_reset():
    async with protheus() as (erp, client, _):
        request = client.build_request("POST", f"{erp.url}{TOKEN_PATH}?grant_type=password")
        del request.headers["content-length"]
        with pytest.raises(httpx.TransportError):
            await client.send(request)


# tenants


async def test_the_tenant_selects_the_branch_and_blanks_matter():
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES, branch="M SP 01")
        assert await items(erp, client, tables="SC7") == []
        assert len(await items(erp, client, tables="SC7", headers={"tenantId": "T1,M SP 01"})) == 2
        assert (await query(erp, client, tables="SC7", headers={"tenantId": "T1, M SP 01"})).status_code == 400
        assert (await query(erp, client, tables="SC7", headers={"tenantId": "T9,M SP 01"})).status_code == 400


async def test_without_the_branch_filter_all_branches_show():
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES, branch="M SP 01")
        assert len(await items(erp, client, tables="SC7", FilialFilter="false")) == 2


# rows as they come


async def test_rows_have_lower_case_keys_padded_text_and_raw_dates():
    async with protheus() as (erp, client, _):
        erp.seed(0)
        erp.create_order(TWO_LINES[:1], note="Atenção")
        (row,) = await items(erp, client, tables="SC7")
        assert row["c7_filial"] == "D MG 01 "
        assert row["c7_produto"] == "PAR-M8-30      "
        assert row["c7_obs"].rstrip() == "Atenção"
        assert row["c7_emissao"] == "20261101"
        assert row["c7_zdtint"] == " " * 8
        assert row["c7_quant"] == 100
        assert row["d_e_l_e_t_"] == " "


async def test_numbers_carry_the_noise_of_binary_floats():
    async with protheus() as (erp, client, _):
        erp.create_order([NewLine("X", 1, 37.9)])
        assert b'"c7_preco":37.89999999999999' in (await query(erp, client, tables="SC7", fields="C7_PRECO")).content


@pytest.mark.parametrize(
    ("charset", "declared", "encoding"),
    [
        ("utf-8", "application/json", "utf-8"),
        ("cp1252-declared", "application/json; charset=iso-8859-1", "cp1252"),
        ("cp1252-silent", "application/json", "cp1252"),
    ],
)
async def test_text_comes_in_the_charset_of_the_installation(charset, declared, encoding):
    async with protheus(charset=charset) as (erp, client, _):
        erp.create_order(TWO_LINES[:1], note="Manutenção – “urgente”")
        reply = await query(erp, client, tables="SC7", fields="C7_OBS")
        assert reply.headers["content-type"] == declared
        assert "Manutenção – “urgente”" in reply.content.decode(encoding)


async def test_hidden_columns_are_dropped_and_named():
    async with protheus(hidden_columns=frozenset({"C7_PRECO"})) as (erp, client, _):
        erp.create_order(TWO_LINES[:1])
        answer = (await query(erp, client, tables="SC7", fields="C7_NUM,C7_PRECO")).json()
        assert answer["items"] == [{"c7_num": "000001"}]
        assert answer["protectedDataFields"] == ["C7_PRECO"]


async def test_parameters_may_come_as_headers():
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES)
        headers = {"tables": "SC7", "fields": "C7_ITEM", "where": "SC7.C7_ITEM = '0002'"}
        assert await items(erp, client, headers=headers) == [{"c7_item": "0002"}]


# where, joins, faults of the query


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("SC7.C7_ITEM = '0001'", ["0001"]),
        ("C7_QUANT >= 4 AND C7_QUANT < 100", ["0002"]),
        ("C7_ITEM <> '0001' OR C7_QUANT > 1e6", ["0002"]),
        ("(C7_ITEM = '0001' OR C7_ITEM = '0002') AND C7_PRECO BETWEEN 30 AND 40", ["0002"]),
        ("C7_PRODUTO LIKE 'PAR%'", ["0001"]),
        ("C7_PRODUTO IN ('ROL-6204', 'X')", ["0002"]),
        ("C7_FILIAL = 'D MG 01' AND C7_NUM > '000000'", ["0001", "0002"]),
    ],
)
async def test_where_is_sql(where, found):
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES)
        rows = await items(erp, client, tables="SC7", fields="C7_ITEM", where=where, order="C7_ITEM")
        assert [row["c7_item"] for row in rows] == found


async def test_two_tables_without_a_condition_multiply_and_with_one_join():
    async with protheus() as (erp, client, _):
        erp.add_term("030", "30 dias")
        erp.add_term("060", "60 dias")
        erp.create_order(TWO_LINES)
        fields = "C7_ITEM,E4_DESCRI"
        assert len(await items(erp, client, tables="SC7,SE4", fields=fields)) == 4
        joined = await items(erp, client, tables="SC7,SE4", fields=fields, where="SC7.C7_COND = SE4.E4_CODIGO")
        assert [row["e4_descri"].rstrip() for row in joined] == ["30 dias", "30 dias"]
        raw = "SC7T10 SC7 INNER JOIN SE4T10 SE4 ON SE4.E4_CODIGO = SC7.C7_COND"
        assert len(await items(erp, client, tables="SC7,SE4", fields=fields, FromQry=raw)) == 2


@pytest.mark.parametrize(
    "params",
    [
        {"tables": "SZZ"},
        {"tables": ""},
        {"tables": "SC7", "fields": "C7_NADA"},
        {"tables": "SC7", "where": "C7_NADA = 1"},
        {"tables": "SC7", "where": "C7_NUM = "},
        {"tables": "SC7", "where": "1=1) UNION SELECT sql FROM sqlite_master WHERE (1=1"},
        {"tables": "SC7", "page": "0"},
    ],
)
async def test_what_cannot_be_queried_is_a_500_fault(params):
    async with protheus() as (erp, client, _):
        reply = await query(erp, client, **params)
        assert reply.status_code == 500
        assert reply.json()["errorCode"] == 500


async def test_a_query_cannot_change_rows():
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES)
        await query(erp, client, tables="SC7", where="1=1); DELETE FROM SC7T10; --")
        assert len(erp.orders()) == 1


async def test_the_query_may_be_switched_off():
    async with protheus(query_allowed=False) as (erp, client, _):
        reply = await query(erp, client, tables="SC7")
        assert reply.status_code == 503
        assert "não permitida" in reply.text


# paging


async def test_pages_say_whether_more_follows():
    async with protheus() as (erp, client, _):
        erp.create_order([NewLine("X", 1, 1)] * 5)
        first = (await query(erp, client, tables="SC7", pageSize="2", page="1")).json()
        last = (await query(erp, client, tables="SC7", pagesize="2", page="3")).json()
        assert (first["hasNext"], first["remainingRecords"]) == (True, 3)
        assert (last["hasNext"], last["remainingRecords"], len(last["items"])) == (False, 0, 1)


async def test_a_page_is_never_larger_than_the_installation_allows():
    async with protheus(largest_page=3) as (erp, client, _):
        erp.create_order([NewLine("X", 1, 1)] * 5)
        answer = (await query(erp, client, tables="SC7", pageSize="999999")).json()
        assert (len(answer["items"]), answer["hasNext"]) == (3, True)


async def test_pages_shift_when_a_row_goes_between_them():
    async with protheus() as (erp, client, _):
        numbers = [erp.create_order([NewLine("X", 1, 1)]) for _ in range(4)]
        page = {"tables": "SC7", "fields": "C7_NUM", "order": "C7_NUM", "pageSize": "2"}
        first = await items(erp, client, **page, page="1")
        erp.before_query = lambda: erp.purge(numbers[0])
        second = await items(erp, client, **page, page="2")
        assert [row["c7_num"] for row in first + second] == ["000001", "000002", "000004"]


# what the ERP's users do


async def test_approval_flips_every_row_and_the_trigger_moves_the_stamp():
    async with protheus() as (erp, _, clock):
        order = erp.create_order(TWO_LINES)
        clock.tick(minutes=5)
        erp.approve(order)
        for row in erp.rows(order):
            assert row["C7_CONAPRO"] == "L"
            assert row["S_T_A_M_P_"] == "2026-11-02T01:35:00.000"
            assert row["I_N_S_D_T_"] == "2026-11-02T01:30:00.000"


async def test_a_receipt_moves_the_received_quantity_of_its_line_and_nothing_else():
    async with protheus() as (erp, _, clock):
        order = erp.create_order(TWO_LINES)
        before = erp.rows(order)
        clock.tick(minutes=5)
        erp.receive(order, "0001", 40)
        changed = erp.rows(order)
        assert changed[1] == before[1]
        assert {name for name in before[0] if before[0][name] != changed[0][name]} == {"C7_QUJE", "S_T_A_M_P_"}


async def test_without_stamps_there_is_no_such_column():
    async with protheus(stamps=False) as (erp, client, _):
        order = erp.create_order(TWO_LINES)
        assert "S_T_A_M_P_" not in erp.rows(order)[0]
        assert (await query(erp, client, tables="SC7", fields="S_T_A_M_P_")).status_code == 500


async def test_a_late_commit_is_stamped_in_the_past():
    async with protheus() as (erp, _, clock):
        order = erp.create_order(TWO_LINES)
        clock.tick(hours=1)
        with erp.stamped_at(MONDAY):
            erp.receive(order, "0001", 1)
        assert erp.rows(order)[0]["S_T_A_M_P_"] == "2026-11-02T01:30:00.000"


async def test_deleted_rows_stay_hidden_until_asked_for():
    async with protheus() as (erp, client, _):
        order = erp.create_order(TWO_LINES)
        erp.delete_line(order, "0002")
        assert len(await items(erp, client, tables="SC7")) == 1
        rows = await items(erp, client, tables="SC7", DeletedFilter="false")
        assert [row["d_e_l_e_t_"] for row in rows] == [" ", "*"]
        erp.delete_order(order)
        assert erp.orders() == []
        erp.restore_order(order)
        assert erp.orders() == [order]
        erp.purge(order)
        assert await items(erp, client, tables="SC7", DeletedFilter="false") == []


async def test_lines_are_added_and_changed():
    async with protheus() as (erp, _, _clock):
        order = erp.create_order(TWO_LINES, note="obs")
        assert erp.add_line(order, NewLine("X", 2, 3)) == "0003"
        erp.change_line(order, "0001", {"C7_QUANT": 8})
        first, _second, third = erp.rows(order)
        assert (first["C7_TOTAL"], third["C7_TOTAL"], third["C7_OBS"].rstrip()) == (10, 6, "obs")


async def test_hands_on_an_order_that_is_not_there_complain():
    async with protheus() as (erp, _, _clock):
        order = erp.create_order(TWO_LINES)
        with pytest.raises(LookupError):
            erp.receive(order, "0009", 1)


async def test_a_vendor_is_renamed_and_junk_goes_in():
    async with protheus() as (erp, client, _):
        erp.seed(0)
        order = erp.create_order(TWO_LINES)
        erp.rename_vendor("FOR001", "01", "São João S.A.")
        erp.corrupt(order, "C7_QUANT", "abc", item="0001")
        vendors = await items(erp, client, tables="SA2", where="A2_COD = 'FOR001' AND A2_LOJA = '01'")
        assert vendors[0]["a2_nome"].rstrip() == "São João S.A."
        assert (await items(erp, client, tables="SC7"))[0]["c7_quant"] == "abc"


async def test_the_same_dice_seed_the_same_company():
    async with protheus() as (one, _, _), protheus() as (other, _, _):
        one.seed(60)
        other.seed(60)
        assert one.orders() == other.orders()
        assert [one.rows(order) for order in one.orders()] == [other.rows(order) for order in other.orders()]
        assert 50 < len(one.orders()) <= 60


# overload and faults


async def test_more_callers_than_workers_wait_and_then_get_503():
    async with protheus(workers=2, queue_wait=0.05, latency=0.2) as (erp, client, _):
        replies = await asyncio.gather(*(query(erp, client, tables="SE4") for _ in range(4)))
        assert sorted(reply.status_code for reply in replies) == [200, 200, 503, 503]
        assert erp.most_at_once == 2


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("html", 500), ("html_200", 200), ("503", 503), ("503_retry_after", 503), ("429", 429), ("404", 404),
        ("500_ttalk", 500), ("400_ttalk", 400), ("500_error_code", 500), ("200_status_400", 200), ("401", 401),
        ("401_empty", 401), ("empty", 200),
    ],
)  # fmt: skip
async def test_faults_come_as_often_as_asked(fault, status):
    async with protheus() as (erp, client, _):
        erp.fail_next(fault, 2)
        replies = [await query(erp, client, tables="SE4") for _ in range(3)]
        assert [reply.status_code for reply in replies] == [status, status, 200]


async def test_a_truncated_answer_is_valid_http_and_half_the_json():
    async with protheus() as (erp, client, _):
        erp.create_order(TWO_LINES)
        erp.fail_next("truncated")
        reply = await query(erp, client, tables="SC7")
        assert reply.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            reply.json()


@pytest.mark.parametrize(
    ("fault", "error"),
    [("short", httpx.RemoteProtocolError), ("reset", httpx.NetworkError), ("timeout", httpx.ReadTimeout)],
)
async def test_broken_connections_break(fault, error):
    async with protheus() as (erp, client, _):
        client.timeout = httpx.Timeout(0.2)
        erp.fail_next(fault)
        with pytest.raises(error):
            await query(erp, client, tables="SE4")
        assert (await query(erp, client, tables="SE4")).status_code == 200


async def test_faults_of_the_login_do_not_touch_the_query():
    async with protheus() as (erp, client, _):
        erp.fail_next("html_200", on="token")
        assert (await query(erp, client, tables="SE4")).status_code == 200
        assert (await login(erp, client)).text.startswith("<html>")
