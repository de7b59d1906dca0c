"""Who is in the suite. A connector joins by one `Harness` here."""

import datetime as dt
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from relay.connectors.protheus import PROTHEUS
from relay.connectors.rm import RM
from relay.connectors.tryton import TRYTON
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import QUERY_PATH, Options, SimulatedProtheus
from relay.demo.protheus_login import TOKEN_PATH
from relay.demo.protheus_wrappers import FLAT_PATH
from relay.demo.rm import NewItem
from relay.demo.rm_http import LIST_PATH as RM_LIST
from relay.demo.rm_http import TOKEN_PATH as RM_TOKEN
from relay.demo.rm_http import RmOptions, SimulatedRm
from relay.demo.rough_http import Request
from relay.domain.mapping import MappingOverrides
from tests.contract.harness import CANARY, Harness, Replay, ReplayInTurn, Writing

RECORDINGS = Path(__file__).parent / "recordings"


# Protheus: the simulator itself answers, without a network in between.


def protheus_orders(erp: SimulatedProtheus) -> None:
    erp.seed(0)
    lines = [NewLine("PAR-M8-30", 100, 1.25), NewLine("ROL-6204", 4, 37.9), NewLine("OLE-68-20", 2, 412.55)]
    orders = [
        erp.create_order(
            lines[: 1 + number % 3],
            ("FOR001", "01") if number % 2 else ("FOR010", "01"),
            approval="BL "[number % 3],
            note="Peça de reposição – urgente" if number % 4 else "",
            columns={"C7_XPRIOR": "URGENTE", "C7_COMPRA": "003", "C7_NUMSC": "000777", "C7_TPFRETE": "C"},
        )
        for number in range(9)
    ]
    erp.receive(orders[1], "0001", 40)
    erp.delete_line(orders[2], "0002")
    erp.eliminate_residue(orders[4])
    erp.delete_order(orders[7])


@asynccontextmanager
async def protheus() -> AsyncIterator[httpx.AsyncBaseTransport]:
    erp = SimulatedProtheus(Options(password=CANARY))
    protheus_orders(erp)

    async def answer(request: httpx.Request) -> httpx.Response:
        query = {name.lower(): value for name, value in request.url.params.items()}
        reply = await erp.answer(
            Request(request.method, request.url.path, query, dict(request.headers), request.content)
        )
        return httpx.Response(reply.status, content=reply.body, headers={"Content-Type": reply.content_type})

    yield httpx.MockTransport(answer)
    erp.close()


@asynccontextmanager
async def protheus_writing(_name: str) -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with protheus() as erp:
        yield erp


PROTHEUS_HARNESS = Harness(
    kind=PROTHEUS,
    settings={
        "url": "http://erp.example/rest",
        "tenant": "T1,D MG 01",
    },
    mapping=MappingOverrides(
        currencies={"1": "ARS"},
        units={"UN": "EA"},
        statuses={"B": "on_hold"},
        fields=["C7_XPRIOR"],
        line_fields={"C7_XPESO": "number"},
        decimals={"C7_PRECO": 4},
    ),
    username="relay",
    open=protheus,
    ids=frozenset(f"D MG 01|{number:06d}" for number in range(1, 10)),
    is_read=lambda request: request.method == "GET" and request.url.path.endswith(QUERY_PATH),
    is_login=lambda request: request.method == "POST" and request.url.path.endswith(TOKEN_PATH),
    rows=lambda content: [row for row in content.get("items", ()) if "c7_num" in row and "c7_item" in row],
    owner=lambda row: f"{str(row['c7_filial']).rstrip()}|{row['c7_num']}",
    keys=frozenset({"c7_filial", "c7_num"}),
    writing=Writing(
        open=protheus_writing,
        order={
            "order_date": "2026-11-02",
            "vendor": {"code": "FOR002"},
            "payment_terms": {"code": "030"},
            "currency": "ARS",
            "freight_type": "CIF",
            "notes": "Peça de reposição",
            "custom_fields": {"C7_XPRIOR": "URGENTE"},
        },
        lines=[
            {"item": {"code": "PAR-M8-30"}, "quantity": "100", "unit_price": "1.25", "required_date": "2026-11-20"},
            {"item": {"code": "ROL-6204"}, "quantity": "4", "unit_price": "37.90", "cost_center": "117"},
        ],
        update={"payment_terms": {"code": "060"}, "notes": "Entregar na doca 3"},
        line={"quantity": "12", "unit_price": "1.2"},
        unknown=("vendor.code", {"vendor": {"code": "FOR999"}}),
        settings={
            "writing": {
                "shape": "flat",
                "create": {"path": FLAT_PATH},
                "change": {"path": f"{FLAT_PATH}/{{number}}", "method": "PUT"},
                "cancel": {"path": f"{FLAT_PATH}/{{number}}", "method": "DELETE"},
                "mark": "C7_XRELAY",
                "columns": {"C7_XRELAY": {"length": 40}, "C7_XPRIOR": {"length": 10}},
            }
        },
    ),
)


# RM: the simulator itself answers, too.


def rm_orders(erp: SimulatedRm) -> None:
    erp.seed(0)
    ncm = {"NCMId": "73181500"}
    items = [NewItem(number, 100, price, fields=ncm) for number, price in ((1001, 1.25), (1002, 37.9), (1006, 145))]
    orders = []
    for number in range(8):
        erp.sell(number + 1)
        orders.append(
            erp.create_order(
                items[: 1 + number % 3],
                "F00012" if number % 2 else "F00013",
                status="AB"[number % 2],
                fields={
                    "Observation": "Peça de reposição – urgente" if number % 4 else None,
                    "FreeField1": "OBRA 17",
                    "OrderNumber": f"P-{number}",
                    "complementaryFields": {"PRIORIDADE": "ALTA", "PESO": 12.5},
                    "Series": "OC",
                },
            )
        )
    erp.receive(orders[2], 1, 40)
    erp.receive(orders[3], 1, 100)
    erp.cancel(orders[4])
    erp.finish(orders[5])
    erp.create_order(items[:1], company=2)
    erp.delete(erp.create_order(items[:1]))


@asynccontextmanager
async def rm() -> AsyncIterator[httpx.AsyncBaseTransport]:
    minutes = itertools.count()
    monday = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
    erp = SimulatedRm(RmOptions(password=CANARY, clock=lambda: monday + dt.timedelta(minutes=next(minutes) / 100)))
    rm_orders(erp)

    async def answer(request: httpx.Request) -> httpx.Response:
        query = {name.lower(): value for name, value in request.url.params.items()}
        reply = await erp.answer(
            Request(request.method, request.url.path, query, dict(request.headers), request.content)
        )
        return httpx.Response(reply.status, content=reply.body, headers={"Content-Type": reply.content_type})

    yield httpx.MockTransport(answer)


def _movements(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in content.get("items", (content,)) if "Items" in row and row["MovementTypeCode"] == "1.1.10"]


@asynccontextmanager
async def rm_writing(_name: str) -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with rm() as erp:
        yield erp


RM_HARNESS = Harness(
    kind=RM,
    settings={"url": "http://erp.example", "company": 1, "purchase_types": ["1.1.10"]},
    mapping=MappingOverrides(
        currencies={"R$": "ARS"},
        units={"UN": "EA"},
        statuses={"B": "on_hold"},
        fields={"OrderNumber": "auto", "complementaryFields.PESO": "number", "FreeField2": "omit"},
        line_fields={"NCMId": "code"},
        decimals={"UnitPrice": 4},
    ),
    username="relay",
    open=rm,
    ids=frozenset(f"1|{4700 + 2 * number}" for number in range(1, 9)),
    is_read=lambda request: request.method == "GET" and request.url.path.lower().startswith(RM_LIST),
    is_login=lambda request: request.method == "POST" and request.url.path == RM_TOKEN,
    rows=_movements,
    owner=lambda row: str(row["InternalId"]),
    keys=frozenset({"InternalId", "CompanyId", "MovementId", "MovementTypeCode"}),
    writing=Writing(
        open=rm_writing,
        order={
            "branch": {"remote_id": "2"},
            "vendor": {"code": "F00013"},
            "payment_terms": {"code": "030"},
            "currency": "ARS",
            "order_date": "2026-11-27",
            "notes": "Entregar na doca 3 – urgente",
            "custom_fields": {"OrderNumber": "P-1"},
        },
        lines=[
            {"item": {"remote_id": "1001"}, "quantity": "100", "unit_price": "1.25", "required_date": "2026-12-20"},
            {"item": {"remote_id": "1002"}, "quantity": "4", "unit": "EA", "unit_price": "37.90", "cost_center": "117"},
        ],
        update={"notes": "Entregar na doca 4", "payment_terms": {"code": "060"}},
        line={"quantity": "7", "unit_price": "2.5"},
        unknown=("vendor.code", {"vendor": {"code": "F99999"}}),
    ),
)


# Tryton: recorded from a real one by tests/contract/record_tryton.py.


@asynccontextmanager
async def tryton() -> AsyncIterator[httpx.AsyncBaseTransport]:
    yield Replay(RECORDINGS / "tryton.json", nothing=lambda _: httpx.Response(200, json={"result": []}))


@asynccontextmanager
async def tryton_writing(name: str) -> AsyncIterator[httpx.AsyncBaseTransport]:
    yield ReplayInTurn(RECORDINGS / "tryton_writing.json", name)


def _method(request: httpx.Request) -> str:
    return str(json.loads(request.content)["method"]) if request.content else ""


TRYTON_HARNESS = Harness(
    kind=TRYTON,
    settings={"url": "http://erp.example", "database": "erp"},
    mapping=MappingOverrides(
        currencies={"BRL": "XTS"},
        units={"u": "EA"},
        statuses={"draft": "on_hold"},
        fields={"invoice_method": "code", "description": "omit"},
        line_fields={"unit.digits": "number"},
    ),
    username="relay",
    open=tryton,
    ids=frozenset(str(number) for number in range(1, 9)),
    is_read=lambda request: (
        _method(request).rpartition(".")[2]
        in {"search", "search_read", "fields_get", "read", "get_access", "get_preferences", "on_change"}
    ),
    is_login=lambda request: _method(request) == "common.db.login",
    rows=lambda content: [
        row
        for row in (content.get("result") if isinstance(content, dict) else None) or ()
        if isinstance(row, dict) and "lines." in row
    ],
    owner=lambda row: str(row["id"]),
    keys=frozenset({"id"}),
    writing=Writing(
        open=tryton_writing,
        order={
            "vendor": {"code": "F001"},
            "ship_to": {"location_code": "WH"},
            "payment_terms": {"remote_id": "4"},
            "currency": "XTS",
            "order_date": "2026-11-27",
            "notes": "Entregar na doca 3 – urgente",
            "custom_fields": {"invoice_method": "manual"},
        },
        lines=[
            {
                "item": {"code": "PAR-M8"},
                "quantity": "100",
                "unit_price": "1.2500",
                "custom_fields": {"note": "zincado"},
            },
            {"item": {"code": "ROL-6204"}, "quantity": "4", "unit": "EA", "unit_price": "37.90"},
        ],
        update={"delivery_date": "2026-12-24"},
        line={"quantity": "12", "unit_price": "1.2"},
        unknown=("vendor.code", {"vendor": {"code": "F999"}}),
    ),
)

HARNESSES = (PROTHEUS_HARNESS, RM_HARNESS, TRYTON_HARNESS)
WRITING = tuple(harness for harness in HARNESSES if harness.writing)
