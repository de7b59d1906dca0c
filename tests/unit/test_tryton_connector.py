"""The connector against a small Tryton of lists: broken records, missing rights, foreign answers, and its docs page."""

import copy
import json
from pathlib import Path

import httpx
import pytest

from relay.connectors.kit.replies import parsed
from relay.connectors.tryton import TRYTON, TrytonCredentials, TrytonSettings
from relay.domain.errors import UnexpectedReply, Unsupported
from relay.domain.orders import Status

ROOT = Path(__file__).parents[2]
RECORDS = parsed((ROOT / "tests" / "fixtures" / "tryton_records" / "search_read.json").read_text())["result"]


class SmallTryton:
    """Answers what the connector asks, from copies of one recorded order; `broken` ids fail any read they are in."""

    def __init__(self, orders=3):
        self.orders = {each: self.order(each) for each in range(1, orders + 1)}
        self.broken = set()
        self.closed = set()
        self.fields = set(RECORDS[0]) | {name.rstrip(".") for name in RECORDS[0]}
        self.line_fields = {name.rstrip(".") for name in RECORDS[0]["lines."][0]} | {"moves", "invoice_lines"}
        self.spoilt = {}
        self.asked = []

    @staticmethod
    def order(number):
        record = copy.deepcopy(RECORDS[0])
        return {**record, "id": number, "lines": [], "state": "draft"}

    def __call__(self, request):
        body = json.loads(request.content)
        method, params = body["method"], body["params"]
        self.asked.append(method)
        if method in self.spoilt:
            return httpx.Response(200, text=json.dumps({"id": 0, "result": self.spoilt[method]}))
        answer = self.answer(method, params)
        kind = "error" if isinstance(answer, Exception) else "result"
        value = ["UserError", [str(answer), "", None]] if kind == "error" else answer
        return httpx.Response(200, text=json.dumps({"id": 0, kind: value}, default=float))

    def answer(self, method, params):
        answers = {
            "common.db.login": lambda *_: [3, "token", None],
            "model.purchase.purchase.fields_get": lambda *_: {name: {} for name in self.fields},
            "model.purchase.line.fields_get": lambda *_: {name: {} for name in self.line_fields},
            "model.ir.model.access.get_access": lambda models, _: {
                model: {"read": model not in self.closed} for model in models
            },
            "model.purchase.purchase.search": lambda domain, _, limit, *__: [each["id"] for each in self.found(domain)][
                :limit
            ],
            "model.purchase.purchase.search_read": self.read,
        }
        return answers.get(method, lambda *_: [])(*params)

    def read(self, domain, _offset, limit, _order, names, _context):
        found = self.found(domain)[:limit]
        whole = "total_amount" in names
        if whole and self.broken & {each["id"] for each in found}:
            return ValueError("division by zero")
        return found if whole else [{name: each.get(name) for name in ("id", *names)} for each in found]

    def found(self, domain):
        tests = {
            ">": lambda value, wanted: value > wanted,
            "in": lambda value, wanted: value in wanted,
            "not in": lambda value, wanted: value not in wanted,
        }
        chosen = [clause for clause in domain if clause[0] == "id"]
        return [each for each in self.orders.values() if all(tests[op](each["id"], wanted) for _, op, wanted in chosen)]


async def pages(erp, cursor=None, **settings):
    chosen = TrytonSettings(url="http://erp.example", database="erp", **settings)
    async with httpx.AsyncClient(transport=httpx.MockTransport(erp)) as client:
        connector = TRYTON.build(chosen, TrytonCredentials(username="relay", password="senha"), client)
        return [page async for page in connector.changed_since(cursor)]


async def test_a_record_that_tryton_cannot_compute_is_rejected_alone():
    erp = SmallTryton()
    erp.broken = {2}
    (page,) = await pages(erp)
    assert [order.remote_id for order in page.orders] == ["1", "3"]
    assert [(each.remote_id, each.reason) for each in page.rejected] == [
        ("2", "model.purchase.purchase.search_read: division by zero")
    ]


async def test_a_page_of_one_broken_record_does_not_stop_the_connection():
    erp = SmallTryton()
    erp.broken = {2}
    assert [len(page.rejected) for page in await pages(erp, page_size=1)] == [0, 1, 0, 0]


async def test_a_refusal_of_every_record_is_the_connections_error():
    erp = SmallTryton()
    erp.broken = {1, 2, 3}
    with pytest.raises(Unsupported, match="division by zero"):
        await pages(erp)


async def test_a_record_with_junk_is_rejected_with_its_bytes_and_its_neighbours_pass():
    erp = SmallTryton()
    erp.orders[2]["total_amount"] = "muito"
    (page,) = await pages(erp)
    (rejected,) = page.rejected
    assert [order.remote_id for order in page.orders] == ["1", "3"]
    assert (rejected.remote_id, rejected.field) == ("2", "total_amount")
    assert json.loads(rejected.raw)["total_amount"] == "muito"


async def test_without_the_right_to_moves_and_invoices_quantities_are_left_out_and_said_so():
    erp = SmallTryton(orders=1)
    erp.closed = {"stock.move", "account.invoice.line"}
    del erp.orders[1]["lines."][0]["moves."], erp.orders[1]["lines."][0]["invoice_lines."]
    (page,) = await pages(erp)
    line = page.orders[0].lines[0]
    assert (line.received_quantity, line.invoiced_quantity) == (None, None)
    assert {"lines[].received_quantity", "lines[].invoiced_quantity", "receipt_status"} <= set(
        page.orders[0].field_presence
    )
    assert any("may not read stock.move" in warning for warning in page.warnings)


async def test_fields_that_an_older_tryton_lacks_are_not_asked_for_and_listed_as_absent():
    erp = SmallTryton(orders=1)
    erp.fields -= {"confirmed_by.", "confirmed_by", "delivery_date"}
    (page,) = await pages(erp)
    assert "buyer" in page.orders[0].field_presence


async def test_an_order_deleted_between_listing_and_reading_is_left_out():
    erp = SmallTryton()
    listed = erp.answer

    def vanishing(method, params):
        answer = listed(method, params)
        if method == "model.purchase.purchase.search":
            erp.orders.pop(2, None)
        return answer

    erp.answer = vanishing
    (page,) = await pages(erp)
    assert [order.remote_id for order in page.orders] == ["1", "3"]
    assert page.orders[0].status is Status.DRAFT


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("model.purchase.purchase.search_read", {"id": 1}),
        ("model.purchase.purchase.search_read", ["1"]),
        ("model.purchase.purchase.search", "1"),
        ("model.purchase.purchase.search", [None]),
        ("model.purchase.purchase.fields_get", []),
        ("model.purchase.line.search_read", [{"id": "1", "purchase": 1}]),
        ("model.purchase.line.search_read", [{"id": 1, "purchase": None}]),
    ],
)
async def test_an_answer_of_another_shape_is_an_unexpected_reply(method, result):
    erp = SmallTryton()
    cursor = None if method != "model.purchase.line.search_read" else '{"since":"2026-11-22T12:00:00Z"}'
    erp.spoilt = {method: result}
    with pytest.raises(UnexpectedReply):
        await pages(erp, cursor)


async def test_a_row_whose_stamp_cannot_be_read_still_names_its_order():
    erp = SmallTryton()
    erp.spoilt = {"model.purchase.line.search_read": [{"id": 5, "purchase": 2, "write_date": "hoje"}]}
    changed = await pages(erp, '{"since":"2026-11-22T12:00:00Z"}')
    assert "2" in {order.remote_id for page in changed for order in page.orders}


async def test_only_reading_methods_are_called():
    erp = SmallTryton()
    await pages(erp)
    await pages(erp, '{"since":"2026-11-22T12:00:00Z"}')
    verbs = {method.rpartition(".")[2] for method in erp.asked}
    assert verbs == {"login", "fields_get", "get_access", "search", "search_read"}


def test_the_docs_page_shows_every_field_and_every_setting():
    page = (ROOT / "docs" / "connectors" / "tryton.md").read_text()
    settings = TrytonSettings(url="http://erp.example", database="erp")
    credentials = TrytonCredentials(username="relay", password="senha")
    known = TRYTON.build(settings, credentials, httpx.AsyncClient()).capabilities()
    rows = [f"| `{each.path}` | {each.source} | {each.rule} |" for each in known.fields if each.readable]
    gaps = [f"`{path}`" for path in known.unreadable()]
    assert [row for row in (*rows, *gaps) if row not in page] == []
    assert [name for name in TrytonSettings.model_fields if f"| `{name}` |" not in page] == []
