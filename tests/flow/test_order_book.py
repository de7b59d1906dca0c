"""Orders as people read them, their histories, and a connection's events as one log, from a real database."""

from datetime import datetime, timedelta

import orjson
import pytest

from relay.control.orders import Orders
from relay.domain.errors import NotFound, UserError
from relay.domain.orders import PurchaseOrder, Status, order_id
from relay.store.order_book import OrderBook
from relay.store.retention import RetentionStore
from tests.fixtures.store import NOW, observed

ERP = "con_acme_erp"


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
def orders(world):
    return Orders(OrderBook(world.database))


async def tell(world, by, remote_id, *, minutes=0, before=None, **values):
    """One look at an order, `minutes` after the first; its snapshot."""
    order = PurchaseOrder(remote_id=remote_id, **{"status": Status.APPROVED, **values})
    at = NOW + timedelta(minutes=minutes)
    snapshot, entry = observed(by.subject, order, before, at)
    await world.orders.save_page(by.lease, by.subject, [snapshot], [entry], None)
    await world.sql("UPDATE snapshots SET changed_at = $2 WHERE remote_id = $1", remote_id, at)
    return snapshot


async def test_orders_are_listed_by_their_latest_change_page_after_page(world, erp, orders):
    for number in range(5):
        await tell(world, erp, f"p{number}", minutes=number // 2)
    first = await orders.orders(ERP, most=3)
    last = first[-1]
    second = await orders.orders(ERP, most=3, before=(last.changed_at, last.remote_id))
    assert [each.remote_id for each in first + second] == ["p4", "p3", "p2", "p1", "p0"]
    assert [each.remote_id for each in await orders.orders(ERP, remote_id="p3")] == ["p3"]
    since = await orders.orders(ERP, since=NOW + timedelta(minutes=2))
    assert [each.remote_id for each in since] == ["p4"]


async def test_orders_are_listed_by_their_number(world, erp, orders):
    for remote_id, number in (("p1", "47"), ("p2", "47"), ("p3", "48")):
        await tell(world, erp, remote_id, number=number)

    async def ids(**asked):
        return [each.remote_id for each in await orders.orders(ERP, **asked)]

    assert await ids(number="47") == ["p2", "p1"]
    assert await ids(number="47", most=1) == ["p2"]
    assert await ids(number="4") == []
    assert await ids(number="47", remote_id="p1") == ["p1"]
    assert await ids(number="47", remote_id="p3") == []


async def test_an_order_is_found_by_its_id_and_whole(world, erp, orders):
    await tell(world, erp, "p|1", number="000001", raw={"C7_NUM": "000001"})
    found = await orders.order(ERP, order_id(ERP, "p|1"))
    assert (found.remote_id, found.number, found.status, found.sequence) == ("p|1", "000001", "approved", 1)
    assert found.order["raw"] == {"C7_NUM": "000001"}
    await world.sql("DELETE FROM outbox")
    kept = await orders.order(ERP, order_id(ERP, "p|1"))
    assert (kept.order["number"], "raw" in kept.order) == ("000001", False)


async def test_a_deleted_order_is_left_out_unless_asked_for(world, erp, orders):
    before = await tell(world, erp, "p1")
    await tell(world, erp, "p1", before=before, remote_was_deleted=True, status=Status.DELETED)
    assert await orders.orders(ERP) == []
    assert [each.deleted for each in await orders.orders(ERP, deleted=True)] == [True]


async def test_the_history_of_an_order_goes_back_page_after_page(world, erp, orders):
    before = None
    for number in range(4):
        before = await tell(world, erp, "p1", before=before, notes=f"note {number}")
    await tell(world, erp, "p2")
    newest = [orjson.loads(each)["data"] for each in await orders.history(ERP, order_id(ERP, "p1"), most=3)]
    older = await orders.history(ERP, order_id(ERP, "p1"), before=newest[-1]["sequence"])
    assert [each["sequence"] for each in newest] == [4, 3, 2]
    assert [orjson.loads(each)["data"]["order"]["notes"] for each in older] == ["note 0"]


async def test_the_log_is_read_from_the_oldest_to_the_newest_and_on(world, erp, orders):
    await tell(world, erp, "p1")
    await tell(world, erp, "p2")
    page = await orders.log(ERP, None, 1)
    rest = await orders.log(ERP, page.until, 10)
    assert (len(page.entries), page.until < page.last) == (1, True)
    assert (len(rest.entries), rest.until, rest.last) == (1, rest.entries[0].position, rest.until)
    assert (await orders.log(ERP, rest.until, 10)).entries == ()
    assert await orders.book.reached([ERP, "con_none"]) == {ERP: rest.until, "con_none": 0}
    with pytest.raises(UserError, match="ahead of this log"):
        await orders.log(ERP, rest.until + 1, 10)


async def test_a_large_event_does_not_hold_up_the_log(world, erp):
    for number in range(3):
        await tell(world, erp, f"p{number}")
    page = await OrderBook(world.database, page_bytes=1).page(ERP, None, 10)
    assert len(page.entries) == 1


async def test_who_reads_on_where_events_were_forgotten_is_told_so(world, erp, orders):
    await tell(world, erp, "p1")
    begin = (await orders.log(ERP, None, 1)).until
    await tell(world, erp, "p2")
    await world.sql("UPDATE outbox SET state = 'relayed', created_at = now() - interval '31 days'")
    assert await RetentionStore(world.database, timedelta(days=30)).forget() == 2
    told = await orders.log(ERP, begin, 10)
    assert (told.entries, told.forgotten) == ((), told.until)
    assert (await orders.log(ERP, told.until, 10)).forgotten is None
    fresh = await orders.log(ERP, None, 10)
    assert (fresh.entries, fresh.until) == ((), told.until)
    await tell(world, erp, "p3")
    assert len((await orders.log(ERP, fresh.until, 10)).entries) == 1


async def test_what_is_not_there_is_not_found(world, erp, orders):
    missing = [orders.orders("con_x"), orders.order(ERP, order_id(ERP, "x")), orders.log("con_x", None, 1)]
    for each in missing:
        with pytest.raises(NotFound):
            await each
    with pytest.raises(UserError, match="time zone"):
        await orders.orders(ERP, since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


async def test_the_order_id_of_the_database_is_that_of_events(world):
    for remote_id in ("01|000123", "ção|€", "x" * 200):
        assert await world.one("SELECT relay_order_id($1, $2)", ERP, remote_id) == order_id(ERP, remote_id)
