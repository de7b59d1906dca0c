"""The RM connector against everything that real ones are known to do."""

import datetime as dt
import itertools
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.connectors.kit.mapping import Rule, derived
from relay.connectors.rm import RM, RmConnector, RmCredentials, RmSettings
from relay.connectors.rm.connector import HELD
from relay.connectors.rm.contract import (
    COMPUTED,
    ITEM,
    MOVEMENT,
    MOVEMENT_UPDATE,
    NEEDED,
    SET_ONCE,
    schema,
    writable,
)
from relay.connectors.rm.times import LONG_AGO, before, day_of, local_of, utc_of
from relay.connectors.rm.walk import BY_CHANGE, BY_ID, Movement, Place, cut, windows
from relay.control.given import mapping_given, settings_given
from relay.demo.rm import NewItem
from relay.demo.rm_http import RmOptions, simulated_rm
from relay.domain.errors import (
    CredentialsRefused,
    RecordRejected,
    Unavailable,
    UnexpectedReply,
    Unsupported,
    UserError,
)
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import ApprovalStatus, LineStatus, ReceiptStatus, Status
from relay.ports import Mappings, Pace
from relay.wire.erp import polite_client

MONDAY = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
PACE = Pace(per_second=10_000, burst=10_000, at_once=3, timeout=5)
TWO = [NewItem(1001, 100, 1.25), NewItem(1002, 4, 37.9)]
ZONE = "America/Sao_Paulo"


class Clock:
    def __init__(self):
        self.now = MONDAY

    def __call__(self):
        return self.now

    def tick(self, **amount):
        self.now += dt.timedelta(**amount or {"minutes": 10})


class World:
    """One simulated RM and one connector to it, by one clock."""

    def __init__(self, erp, client, clock, settings, mapping):
        self.erp, self.client, self.clock = erp, client, clock
        self.settings, self.mapping = settings, mapping
        self.connector = self.connect()
        self.cursor = None
        self.pages = []

    def connect(self, password=None, held=HELD, **settings):
        usual = {"url": self.erp.url, "company": 1, "purchase_types": "1.1.10,1.1.11"}
        given = RmSettings(**(usual | self.settings | settings))
        credentials = RmCredentials(username=self.erp.username, password=password or self.erp.password)
        mappings = Mappings(MappingOverrides(**self.mapping))
        return RmConnector(given, credentials, self.client, mappings, clock=self.clock, held=held)

    async def poll(self):
        """All pages since the last poll; answers the orders by id, the newest reading of each."""
        self.pages = [page async for page in self.connector.changed_since(self.cursor)]
        self.cursor = self.pages[-1].cursor if self.pages else self.cursor
        return {order.remote_id: order for page in self.pages for order in page.orders}

    async def lists(self):
        """The list calls of the last poll."""
        before = len(self.erp.seen)
        await self.poll()
        return [each for each in list(self.erp.seen)[before:] if each.path.endswith("/movements")]


def text(key):
    return f"{key[0]}|{key[1]}"


@asynccontextmanager
async def rm(settings=None, mapping=None, **habits):
    clock = Clock()
    async with simulated_rm(RmOptions(clock=clock, **habits)) as erp, polite_client(PACE) as client:
        erp.seed(0)
        yield World(erp, client, clock, settings or {}, mapping or {})


def order_made(world, items=TWO, **given):
    world.clock.tick()
    return world.erp.create_order(items, **given)


# what an order is


async def test_a_movement_becomes_an_order_with_its_lines():
    async with rm() as world:
        key = order_made(
            world, fields={"Observation": "Peça – urgente", "DeliveryWarehouseCode": "02", "FreeField1": "X"}
        )
        order = (await world.poll())[text(key)]
    assert (order.number, order.status, order.status_raw) == ("000001", Status.APPROVED, "A")
    assert (order.company.remote_id, order.branch.remote_id) == ("1", "1")
    assert (order.vendor.remote_id, order.vendor.code) == ("0|F00012", "F00012")
    assert (order.payment_terms.code, order.ship_to.location_code) == ("030", "02")
    assert (order.currency, order.currency_raw, order.notes) == ("BRL", "R$", "Peça – urgente")
    assert (order.subtotal, order.total) == (Decimal("276.60"), Decimal("276.60"))
    assert (order.order_date, order.delivery_date) == (dt.date(2026, 11, 2), dt.date(2026, 11, 22))
    assert order.custom_fields == {"FreeField1": "X", "FreeField2": None, "FreeField3": None}
    first, second = order.lines
    assert (first.remote_id, first.line_number, first.item.remote_id, first.item.code) == (
        "1",
        "1",
        "1001",
        "01.01.0001",
    )
    assert (first.quantity, first.unit, first.unit_raw) == (Decimal(100), "C62", "UN")
    assert (second.unit_price, second.amount) == (Decimal("37.90"), Decimal("151.60"))
    assert (first.received_quantity, first.open_quantity, first.status) == (0, 100, LineStatus.OPEN)


async def test_times_are_the_servers_own_and_told_in_utc():
    async with rm({"time_zone": "America/Manaus"}, zone="America/Manaus") as world:
        key = order_made(world)
        order = (await world.poll())[text(key)]
    assert order.remote_updated_at == order.remote_created_at == MONDAY + dt.timedelta(minutes=10)
    assert order.remote_version.startswith("2026-11-02T08:10:00/")


async def test_two_changes_in_one_second_have_two_versions():
    async with rm() as world:
        key = order_made(world)
        first = await world.connector.read(text(key))
        world.erp.change_line(key, 1, {"Quantity": 90})
        second = await world.connector.read(text(key))
    assert first.remote_updated_at == second.remote_updated_at
    assert first.remote_version != second.remote_version


@pytest.mark.parametrize("misspelt", [True, False])
async def test_vendors_are_read_in_both_spellings(misspelt):
    async with rm(misspelt=misspelt) as world:
        key = order_made(world)
        assert (await world.connector.read(text(key))).vendor.code == "F00012"


async def test_statuses_follow_the_letter_and_what_has_come():
    async with rm(mapping={"statuses": {"Z": "on_hold"}}) as world:
        erp = world.erp
        keys = {
            name: order_made(world, status="B" if name == "blocked" else "A")
            for name in ("blocked", "open", "part", "full", "short", "gone", "odd", "held", "early")
        }
        erp.receive(keys["part"], 1, 40)
        for line, quantity in ((1, 100), (2, 4)):
            erp.receive(keys["full"], line, quantity)
        erp.receive(keys["short"], 1, 100)
        erp.finish(keys["short"])
        erp.cancel(keys["gone"])
        erp.change_header(keys["odd"], {"Status": "Q"})
        erp.change_header(keys["held"], {"Status": "Z"})
        erp.receive(keys["early"], 1, 10)
        erp.change_header(keys["early"], {"Status": "A"})
        orders = await world.poll()
        found = {name: orders[text(key)] for name, key in keys.items()}
        warnings = [warning for page in world.pages for warning in page.warnings]
    assert {name: str(order.status) for name, order in found.items()} == {
        "blocked": "pending_approval",
        "open": "approved",
        "part": "partially_received",
        "full": "received",
        "short": "closed",
        "gone": "cancelled",
        "odd": "other",
        "held": "on_hold",
        "early": "partially_received",
    }
    assert found["blocked"].approval_status is ApprovalStatus.PENDING
    assert found["open"].approval_status is ApprovalStatus.APPROVED
    assert [str(line.status) for line in found["short"].lines] == ["received", "closed"]
    assert [str(line.status) for line in found["gone"].lines] == ["cancelled", "cancelled"]
    assert [str(line.status) for line in found["part"].lines] == ["partially_received", "open"]
    assert {name: str(found[name].receipt_status) for name in ("open", "part", "full", "short")} == {
        "open": "none",
        "part": "partial",
        "full": "full",
        "short": str(ReceiptStatus.CLOSED_SHORT),
    }
    assert warnings == ["status Q is not mapped: add it to statuses in the mapping"]
    assert not found["gone"].remote_was_deleted


async def test_only_movements_of_the_companys_purchase_types_are_orders():
    async with rm() as world:
        order, service = order_made(world), order_made(world, type_code="1.1.11")
        sale = world.erp.sell()
        receipt = order_made(world, type_code="1.2.01")
        other = order_made(world, company=2)
        assert set(await world.poll()) == {text(order), text(service)}
        assert {each async for batch in world.connector.remote_ids() for each in batch} == {text(order), text(service)}
        for key in (sale, receipt, other):
            assert await world.connector.read(text(key)) is None


async def test_complementary_fields_are_passed_through_unless_a_mapping_says_otherwise():
    shown = {"complementaryFields": {"PRIORIDADE": "ALTA", "PESO": 12.5, "INTERNO": "x"}}
    mapping = {
        "fields": {"complementaryFields.PESO": "number", "complementaryFields.INTERNO": "omit", "FreeField2": "omit"}
    }
    async with rm(mapping=mapping) as world:
        key = order_made(world, fields=shown)
        order = (await world.poll())[text(key)]
        asked = next(each for each in reversed(world.erp.seen) if "expand" in each.query)
    assert order.custom_fields == {
        "FreeField1": None,
        "FreeField3": None,
        "complementaryFields.PRIORIDADE": "ALTA",
        "complementaryFields.PESO": "12.5",
    }
    assert asked.query["expand"] == "Items,complementaryFields"


async def test_unmapped_currencies_and_units_warn_and_reject_nothing():
    async with rm() as world:
        dollars = order_made(world, currency="US$")
        euros = order_made(world, currency="EUR")
        buckets = order_made(world, items=[NewItem(1004, 1, 412.55)])
        orders = await world.poll()
        warnings = {warning for page in world.pages for warning in page.warnings}
    assert (orders[text(dollars)].currency, orders[text(dollars)].currency_raw) == (None, "US$")
    assert orders[text(euros)].currency == "EUR"
    assert orders[text(buckets)].lines[0].unit is None
    assert warnings == {
        "currency US$ is not mapped: add it to currencies in the mapping",
        "unit BD is not mapped: add it to units in the mapping",
    }


async def test_the_raw_record_is_kept_when_asked_for():
    async with rm({"keep_raw": True}) as world:
        key = order_made(world)
        assert (await world.poll())[text(key)].raw["InternalId"] == text(key)


async def test_junk_rejects_one_order_and_names_the_field():
    async with rm() as world:
        good, bad = order_made(world), order_made(world)
        world.erp.put(bad, "RegisterDate", "yesterday")
        assert set(await world.poll()) == {text(good)}
        (rejected,) = [each for page in world.pages for each in page.rejected]
        assert (rejected.remote_id, rejected.field) == (text(bad), "RegisterDate")
        with pytest.raises(RecordRejected, match="RegisterDate: expected a date"):
            await world.connector.read(text(bad))


# finding changes


async def test_a_poll_tells_changes_of_every_kind_and_costs_one_call():
    async with rm(token_lifetime=86_400) as world:
        keys = [order_made(world) for _ in range(4)]
        world.erp.sell()
        await world.poll()
        world.clock.tick()
        world.erp.change_line(keys[2], 1, {"Quantity": 90})
        world.clock.tick()
        world.erp.cancel(keys[0])
        changed = await world.poll()
        assert list(changed) == [text(keys[2]), text(keys[0])]
        world.clock.tick()
        (call,) = await world.lists()
        assert (call.query["order"], call.query["page"]) == ("-RECMODIFIEDON", "1")


async def test_a_change_that_commits_late_is_found_within_the_overlap_and_told_once():
    async with rm() as world:
        first, late = order_made(world), order_made(world)
        await world.poll()
        world.clock.tick()
        world.erp.approve(first)
        assert set(await world.poll()) == {text(first)}
        with world.erp.stamped_at(world.clock() - dt.timedelta(minutes=3)):
            world.erp.change_line(late, 1, {"Quantity": 7})
        assert set(await world.poll()) == {text(late)}
        assert await world.poll() == {}


async def test_a_stamp_in_the_future_does_not_carry_the_cursor_there():
    async with rm() as world:
        first, second = order_made(world), order_made(world)
        await world.poll()
        with world.erp.stamped_at(MONDAY + dt.timedelta(days=400)):
            world.erp.approve(first)
        assert set(await world.poll()) == {text(first)}
        world.clock.tick()
        world.erp.approve(second)
        assert set(await world.poll()) == {text(second)}


async def test_without_an_order_by_change_every_poll_walks_through_all():
    async with rm(by_change=False) as world:
        keys = {text(order_made(world)) for _ in range(5)}
        assert set(await world.poll()) == keys
        world.clock.tick()
        assert set(await world.poll()) == keys
        found = await world.connector.found()
        assert "does not list movements by RECMODIFIEDON" in found.changes
        assert found.fix


async def test_a_movement_without_a_stamp_makes_every_poll_a_pass():
    async with rm() as world:
        old = order_made(world)
        with world.erp.stamped_at(None):
            world.erp.approve(old)
        keys = {text(old), text(order_made(world))}
        for _ in range(2):
            assert set(await world.poll()) == keys


async def test_the_order_by_change_is_found_later_too_and_then_used():
    async with rm(by_change=False) as world:
        key = order_made(world)
        order_made(world)
        await world.poll()
        world.erp.options = RmOptions(clock=world.clock)
        await world.poll()
        world.clock.tick()
        world.erp.approve(key)
        assert set(await world.poll()) == {text(key)}
        assert (await world.connector.found()).fix == ()


async def test_one_movement_says_nothing_of_an_order_and_a_list_that_turns_out_unsorted_is_walked_by_id():
    async with rm() as world:
        keys = [order_made(world)]
        await world.poll()
        assert (await world.connector.found()).fix
        keys.append(order_made(world))
        assert set(await world.poll()) == set(map(text, keys))
        assert (await world.connector.found()).fix == ()
        world.clock.tick()
        world.erp.approve(keys[1])
        world.erp.options = RmOptions(clock=world.clock, by_change=False)
        for _ in range(2):
            assert set(await world.poll()) == set(map(text, keys))
        begun = [page async for page in world.connector.walk(None, dt.date(2026, 1, 1))]
        assert {order.remote_id for page in begun for order in page.orders} == set(map(text, keys))
        world.connector = world.connect(stamps="on")
        world.clock.tick()
        world.erp.approve(keys[1])
        with pytest.raises(UnexpectedReply, match="another order than asked for"):
            [page async for page in world.connector.walk(None, dt.date(2026, 1, 1))]


async def test_a_list_that_refuses_the_order_is_walked_by_id():
    async with rm() as world:
        key = order_made(world)
        world.erp.faults.chance = lambda call, request: (
            "500_ttalk" if call == "list" and "RECMODIFIEDON" in request.query.get("order", "") else None
        )
        assert set(await world.poll()) == {text(key)}


async def test_stamps_that_are_said_to_be_there_are_not_asked_for():
    async with rm({"stamps": "on"}) as world:
        order_made(world)
        await world.poll()
        orders = [each.query["order"] for each in world.erp.seen if "order" in each.query]
        assert "RECMODIFIEDON" not in orders


async def test_a_long_list_of_changes_is_read_again_by_id_beyond_what_is_held():
    async with rm({"page_size": 4}) as world:
        world.connector = world.connect(held=2)
        keys = [order_made(world) for _ in range(7)]
        await world.poll()
        for key in keys:
            world.clock.tick()
            world.erp.approve(key)
        gone = keys.pop(0)
        world.erp.before_list = lambda: world.erp.movement(gone) and world.erp.delete(gone)
        assert list(await world.poll()) == [text(key) for key in keys]


async def test_where_the_clock_is_put_back_a_poll_begins_that_much_earlier():
    berlin = "Europe/Berlin"
    late, hour, overlap = dt.datetime.fromisoformat("2026-10-25T02:50"), dt.timedelta(hours=1), dt.timedelta(minutes=5)
    assert before(late, overlap, berlin) == late - overlap - hour
    assert before(late + hour, overlap, berlin) == late + hour - overlap
    assert before(late, overlap, ZONE) == late - overlap
    assert before(LONG_AGO, dt.timedelta(days=1), ZONE) == LONG_AGO


# walking


@pytest.mark.parametrize("size", [2, 3, 7])
async def test_movements_that_are_deleted_under_the_reader_hide_no_other(size):
    async with rm({"page_size": size}) as world:
        keys = [order_made(world) for _ in range(30)]
        doomed = iter(keys[:20])

        def delete_the_first():
            for key in itertools.islice(doomed, 3):
                world.erp.delete(key)

        world.erp.before_list = delete_the_first
        assert set(await world.poll()) >= {text(key) for key in keys[20:]}


async def test_a_walk_of_a_window_reads_the_newest_only():
    async with rm({"page_size": 2}) as world:
        old = [order_made(world) for _ in range(6)]
        world.clock.tick(days=40)
        new = [order_made(world) for _ in range(3)]
        pages = [page async for page in world.connector.walk(None, dt.date(2026, 12, 1))]
        read = [order.remote_id for page in pages for order in page.orders]
        assert sorted(read) == sorted(text(key) for key in new)
        world.clock.tick()
        world.erp.approve(old[0])
        world.cursor = pages[-1].cursor
        assert text(old[0]) in await world.poll()


async def test_lines_that_come_collapsed_are_read_by_id_or_the_order_is_rejected():
    async with rm(expands=("read",)) as world:
        key = order_made(world)
        order = (await world.poll())[text(key)]
        assert len(order.lines) == 2
    async with rm(expands=()) as world:
        key = order_made(world)
        with pytest.raises(RecordRejected, match="Items: collapsed although they were asked for"):
            await world.connector.read(text(key))


@given(position=st.integers(0, 5000), size=st.integers(2, 300), shared=st.integers(1, 5000))
def test_a_window_holds_the_record_before_it_and_reaches_further(position, size, shared):
    begin, page, length = cut(position, size, shared)
    assert begin == (page - 1) * length
    assert begin <= max(0, position - min(shared, position))
    assert begin + length > position
    assert length <= size or position > 0


@given(
    st.lists(st.lists(st.integers(0, 60), max_size=6), max_size=30),
    st.integers(2, 9),
    st.sampled_from([BY_ID, BY_CHANGE]),
)
async def test_a_walk_misses_no_record_that_stays(deletions, size, order):
    records = [Movement((1, number), LONG_AGO + dt.timedelta(seconds=number // 3), number) for number in range(61)]
    there = sorted(records, key=order.key)
    kept = {each.id for each in records} - {(1, number) for some in deletions for number in some}
    coming = iter(deletions)

    async def ask(text, page, length):
        assert text == order.text
        gone = {(1, number) for number in next(coming, [])}
        there[:] = [each for each in there if each.id not in gone]
        part = there[(page - 1) * length : page * length]
        return part, len(there) > page * length

    read = [each.id async for window in windows(ask, order, size) for each in window.movements]
    assert kept <= set(read)


async def test_a_walk_goes_on_behind_a_place_that_others_have_moved():
    records = [Movement((1, number), None, number) for number in range(40)]

    async def ask(_text, page, length):
        return records[(page - 1) * length : page * length], len(records) > page * length

    seen = [window async for window in windows(ask, BY_ID, 10)][1]
    del records[2:9]
    rest = [each.id async for window in windows(ask, BY_ID, 10, seen.place) for each in window.movements]
    assert rest == [(1, number) for number in range(seen.place.last[1] + 1, 40)]


async def test_smaller_pages_than_asked_for_are_taken_as_they_come():
    async with rm(largest_page=7) as world:
        keys = {text(order_made(world)) for _ in range(11)}
        assert set(await world.poll()) == keys


async def test_a_list_that_ignores_the_order_by_id_or_gives_single_movements_is_told():
    async def backwards(_text, _page, _length):
        return [Movement((1, 2), None, 2), Movement((1, 1), None, 1)], False

    async def single(_text, _page, _length):
        return [Movement((1, 1), None, 1)], True

    for ask, told in ((backwards, "another order than asked for"), (single, "come 1 a page")):
        with pytest.raises(UnexpectedReply, match=told):
            [window async for window in windows(ask, BY_ID, 10, Place())]


async def test_a_record_that_does_not_name_itself_is_told_and_hides_no_other():
    async with rm() as world:
        keys = [order_made(world) for _ in range(3)]
        world.erp.put(keys[1], "MovementId", None)
        assert set(await world.poll()) == {text(keys[0]), text(keys[2])}
        assert [each.field for page in world.pages for each in page.rejected][:1] == ["CompanyId, MovementId"]


async def test_orders_are_counted_when_they_are_one_page():
    async with rm({"page_size": 5}) as world:
        for _ in range(4):
            order_made(world)
        assert await world.connector.count(None) == 4
        for _ in range(4):
            order_made(world)
        assert await world.connector.count(None) is None


async def test_a_filter_is_sent_with_every_list():
    async with rm({"filter": "MovementTypeCode eq '1.1.10'"}) as world:
        key = order_made(world)
        world.erp.sell()
        assert set(await world.poll()) == {text(key)}
        assert all(each.query.get("$filter") for each in world.erp.seen if each.path.endswith("/movements"))


# logging in


async def test_a_token_is_renewed_before_it_ends_and_after_a_401():
    async with rm() as world:
        order_made(world)
        await world.poll()
        assert (world.erp.login.logins, world.erp.login.refreshes) == (1, 0)
        world.erp.login.expire_tokens()
        await world.poll()
        assert (world.erp.login.logins, world.erp.login.refreshes) == (1, 1)
        world.erp.login.expire_tokens()
        world.erp.login.expire_refresh_tokens()
        await world.poll()
        assert (world.erp.login.logins, world.erp.login.refreshes) == (2, 1)


async def test_basic_login_sends_no_token_call():
    async with rm({"login": "basic"}) as world:
        key = order_made(world)
        assert set(await world.poll()) == {text(key)}
        assert world.erp.login.logins == 0
        with pytest.raises(CredentialsRefused):
            await world.connect(password="wrong").read("1|1")


async def test_a_wrong_password_is_tried_once():
    async with rm() as world:
        connector = world.connect(password="wrong")
        for _ in range(3):
            with pytest.raises(CredentialsRefused):
                await connector.read("1|4701")
        assert world.erp.login.refused == 1


@pytest.mark.parametrize("answer", [{}, {"access_token": "x"}, {"access_token": "x", "expires_in": True}, []])
async def test_a_token_endpoint_that_gives_no_token_is_told(answer):
    def reply(_request):
        return httpx.Response(200, json=answer)

    settings = RmSettings(url="http://erp.example", company=1, purchase_types=["1.1.10"])
    async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client:
        connector = RmConnector(settings, RmCredentials(username="a", password="b"), client)
        with pytest.raises(UnexpectedReply, match="without access_token and expires_in"):
            await connector.read("1|1")


# faults


async def test_a_404_with_rms_words_means_gone_and_one_without_does_not():
    async with rm() as world:
        key = order_made(world)
        world.erp.delete(key)
        assert await world.connector.read(text(key)) is None
        assert await world.connector.read("no id") is None

    def html(_request):
        return httpx.Response(404, html="<html>no</html>")

    settings = RmSettings(url="http://erp.example", company=1, purchase_types=["1.1.10"], login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(html)) as client:
        connector = RmConnector(settings, RmCredentials(username="a", password="b"), client)
        with pytest.raises(Unsupported):
            await connector.read("1|1")


@pytest.mark.parametrize("charset", ["utf-8", "cp1252-declared", "cp1252-silent"])
async def test_a_fault_is_told_in_rms_own_words_whatever_its_encoding(charset):
    async with rm(charset=charset) as world:
        key = order_made(world, fields={"Observation": "Peça"})
        assert (await world.connector.read(text(key))).notes == "Peça"
        world.erp.faults.next("500_ttalk", on="read")
        with pytest.raises(Unavailable, match="500: Erro na execução - Tempo limite"):
            await world.connector.read(text(key))
        world.erp.faults.next("200_status_400", on="read")
        with pytest.raises(UnexpectedReply, match="RM answered without a movement: Requisição inválida"):
            await world.connector.read(text(key))


async def test_the_bar_of_an_id_is_encoded_in_its_address():
    paths = []

    def answer(request):
        paths.append(request.url.raw_path)
        return httpx.Response(404, json={"code": "404", "message": "Movimento não localizado na base"})

    settings = RmSettings(url="http://erp.example/", company=1, purchase_types=["1.1.10"], login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await RmConnector(settings, RmCredentials(username="a", password="b"), client).read("1|4711") is None
    assert paths == [b"/api/mov/v1/Movements/1%7C4711?expand=Items"]


# samples and the mapping


async def test_a_sample_shows_what_no_rule_reads_and_which_columns_are_missing():
    mapping = {"fields": {"Nowhere": "auto"}, "line_fields": {"NoItem": "auto"}}
    async with rm(mapping=mapping) as world:
        for number in range(4):
            order_made(world, fields={"OrderNumber": f"P{number}"})
        sample = await world.connector.sample(2)
        assert len(sample.page.orders) == 2
        assert sample.missing == ("NoItem", "Nowhere")
        unread = {field.source: field.samples for field in sample.unmapped}
        assert unread["OrderNumber"] == ("P3", "P2")
        hidden = [
            field.path
            for field in world.connector.capabilities().fields
            if field.source == "Nowhere" and not field.readable
        ]
        assert hidden == ["custom_fields.Nowhere"]


def test_settings_take_codes_with_commas_and_only_purchase_types():
    usual = {"url": "http://erp.example", "company": 1}
    assert settings_given(RM, usual | {"purchase_types": "1.1.10, 1.1.11"}).purchase_types == {"1.1.10", "1.1.11"}
    with pytest.raises(UserError, match=r"2\.1\.05 is no movement type of group 1\.1"):
        settings_given(RM, usual | {"purchase_types": "1.1.10,2.1.05"})
    with pytest.raises(UserError, match="purchase_types is missing"):
        settings_given(RM, usual)
    with pytest.raises(UserError, match="user and password are credentials"):
        settings_given(RM, usual | {"url": "http://u:p@erp.example", "purchase_types": "1.1.10"})
    with pytest.raises(UserError, match="there is no time zone"):
        settings_given(RM, usual | {"purchase_types": "1.1.10", "time_zone": "Brasil"})


def test_a_mapping_may_name_what_rm_has():
    told = {
        "statuses": {"Q": "on_hold"},
        "fields": {"complementaryFields.PRIORITY": "text"},
        "decimals": {"UnitPrice": 4},
    }
    assert mapping_given(RM, told).told() == told
    with pytest.raises(UserError, match="is no status of a movement"):
        mapping_given(RM, {"statuses": {"AB": "on_hold"}})


# what RM takes


def test_what_rm_takes_is_the_difference_of_the_two_types():
    rules = [
        Rule("branch.remote_id", "BranchId", derived("")),
        Rule("notes", "Observation", derived("")),
        Rule("total", "NetValue", derived("")),
        Rule("buyer", "Nowhere", derived("")),
        Rule("lines[].quantity", "Quantity", derived("")),
        Rule("lines[].open_quantity", "ReceivableQuantity", derived("")),
    ]
    taken = writable(rules)
    assert set(taken) == {"branch.remote_id", "notes", "lines[].quantity"}
    assert (taken["branch.remote_id"].required, taken["branch.remote_id"].until) == (True, None)
    assert (taken["notes"].required, taken["notes"].until) == (False, Status.APPROVED)


async def test_every_capability_agrees_with_the_contract():
    async with rm(mapping={"fields": {"OrderNumber": "auto", "complementaryFields.X": "auto"}}) as world:
        fields = {field.path: field for field in world.connector.capabilities().fields}
    header = {path: field for path, field in fields.items() if field.source and not path.startswith("lines[]")}
    for path, field in header.items():
        names = {part.partition(".")[0] for part in field.source.split(", ")}
        assert field.creatable == (names <= MOVEMENT.keys() - COMPUTED), path
        assert field.updatable == (names <= MOVEMENT_UPDATE.keys() - COMPUTED), path
    for path in ("branch.remote_id", "currency", "currency_raw"):
        assert fields[path].creatable
        assert not fields[path].updatable
    assert {path for path, field in fields.items() if field.required} == NEEDED
    assert fields["custom_fields.complementaryFields.X"].updatable
    assert MOVEMENT.keys() - MOVEMENT_UPDATE.keys() == SET_ONCE


def test_the_schemas_are_schemas_and_lengths_agree_with_the_field_mapping():
    for properties in (MOVEMENT, MOVEMENT_UPDATE):
        jsonschema.Draft202012Validator.check_schema(schema(properties))
    update = jsonschema.Draft202012Validator(schema(MOVEMENT_UPDATE))
    body = {"InternalId": "1|4711", "CompanyId": 1, "MovementId": 4711, "Status": "A", "AplicationIntegration": "T"}
    assert update.is_valid(body | {"Observation": "x", "Items": [{"SequentialId": 1, "Quantity": 2.5}]})
    assert not update.is_valid(body | {"BranchId": 2})
    assert not update.is_valid(body | {"Observation": "x" * 61})
    assert not update.is_valid(body | {"Items": [{"Kwantity": 1}]})
    assert ITEM["WarehouseCode"]["maxLength"] == 15


# times


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2026-11-02T00:00:00", dt.date(2026, 11, 2)),
        ("2026-11-02", dt.date(2026, 11, 2)),
        ("0001-01-01T00:00:00", None),
        (None, None),
        ("", None),
    ],
)
def test_days_are_the_first_half_of_a_time(value, day):
    assert day_of(value) == day


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        ("2026-11-02T09:00:01", "2026-11-02T12:00:01+00:00"),
        ("2026-11-02T09:00:01.1234567", "2026-11-02T12:00:01.123456+00:00"),
        ("2026-11-02T09:00:01-03:00", "2026-11-02T12:00:01+00:00"),
        ("2026-11-02T12:00:01Z", "2026-11-02T12:00:01+00:00"),
        ("0001-01-01T00:00:00", None),
    ],
)
def test_times_are_local_unless_they_say_otherwise(value, utc):
    told = utc_of(local_of(value, ZONE), ZONE)
    assert (told.isoformat() if told else None) == utc


@pytest.mark.parametrize("value", ["tomorrow", "2026-13-01T00:00:00", "2026-11-02 09:00", "9999-12-31T23:59:59-03:00"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="time"):
        utc_of(local_of(value, "Pacific/Kiritimati"), ZONE)
