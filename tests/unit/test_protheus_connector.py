"""The Protheus connector against everything that real ones were seen to do."""

import datetime as dt
import json
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.connectors.protheus import PROTHEUS, ProtheusConnector, ProtheusCredentials, ProtheusSettings
from relay.connectors.protheus.legend import Standing, approval_status, line_status, order_status, receipt_status
from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from relay.domain.errors import CredentialsRefused, RecordRejected, Throttled, Unavailable, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import Status
from relay.ports import Mappings, Pace
from relay.wire.erp import polite_client

MONDAY = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
PACE = Pace(per_second=10_000, burst=10_000, at_once=3, timeout=5)
TWO_LINES = [NewLine("PAR-M8-30", 100, 1.25), NewLine("ROL-6204", 4, 37.9)]


class Clock:
    def __init__(self):
        self.now = MONDAY

    def __call__(self):
        return self.now

    def tick(self, **amount):
        self.now += dt.timedelta(**amount)


class World:
    """One simulated Protheus and one connector to it, by one clock."""

    def __init__(self, erp, client, clock, settings, mapping):
        self.erp = erp
        self.clock = clock
        self.client = client
        self.settings = settings
        self.mapping = mapping
        self.connector = self.connect()
        self.cursor = None
        self.pages = []

    def connect(self, password=None, mapping=None, beside=(), **settings):
        given = ProtheusSettings(**({"url": self.erp.url, "tenant": self.erp.tenant} | self.settings | settings))
        credentials = ProtheusCredentials(username=self.erp.username, password=password or self.erp.password)
        overrides = MappingOverrides(**(self.mapping if mapping is None else mapping))
        return ProtheusConnector(given, credentials, self.client, Mappings(overrides, beside), clock=self.clock)

    async def poll(self):
        """All pages since the last poll; answers the orders by id, the newest reading of each."""
        self.pages = [page async for page in self.connector.changed_since(self.cursor)]
        if self.pages:
            self.cursor = self.pages[-1].cursor
        return {order.remote_id: order for page in self.pages for order in page.orders}

    async def poll_until_quiet(self):
        for _ in range(3):
            await self.poll()

    @property
    def rejected(self):
        return [each for page in self.pages for each in page.rejected]

    @property
    def warnings(self):
        return [each for page in self.pages for each in page.warnings]


@asynccontextmanager
async def world(habits=None, mapping=None, **settings):
    clock = Clock()
    options = Options(clock=clock, **(habits or {}))
    async with simulated_protheus(options) as erp, polite_client(PACE) as client:
        yield World(erp, client, clock, settings, mapping or {})


def remote(order):
    return "|".join(order)


# the sample of the facts


SAMPLE = """{"items":[
 {"c7_filial":"D MG 01 ","c7_num":"000123","c7_item":"0001","c7_produto":"PAR-M8-30      ","c7_quant":100,"c7_quje":40,
  "c7_preco":1.25,"c7_total":125,"c7_fornece":"FOR001","c7_loja":"01","c7_emissao":"20261102","c7_datprf":"20261120",
  "c7_cond":"030","c7_moeda":1,"c7_txmoeda":0,"c7_conapro":"L","c7_residuo":" ","r_e_c_n_o_":881,"d_e_l_e_t_":" "},
 {"c7_filial":"D MG 01 ","c7_num":"000123","c7_item":"0002","c7_produto":"ROL-6204       ","c7_quant":4,"c7_quje":0,
  "c7_preco":37.9,"c7_total":151.6,"c7_fornece":"FOR001","c7_loja":"01","c7_emissao":"20261102","c7_datprf":"20261125",
  "c7_cond":"030","c7_moeda":1,"c7_txmoeda":0,"c7_conapro":"L","c7_residuo":" ","r_e_c_n_o_":882,"d_e_l_e_t_":"*"}],
 "hasNext":false,"remainingRecords":0}"""
NOTHING = '{"items":[],"hasNext":false,"remainingRecords":0}'


async def test_the_published_sample_becomes_the_expected_order():
    def answer(request):
        return httpx.Response(200, text=SAMPLE if request.url.params["tables"] == "SC7" else NOTHING)

    settings = ProtheusSettings(url="http://erp/rest", tenant="T1,D MG 01", stamps="off", login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        connector = PROTHEUS.build(settings, ProtheusCredentials(username="u", password="p"), client)
        order = await connector.read("D MG 01|000123")
    tree = order.model_dump(mode="json")
    first, second = tree["lines"]
    assert tree["status"] == "partially_received"
    assert tree["receipt_status"] == "partial"
    assert tree["approval_status"] == "approved"
    assert tree["branch"]["remote_id"] == "D MG 01"
    assert (tree["currency"], tree["currency_raw"], tree["exchange_rate"]) == ("BRL", "1", "1")
    assert tree["order_date"] == "2026-11-02"
    assert tree["vendor"]["remote_id"] == "FOR001|01"
    assert tree["payment_terms"]["code"] == "030"
    assert (first["received_quantity"], first["open_quantity"]) == ("40", "60")
    assert (first["unit_price"], first["amount"]) == ("1.25", "125.00")
    assert first["item"]["code"] == "PAR-M8-30"
    assert (second["remote_was_deleted"], tree["remote_was_deleted"]) == (True, False)
    assert tree["subtotal"] == "125.00"


async def test_every_request_names_the_tenant_exactly_and_the_module_when_set():
    async with world(module="COM") as at:
        at.erp.create_order(TWO_LINES)
        await at.poll()
        for request in at.erp.queries():
            assert request.headers["tenantid"] == "T1,D MG 01"
            assert request.headers["x-erp-module"] == "COM"


# names, text, numbers


async def test_names_are_looked_up_once_for_many_orders():
    async with world() as at:
        at.erp.seed(0)
        for _ in range(5):
            at.erp.create_order(TWO_LINES, note="Atenção: à tarde  ")
        orders = await at.poll()
        order = orders["D MG 01|000001"]
        assert order.vendor.name == "Fornecedor São João Ltda"
        assert (order.vendor.tax_id, order.vendor.tax_id_type) == ("12345678000195", "CNPJ")
        assert order.payment_terms.description == "30 dias"
        assert order.lines[0].item.description == "Parafuso sextavado M8x30"
        assert order.notes == "Atenção: à tarde"
        await at.poll_until_quiet()
        asked = [request.query["tables"] for request in at.erp.queries()]
        assert (asked.count("SA2"), asked.count("SE4"), asked.count("SB1")) == (1, 1, 0)


async def test_a_line_without_a_description_takes_the_products():
    async with world() as at:
        order = at.erp.create_order([NewLine("PAR-M8-30", 1, 1, columns={"C7_DESCRI": ""})])
        at.erp.seed(0)
        assert (await at.connector.read(remote(order))).lines[0].item.description == "Parafuso sextavado M8x30"


@pytest.mark.parametrize("charset", ["utf-8", "cp1252-declared", "cp1252-silent"])
async def test_accents_survive_every_charset(charset):
    async with world({"charset": charset}) as at:
        order = at.erp.create_order(TWO_LINES, note="Manutenção – “urgente” ñ")
        assert (await at.connector.read(remote(order))).notes == "Manutenção – “urgente” ñ"


async def test_float_noise_does_not_reach_an_order():
    async with world() as at:
        order = await at.connector.read(remote(at.erp.create_order([NewLine("X", 12.3, 37.9)])))
        (line,) = order.lines
        assert (line.quantity, line.unit_price, line.amount) == (Decimal("12.3"), Decimal("37.90"), Decimal("466.17"))
        assert str(line.unit_price) == "37.90"
        assert at.warnings == []


async def test_a_widened_column_loses_nothing_and_may_be_told_its_decimals():
    async with world() as at:
        key = remote(at.erp.create_order([NewLine("X", 3, 0.3333)]))
        assert str((await at.connector.read(key)).lines[0].unit_price) == "0.3333"
        wide = at.connect(mapping={"decimals": {"C7_PRECO": 6}})
        assert str((await wide.read(key)).lines[0].unit_price) == "0.333300"


async def test_an_unmapped_currency_is_null_with_its_index_kept_and_a_warning():
    async with world(mapping={"currencies": {"4": "EUR"}}) as at:
        unknown = at.erp.create_order(TWO_LINES, currency=2)
        euro = at.erp.create_order(TWO_LINES, currency=4, columns={"C7_TXMOEDA": 6.1234})
        orders = await at.poll()
        assert (orders[remote(unknown)].currency, orders[remote(unknown)].currency_raw) == (None, "2")
        assert (orders[remote(euro)].currency, str(orders[remote(euro)].exchange_rate)) == ("EUR", "6.1234")
        assert "currency index 2 is not mapped: add it to currencies in the mapping" in at.warnings


async def test_an_amount_that_is_not_quantity_times_price_is_kept_and_told():
    async with world() as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.corrupt(order, "C7_TOTAL", 999.0, item="0001")
        orders = await at.poll()
        assert str(orders[remote(order)].lines[0].amount) == "999.00"
        assert any("line 0001: quantity times price is not the amount" in warning for warning in at.warnings)


async def test_own_columns_pass_through_under_their_names():
    own = {"fields": {"C7_XPRIOR": "auto", "C7_ZDTINT": "date"}, "line_fields": ["C7_XPESO"]}
    async with world(mapping=own) as at:
        line = NewLine("X", 1, 1, columns={"C7_XPESO": 12.305})
        order = at.erp.create_order([line], columns={"C7_XPRIOR": "URGENTE", "C7_ZDTINT": dt.date(2026, 12, 1)})
        read = await at.connector.read(remote(order))
        assert read.custom_fields == {"C7_XPRIOR": "URGENTE", "C7_ZDTINT": "2026-12-01"}
        assert read.lines[0].custom_fields == {"C7_XPESO": "12.305"}


async def test_hidden_columns_are_null_and_listed_as_not_given():
    async with world({"hidden_columns": frozenset({"C7_PRECO", "A2_NOME"})}) as at:
        at.erp.seed(0)
        order = at.erp.create_order(TWO_LINES)
        (read,) = (await at.poll()).values()
        assert read.lines[0].unit_price is None
        assert read.vendor.name is None
        assert {"lines[].unit_price", "vendor.name"} <= set(read.field_presence)
        assert "lines[].quantity" not in read.field_presence
        assert remote(order) == read.remote_id


async def test_raw_rows_are_kept_only_when_asked_for():
    async with world() as at:
        key = remote(at.erp.create_order(TWO_LINES))
        assert (await at.connector.read(key)).raw is None
        assert (await at.connect(keep_raw=True).read(key)).raw[0]["C7_NUM"] == "000001"


# statuses


async def status_after(at, *steps, lines=TWO_LINES, approval="L"):
    order = at.erp.create_order(lines, approval=approval)
    for step, *details in steps:
        getattr(at.erp, step)(order, *details)
    read = await at.connector.read(remote(order))
    return read.status, read.receipt_status, read.approval_status, [line.status for line in read.lines]


@pytest.mark.parametrize(
    ("steps", "approval", "expected"),
    [
        ((), "B", ("pending_approval", "none", "pending", ["open", "open"])),
        ((("approve",),), "B", ("approved", "none", "approved", ["open", "open"])),
        ((), " ", ("approved", "none", "not_required", ["open", "open"])),
        ((), "R", ("rejected", "none", "rejected", ["open", "open"])),
        ((), "?", ("other", "none", None, ["open", "open"])),
        (
            (("receive", "0001", 40),),
            "L",
            ("partially_received", "partial", "approved", ["partially_received", "open"]),
        ),
        (
            (("receive", "0001", 100), ("receive", "0002", 5)),
            "L",
            ("received", "full", "approved", ["received", "received"]),
        ),
        (
            (("receive", "0001", 40), ("eliminate_residue",)),
            "L",
            ("closed", "closed_short", "approved", ["closed", "closed"]),
        ),
        (
            (("receive", "0001", 100), ("eliminate_residue", "0002")),
            "L",
            ("closed", "closed_short", "approved", ["received", "closed"]),
        ),
        ((("delete_line", "0002"),), "L", ("approved", "none", "approved", ["open", "cancelled"])),
        ((("delete_order",),), "L", ("deleted", "none", "approved", ["cancelled", "cancelled"])),
        ((("delete_order",), ("restore_order",)), "L", ("approved", "none", "approved", ["open", "open"])),
    ],
)
async def test_the_status_follows_the_legend(steps, approval, expected):
    async with world() as at:
        assert await status_after(at, *steps, approval=approval) == expected


async def test_open_and_cancelled_quantities():
    async with world() as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.receive(order, "0001", 40)
        at.erp.pre_receive(order, "0001", 10)
        at.erp.receive(order, "0002", 1)
        at.erp.eliminate_residue(order, "0002")
        first, second = (await at.connector.read(remote(order))).lines
        assert (first.open_quantity, first.cancelled_quantity) == (50, 0)
        assert (second.open_quantity, second.cancelled_quantity) == (0, 3)


AMOUNTS = st.one_of(st.none(), st.decimals(0, 100, places=2))
ROWS = st.builds(
    Standing,
    ordered=AMOUNTS,
    received=AMOUNTS,
    pre_received=AMOUNTS,
    residue=st.sampled_from(["", "S"]),
    closed=st.sampled_from(["", "E"]),
    approval=st.sampled_from([None, "", "L", "B", "R", "?"]),
    deleted=st.booleans(),
)


@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_any_rows_have_a_status_whatever_their_order(rows):
    assert order_status(rows) is order_status(rows[::-1])
    assert approval_status(rows) is approval_status(rows[::-1])
    assert receipt_status(rows) is receipt_status(rows[::-1])
    assert (order_status(rows) is Status.DELETED) == all(row.deleted for row in rows)
    for row in rows:
        assert line_status(row)
        assert row.open_quantity is None or row.open_quantity >= 0


# deleted rows


async def test_a_deleted_line_whose_number_lives_again_is_left_out():
    async with world() as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.delete_line(order, "0002")
        at.erp.add_line(order, NewLine("NEW", 7, 1))
        at.erp.corrupt(order, "C7_ITEM", "0002", item="0003")
        lines = (await at.connector.read(remote(order))).lines
        assert [(line.remote_id, line.item.code, line.remote_was_deleted) for line in lines] == [
            ("0001", "PAR-M8-30", False),
            ("0002", "NEW", False),
        ]


async def test_two_living_rows_of_one_line_refuse_the_order():
    async with world() as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.corrupt(order, "C7_ITEM", "0001", item="0002")
        with pytest.raises(RecordRejected, match="two lines share one remote_id"):
            await at.connector.read(remote(order))


async def test_a_purged_order_reads_as_none_and_leaves_the_ids():
    async with world() as at:
        gone, kept, deleted = (at.erp.create_order(TWO_LINES) for _ in range(3))
        at.erp.purge(gone)
        at.erp.delete_order(deleted)
        assert await at.connector.read(remote(gone)) is None
        assert (await at.connector.read(remote(deleted))).remote_was_deleted
        ids = [each async for batch in at.connector.remote_ids() for each in batch]
        assert ids == [remote(kept)]


@pytest.mark.parametrize("remote_id", ["", "000001", "D MG 01|", "D MG 01|999999", "|", "a'b|c'd"])
async def test_an_id_that_names_no_order_reads_as_none(remote_id):
    async with world() as at:
        at.erp.create_order(TWO_LINES)
        assert await at.connector.read(remote_id) is None


async def test_without_the_deleted_mark_only_living_rows_are_read():
    async with world(absent_columns=["D_E_L_E_T_"]) as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.delete_line(order, "0002")
        assert [line.remote_id for line in (await at.connector.read(remote(order))).lines] == ["0001"]


# walking


@pytest.mark.parametrize("blanks_count", [True, False])
@pytest.mark.parametrize("page_size", [2, 3, 7, 200])
async def test_orders_are_whole_wherever_pages_end(page_size, blanks_count):
    async with world({"blanks_count": blanks_count}, page_size=page_size, all_branches=True) as at:
        at.erp.seed(25)
        orders = await at.poll()
        assert orders.keys() == {remote(key) for key in at.erp.purchase_orders()}
        for key in at.erp.purchase_orders():
            assert len(orders[remote(key)].lines) == len(at.erp.rows(key))


async def test_an_installation_that_gives_smaller_pages_than_asked_for_is_read_whole():
    async with world({"largest_page": 3}) as at:
        keys = [remote(at.erp.create_order([NewLine("X", 1, 1)] * lines)) for lines in (1, 8, 2, 4)]
        orders = await at.poll()
        assert [len(orders[key].lines) for key in keys] == [1, 8, 2, 4]


async def test_orders_that_come_and_go_under_a_pass_cost_no_other_order():
    async with world(page_size=4, stamps="off") as at:
        keys = [at.erp.create_order(TWO_LINES) for _ in range(12)]
        doomed = iter([keys[0], keys[2], keys[9]])

        def meddle():
            if key := next(doomed, None):
                at.erp.purge(key)

        at.erp.before_query = meddle
        orders = await at.poll()
        assert {remote(key) for key in keys} - orders.keys() <= {remote(keys[0]), remote(keys[2]), remote(keys[9])}
        assert all(len(order.lines) == 2 for order in orders.values())


async def test_a_pass_resumes_behind_the_last_stored_page():
    async with world(page_size=4, stamps="off") as at:
        for _ in range(10):
            at.erp.create_order(TWO_LINES)
        pages = [page async for page in at.connector.changed_since(None)]
        for position, page in enumerate(pages[:-1]):
            rest = [other async for other in at.connect().changed_since(page.cursor)]
            assert [other.orders for other in rest] == [other.orders for other in pages[position + 1 :]]


async def test_orders_of_other_kinds_and_of_older_days_are_left_alone():
    async with world(issued_since="2026-10-01") as at:
        at.erp.create_order(TWO_LINES, columns={"C7_TIPO": 2})
        at.erp.create_order(TWO_LINES, order_date=dt.date(2026, 9, 30))
        wanted = at.erp.create_order(TWO_LINES, order_date=dt.date(2026, 10, 1))
        assert list(await at.poll()) == [remote(wanted)]


async def test_only_the_tenants_branch_is_read_unless_all_are_wanted():
    async with world() as at:
        at.erp.create_order(TWO_LINES, branch="M SP 01")
        assert await at.poll() == {}
        everywhere = at.connect(all_branches=True)
        assert [page.orders[0].branch.remote_id async for page in everywhere.changed_since(None) if page.orders]


async def test_a_server_that_does_not_sort_is_found_out():
    rows = [json.loads(SAMPLE)["items"][0] | {"c7_num": number} for number in ("000002", "000001")]

    def answer(_request):
        return httpx.Response(200, json={"items": rows, "hasNext": False})

    settings = ProtheusSettings(url="http://erp/rest", tenant="T1,D MG 01", stamps="off", login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        connector = PROTHEUS.build(settings, ProtheusCredentials(username="u", password="p"), client)
        with pytest.raises(UnexpectedReply, match="another order than asked for"):
            [page async for page in connector.changed_since(None)]


async def test_a_server_that_ignores_where_does_not_hold_the_reader_for_ever():
    def answer(_request):
        return httpx.Response(200, json={"items": json.loads(SAMPLE)["items"][:1], "hasNext": True})

    settings = ProtheusSettings(url="http://erp/rest", tenant="T1,D MG 01", stamps="off", login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        connector = PROTHEUS.build(settings, ProtheusCredentials(username="u", password="p"), client)
        with pytest.raises(UnexpectedReply):
            [page async for page in connector.changed_since(None)]


# stamps


async def test_a_poll_by_stamp_reads_only_what_changed():
    async with world() as at:
        keys = [at.erp.create_order(TWO_LINES, approval="B") for _ in range(30)]
        await at.poll_until_quiet()
        at.clock.tick(minutes=1)
        at.erp.approve(keys[7])
        before = len(at.erp.queries())
        orders = await at.poll()
        assert {key: order.status for key, order in orders.items()} == {remote(keys[7]): "approved"}
        assert orders[remote(keys[7])].remote_updated_at == at.clock.now
        assert len(at.erp.queries()) - before == 2


async def test_every_hand_of_a_user_is_seen_by_stamp():
    async with world() as at:
        order = at.erp.create_order(TWO_LINES)
        await at.poll_until_quiet()
        hands = [
            lambda: at.erp.approve(order),
            lambda: at.erp.receive(order, "0001", 1),
            lambda: at.erp.change_line(order, "0002", {"C7_QUANT": 9}),
            lambda: at.erp.add_line(order, NewLine("NEW", 1, 1)),
            lambda: at.erp.delete_line(order, "0002"),
            lambda: at.erp.eliminate_residue(order),
            lambda: at.erp.delete_order(order),
            lambda: at.erp.restore_order(order),
        ]
        for hand in hands:
            before = await at.connector.read(remote(order))
            at.clock.tick(minutes=10)
            hand()
            after = (await at.poll())[remote(order)]
            assert after.tree() != before.tree()


async def test_a_transaction_that_commits_late_is_caught_by_the_overlap():
    async with world() as at:
        late, other = at.erp.create_order(TWO_LINES), at.erp.create_order(TWO_LINES)
        await at.poll_until_quiet()
        at.clock.tick(minutes=10)
        at.erp.receive(other, "0001", 1)
        await at.poll_until_quiet()
        with at.erp.stamped_at(at.clock.now - dt.timedelta(minutes=4)):
            at.erp.receive(late, "0001", 1)
        assert remote(late) in await at.poll()


async def test_rows_older_than_the_stamps_come_with_the_first_pass():
    async with world() as at:
        with at.erp.stamped_at(None):
            old = at.erp.create_order(TWO_LINES)
        new = at.erp.create_order(TWO_LINES)
        assert set(await at.poll()) == {remote(old), remote(new)}


async def test_a_stamp_in_the_future_does_not_carry_the_cursor_away():
    async with world() as at:
        early, order = at.erp.create_order(TWO_LINES), at.erp.create_order(TWO_LINES)
        with at.erp.stamped_at(MONDAY + dt.timedelta(days=9999)):
            at.erp.receive(early, "0001", 1)
        await at.poll_until_quiet()
        at.clock.tick(minutes=1)
        at.erp.receive(order, "0001", 1)
        assert remote(order) in await at.poll()


async def test_many_rows_with_one_stamp_are_walked_through():
    async with world(page_size=2) as at:
        keys = {remote(at.erp.create_order(TWO_LINES)) for _ in range(23)}
        await at.poll_until_quiet()
        at.clock.tick(minutes=10)
        for order in at.erp.orders():
            at.erp.approve(order)
        assert set(await at.poll()) == keys


async def test_cursors_in_the_middle_of_a_poll_by_stamp_lose_nothing():
    async with world(page_size=2) as at:
        for _ in range(15):
            at.erp.create_order(TWO_LINES)
            at.clock.tick(seconds=1)
        await at.poll_until_quiet()
        at.clock.tick(minutes=30)
        for order in at.erp.orders():
            at.clock.tick(minutes=7)
            at.erp.approve(order)
        pages = [page async for page in at.connect().changed_since(at.cursor)]
        everything = {order.remote_id for page in pages for order in page.orders}
        assert len(everything) == 15
        done = set()
        for page in pages:
            done |= {order.remote_id for order in page.orders}
            rest = [other async for other in at.connect().changed_since(page.cursor)]
            assert done | {order.remote_id for other in rest for order in other.orders} == everything


async def test_without_stamps_every_poll_reads_everything():
    async with world({"stamps": False}) as at:
        order = at.erp.create_order(TWO_LINES)
        at.erp.create_order(TWO_LINES)
        first = await at.poll()
        at.erp.receive(order, "0001", 5)
        second = await at.poll()
        assert first.keys() == second.keys()
        assert second[remote(order)].lines[0].received_quantity == 5


async def test_stamps_switched_on_in_the_erp_are_noticed_by_auto():
    async with world() as at:
        with at.erp.stamped_at(None):
            at.erp.create_order(TWO_LINES)
        assert len(await at.poll()) == 1
        assert json.loads(at.cursor)["pass"] is None
        at.erp.create_order(TWO_LINES)
        assert len(await at.poll()) == 2
        assert "stamp" in json.loads(at.cursor)
        await at.poll_until_quiet()
        assert await at.poll() == {}


async def test_a_sick_server_is_not_taken_for_one_without_stamps():
    async with world() as at:
        at.erp.create_order(TWO_LINES)
        at.erp.fail_next("500_ttalk", 2)
        with pytest.raises(Unavailable):
            await at.poll()
        await at.poll()
        assert "stamp" in json.loads(at.cursor)


@pytest.mark.parametrize("cursor", ["", "null", "{}", "[1]", '{"stamp": "never"}', '{"pass": 5}', "\x00"])
async def test_a_cursor_that_cannot_be_read_begins_again(cursor):
    async with world() as at:
        at.erp.create_order(TWO_LINES)
        at.cursor = cursor
        assert len(await at.poll()) == 1


# junk in rows


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("C7_QUANT", "abc"),
        ("C7_PRECO", 1e300),
        ("C7_EMISSAO", "20261399"),
        ("C7_DATPRF", "amanhã"),
        ("C7_MOEDA", 1.5),
        ("C7_TOTAL", "NaN"),
        ("C7_SEQUEN", "\x01"),
        ("C7_NUM", "00\x0142"),
    ],
)
async def test_junk_rejects_its_own_order_and_no_other(column, value):
    async with world() as at:
        first, junk, last = (at.erp.create_order(TWO_LINES[:1]) for _ in range(3))
        at.erp.corrupt(junk, column, value)
        orders = await at.poll()
        assert orders.keys() == {remote(first), remote(last)}
        assert {each.field.split(", ")[-1] for each in at.rejected} == {column}
        assert all(b"C7_PRODUTO" in each.raw for each in at.rejected)


async def test_a_row_without_a_number_is_told_and_its_neighbours_come():
    async with world() as at:
        kept, lost = at.erp.create_order(TWO_LINES), at.erp.create_order(TWO_LINES[:1])
        at.erp.corrupt(lost, "C7_NUM", None)
        assert list(await at.poll()) == [remote(kept)]
        assert [each.remote_id for each in at.rejected][:1] == [""]


# login


async def test_one_login_serves_all_calls():
    async with world() as at:
        at.erp.seed(20)
        await at.poll()
        assert (at.erp.login.logins, at.erp.login.refreshes) == (1, 0)


async def test_an_expired_token_is_renewed_by_the_refresh_token():
    async with world() as at:
        await at.poll()
        at.erp.login.expire_tokens()
        await at.poll()
        at.erp.login.expire_tokens()
        await at.poll()
        assert (at.erp.login.logins, at.erp.login.refreshes) == (1, 2)


async def test_an_expired_refresh_token_leads_to_one_new_login():
    async with world() as at:
        await at.poll()
        at.erp.login.expire_tokens()
        at.erp.login.expire_refresh_tokens()
        await at.poll()
        assert at.erp.login.logins == 2


@pytest.mark.parametrize("empty", [True, False])
async def test_refused_credentials_are_not_tried_again(empty):
    async with world({"empty_401": empty}) as at:
        wrong = at.connect(password="canary-wrong")
        for _ in range(3):
            with pytest.raises(CredentialsRefused) as caught:
                await wrong.read("D MG 01|000001")
            assert "canary" not in str(caught.value)
        assert at.erp.login.refused == 1


async def test_a_changed_password_costs_one_refresh_and_one_login():
    async with world() as at:
        await at.poll()
        at.erp.login.change_password("another")
        for _ in range(3):
            with pytest.raises(CredentialsRefused):
                await at.poll()
        assert at.erp.login.refused == 2


async def test_a_token_that_is_refused_when_new_ends_it():
    async with world() as at:
        at.erp.fail_next("401", 2)
        with pytest.raises(CredentialsRefused):
            await at.connector.read("D MG 01|000001")


async def test_basic_login_works_and_is_refused_in_the_same_words():
    async with world(login="basic") as at:
        at.erp.create_order(TWO_LINES)
        assert len(await at.poll()) == 1
        with pytest.raises(CredentialsRefused):
            await at.connect(password="wrong").read("D MG 01|000001")
        assert at.erp.login.logins == 0


async def test_a_password_with_accents_travels_in_the_header():
    async with world({"password": "sênha-ção"}) as at:
        await at.poll()
        assert at.erp.login.logins == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [("html_200", UnexpectedReply), ("503", Unavailable), ("429", Throttled), ("reset", Unavailable)],
)
async def test_a_login_that_fails_for_other_reasons_is_not_a_refusal(fault, error):
    async with world() as at:
        at.erp.fail_next(fault, on="token")
        with pytest.raises(error):
            await at.connector.read("D MG 01|000001")
        assert await at.connector.read("D MG 01|000001") is None


# faults of the query


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("html", Unavailable, "answered 500"),
        ("html_200", UnexpectedReply, "HTML"),
        ("404", Unsupported, "Recurso não encontrado"),
        ("500_ttalk", Unavailable, "Erro na execução - THREAD ERROR"),
        ("500_error_code", Unavailable, "Fornecedor inválido"),
        ("400_ttalk", UnexpectedReply, "AJUDA:REGNOIS"),
        ("200_status_400", UnexpectedReply, "Fornecedor invalido"),
        ("truncated", UnexpectedReply, "expected JSON"),
        ("empty", UnexpectedReply, "an empty body"),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "cp1252-declared", "cp1252-silent"])
async def test_a_fault_says_what_the_erp_said(fault, error, words, charset):
    async with world({"charset": charset}) as at:
        at.erp.fail_next(fault)
        with pytest.raises(error, match=words):
            await at.connector.read("D MG 01|000001")


async def test_a_query_that_is_not_permitted_is_unsupported():
    async with world({"query_allowed": False}) as at:
        with pytest.raises(Unsupported, match="not permitted"):
            await at.connector.read("D MG 01|000001")


async def test_an_unknown_tenant_is_told_in_the_erps_words():
    async with world() as at:
        with pytest.raises(UnexpectedReply, match="Empresa ou filial inválida"):
            await at.connect(tenant="T1,D MG 99").read("D MG 01|000001")


async def test_a_column_that_is_named_as_absent_is_not_asked_for():
    async with world(absent_columns=["C7_CONTA"]) as at:
        at.erp.create_order(TWO_LINES)
        (order,) = (await at.poll()).values()
        assert "lines[].account" in order.field_presence
        assert not [each for each in at.erp.queries() if "C7_CONTA" in str(each)]


async def test_an_own_column_that_is_not_there_costs_no_order_and_is_told():
    async with world(mapping={"fields": {"C7_XPRIOR": "text"}, "line_fields": ["C7_XNADA"]}) as at:
        at.erp.create_order(TWO_LINES, columns={"C7_XPRIOR": "URGENTE"})
        (order,) = (await at.poll()).values()
        assert order.custom_fields == {"C7_XPRIOR": "URGENTE"}
        assert order.lines[0].custom_fields == {}
        assert "lines[].custom_fields.C7_XNADA" in order.field_presence
        assert "SC7 has no column C7_XNADA, or this user may not see it" in at.warnings


# settings and docs


@pytest.mark.parametrize("tenant", ["T1", "T1, D MG 01", ",D MG 01", ""])
def test_a_tenant_written_wrongly_is_refused(tenant):
    with pytest.raises(ValueError, match="tenant"):
        ProtheusSettings(url="http://erp/rest", tenant=tenant)


@pytest.mark.parametrize("url", ["ftp://erp/rest", "erp/rest", "http://user:canary@erp/rest", "http://erp/rest?x=1"])
def test_an_address_that_is_no_base_address_is_refused(url):
    with pytest.raises(ValueError, match="url"):
        ProtheusSettings(url=url, tenant="T1,D MG 01")


def test_an_empty_branch_is_allowed_in_the_tenant():
    assert ProtheusSettings(url="http://erp/rest", tenant="01,").branch == ""


def test_the_docs_page_tells_every_setting_and_every_mapped_field():
    page = Path("docs/connectors/protheus.md").read_text()
    for name in ProtheusSettings.model_fields:
        assert f"`{name}`" in page, name
    settings = ProtheusSettings(url="http://erp/rest", tenant="T1,D MG 01")
    connector = PROTHEUS.build(settings, ProtheusCredentials(username="u", password="p"), httpx.AsyncClient())
    for field in connector.capabilities().fields:
        assert f"`{field.path}`" in page, field.path
