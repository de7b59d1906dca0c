"""Pages, the outbox and admission on a real PostgreSQL: all or nothing, in order, each event once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from relay.domain.connections import ConnectionState, Cursor, Polled
from relay.domain.endpoints import EndpointOptions, EndpointState, Ordering
from relay.domain.orders import PurchaseOrder
from relay.ports import OutboxEntry
from relay.store.outbox import MOST_BYTES
from tests.fixtures.store import NOW, entry, observed

ORDER = PurchaseOrder(remote_id="p1", status="approved", lines=[{"remote_id": "1", "quantity": "1.500"}])


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
async def hook(world):
    return await world.endpoint()


def ids(rows):
    return [row.event_id for row in rows]


async def published(world, erp, ago=timedelta(0)):
    rows = await world.outbox.to_publish(erp.lease, 1000)
    await world.outbox.save_published(erp.lease, [row.position for row in rows])
    await world.sql("UPDATE outbox SET published_at = now() - $1::interval WHERE state = 'published'", ago)
    return rows


# Pages


async def test_a_page_is_stored_with_snapshots_events_and_cursor(world, erp):
    snapshot, event = observed(erp.subject, ORDER)
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], Cursor("c1"))
    assert await world.orders.snapshots(erp.lease.subject, ["p1", "p2"]) == {"p1": snapshot}
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    assert (row.event_id, row.body, row.customer_id) == (event.event_id, event.body, "acme")
    assert await world.one("SELECT cursor FROM connections") == "c1"


async def test_a_page_without_a_cursor_leaves_the_cursor(world, erp):
    await world.orders.save_page(erp.lease, erp.subject, [], [], Cursor("c1"))
    await world.orders.save_page(erp.lease, erp.subject, [], [], None)
    assert await world.one("SELECT cursor FROM connections") == "c1"


async def test_a_page_is_stored_whole_or_not_at_all(world, erp):
    snapshot, event = observed(erp.subject, ORDER)
    before = await world.everything()
    impossible = replace(event, sequence=2**31)
    with pytest.raises(asyncpg.DataError):
        await world.orders.save_page(erp.lease, erp.subject, [snapshot], [impossible], Cursor("c1"))
    assert await world.everything() == before


async def test_a_page_stored_twice_makes_no_second_event(world, erp):
    snapshot, event = observed(erp.subject, ORDER)
    for _ in range(2):
        await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], Cursor("c1"))
    assert await world.states("outbox") == ["pending"]


async def test_an_order_that_stands_twice_in_one_page_is_stored_as_it_was_last(world, erp):
    first, created = observed(erp.subject, ORDER)
    second, deleted = observed(erp.subject, ORDER.deleted(), first)
    await world.orders.save_page(erp.lease, erp.subject, [first, second], [created, deleted], None)
    assert (await world.orders.snapshots(erp.lease.subject, ["p1"]))["p1"] == second
    assert ids(await world.outbox.to_publish(erp.lease, 10)) == [created.event_id, deleted.event_id]


async def test_a_record_with_junk_for_an_id_is_still_a_dead_letter(world, erp):
    letter = replace(
        entry(erp.lease.subject, "p1", 0, stream="dead-letters"),
        remote_id="a\x00b\ud800",
        problem="C7_NUM: \x00 is no number",
    )
    await world.orders.save_page(erp.lease, erp.subject, [], [letter], None)
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    assert (row.remote_id, row.problem) == ("a\ufffdb?", "C7_NUM: \ufffd is no number")


# Polls and full passes


async def test_a_poll_that_went_well_clears_the_problem(world, erp):
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW, 2, "ERP \x00 down", ("odd \x00",)))
    seen = await world.registry.connection("erp")
    assert (seen.problem, seen.notices, seen.subject.failures) == ("ERP \ufffd down", ("odd \ufffd",), 2)
    assert seen.seen_at is None
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW, why="quiet for 4 polls", quiet=4))
    seen = await world.registry.connection("erp")
    assert (seen.problem, seen.subject.failures) == (None, 0)
    assert (seen.subject.due_why, seen.subject.quiet, seen.subject.synced) == ("quiet for 4 polls", 4, False)
    assert seen.seen_at


async def test_notices_stand_newest_first_until_a_person_resumes(world, erp):
    for notices in (("b", "a"), (), ("c", "a"), ()):
        await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW, notices=notices))
    assert (await world.registry.connection("erp")).notices == ("c", "a", "b")
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW, notices=tuple(map(str, range(30)))))
    assert (await world.registry.connection("erp")).notices == tuple(map(str, range(20)))
    await world.registry.set_connection(erp.lease.subject, ConnectionState.ACTIVE)
    assert (await world.registry.connection("erp")).notices == ()


async def test_the_problem_of_a_full_pass_outlives_good_polls_until_the_next_pass(world, erp):
    for problem in ("too many are missing", None):
        await world.orders.save_reconciled(erp.lease, problem=problem, due_at=NOW)
        await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW))
        assert (await world.registry.connection("erp")).problem == problem


async def test_refused_credentials_are_seen_and_leave_the_lease_alone(world, erp):
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.NEEDS_RECONNECT, NOW, 1, "login refused"))
    assert (await world.registry.connection("erp")).subject.state is ConnectionState.NEEDS_RECONNECT
    assert (await world.connections.renew([erp])).held == {erp.lease.subject}


async def test_a_person_who_pauses_during_a_poll_has_the_last_word(world, erp):
    await world.registry.set_connection(erp.lease.subject, ConnectionState.PAUSED)
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW))
    assert (await world.registry.connection("erp")).subject.state is ConnectionState.PAUSED


async def test_orders_missing_from_passes_in_a_row_are_counted_and_forgiven_when_seen(world, erp):
    for remote_id in ("p1", "p2", "p3"):
        snapshot, event = observed(erp.subject, ORDER.model_copy(update={"remote_id": remote_id}))
        await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], None)
    assert await world.orders.save_missing(erp.lease, ["p1", "p2"]) == {"p1": 1, "p2": 1}
    assert await world.orders.save_missing(erp.lease, ["p2"]) == {"p2": 2}
    assert await world.orders.save_missing(erp.lease, ["p1"]) == {"p1": 1}
    assert await world.orders.save_missing(erp.lease, []) == {}


async def test_an_order_that_changed_is_no_longer_missing(world, erp):
    snapshot, event = observed(erp.subject, ORDER)
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], None)
    await world.orders.save_missing(erp.lease, ["p1"])
    after, change = observed(erp.subject, ORDER.model_copy(update={"number": "7"}), snapshot)
    await world.orders.save_page(erp.lease, erp.subject, [after], [change], None)
    assert await world.orders.save_missing(erp.lease, ["p1"]) == {"p1": 1}


async def test_deleted_orders_are_no_longer_alive(world, erp):
    snapshot, event = observed(erp.subject, ORDER)
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [event], None)
    assert await world.orders.alive(erp.lease.subject) == {"p1"}
    after, change = observed(erp.subject, ORDER.deleted(), snapshot)
    await world.orders.save_page(erp.lease, erp.subject, [after], [change], None)
    assert await world.orders.alive(erp.lease.subject) == set()


async def test_a_full_pass_without_a_word_keeps_the_problem_of_the_poll(world, erp):
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, NOW, 1, "down"))
    await world.orders.save_reconciled(erp.lease, problem=None, due_at=NOW)
    seen = await world.registry.connection("erp")
    assert (seen.problem, seen.subject.reconcile_due_at) == ("down", NOW)
    await world.orders.save_reconciled(erp.lease, problem="too many are missing", due_at=NOW)
    assert (await world.registry.connection("erp")).problem == "too many are missing"


# Publishing


async def test_events_are_published_in_the_order_they_were_stored(world, erp):
    told = [*await world.tell(erp, "p2", "p1"), *await world.tell(erp, "p1", "p2")]
    assert ids(await world.outbox.to_publish(erp.lease, 3)) == told[:3]
    assert ids(await world.outbox.to_publish(erp.lease, 30)) == told


async def test_large_events_are_published_a_few_at_a_time_and_one_at_least(world, erp):
    told = await world.tell(erp, "p1", "p2", "p3")
    large = MOST_BYTES // 2 + 1
    await world.sql("UPDATE outbox SET body = convert_to(repeat('x', $1), 'UTF8')", large)
    assert ids(await world.outbox.to_publish(erp.lease, 30)) == told[:2]
    await world.sql("UPDATE outbox SET body = convert_to(repeat('x', $1), 'UTF8')", 2 * large)
    assert ids(await world.outbox.to_publish(erp.lease, 30)) == told[:1]


async def test_a_connection_publishes_its_own_outbox_only(world, erp):
    other = await world.connection("other")
    await world.tell(other, "p1")
    assert await world.outbox.to_publish(erp.lease, 10) == []


async def test_what_was_published_is_not_published_again_until_it_is_stale(world, erp):
    told = await world.tell(erp, "p1")
    await published(world, erp, ago=timedelta(seconds=29))
    assert await world.outbox.to_publish(erp.lease, 10) == []
    await published(world, erp, ago=timedelta(seconds=31))
    assert ids(await world.outbox.to_publish(erp.lease, 10)) == told


async def test_stale_events_go_before_new_ones_so_that_order_is_kept(world, erp):
    old = await world.tell(erp, "p1")
    await published(world, erp, ago=timedelta(minutes=1))
    new = await world.tell(erp, "p1")
    assert ids(await world.outbox.to_publish(erp.lease, 10)) == [*old, *new]
    assert ids(await world.outbox.to_publish(erp.lease, 1)) == old


async def test_an_event_admitted_before_it_was_marked_stays_relayed(world, erp):
    told = await world.tell(erp, "p1")
    rows = await world.outbox.to_publish(erp.lease, 10)
    await world.admissions.admit(told)
    await world.outbox.save_published(erp.lease, [row.position for row in rows])
    assert await world.states("outbox") == ["relayed"]


async def test_a_dead_letter_is_done_when_the_broker_has_it(world, erp):
    letter = entry(erp.lease.subject, "p1", 0, stream="dead-letters")
    await world.orders.save_page(erp.lease, erp.subject, [], [letter], None)
    await published(world, erp)
    assert await world.states("outbox") == ["relayed"]


async def test_an_event_that_the_broker_refuses_leaves_one_dead_letter_and_can_still_be_admitted(world, erp, hook):
    told = await world.tell(erp, "p1")
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    letter = OutboxEntry("ref_1", "dead-letters", "p1", 1, "too_large", NOW, b"note", "too \x00 large")
    for _ in range(2):
        await world.outbox.save_refused(erp.lease, row, letter)
    assert ids(await world.outbox.to_publish(erp.lease, 10)) == ["ref_1"]
    assert await world.one("SELECT problem FROM outbox WHERE event_id = $1", told[0]) == "too \ufffd large"
    assert (await world.admissions.admit(told)).deliveries == 1


async def test_an_event_that_came_back_before_its_state_was_refused_stays_relayed(world, erp):
    told = await world.tell(erp, "p1")
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    await world.admissions.admit(told)
    letter = OutboxEntry("ref_1", "dead-letters", "p1", 1, "too_large", NOW, b"note", "too large")
    await world.outbox.save_refused(erp.lease, row, letter)
    assert await world.states("outbox") == ["relayed", "pending"]


# Admission


async def test_an_event_becomes_a_delivery_per_endpoint_that_wants_it(world, erp):
    for name, narrowed in {
        "all": {},
        "type": {"event_types": ("purchase_order.updated",)},
        "other-type": {"event_types": ("purchase_order.closed",)},
        "connection": {"connections": (erp.lease.subject,)},
        "other-connection": {"connections": ("con_2",)},
    }.items():
        await world.endpoint(name, **narrowed)
    await world.endpoint("stranger", customer="other")
    assert (await world.admissions.admit(await world.tell(erp, "p1"))).deliveries == 3
    found = {row["endpoint"] for row in await world.registry.deliveries()}
    assert found == {"all", "type", "connection"}


async def test_only_the_head_of_a_lane_is_due(world, erp, hook):
    await world.admissions.admit(await world.tell(erp, "p1", "p2"))
    await world.admissions.admit([*await world.tell(erp, "p1", "p2"), *await world.tell(erp, "p2")])
    assert await world.waiting(hook.lease.subject) == [
        ("p1", True),
        ("p2", True),
        ("p1", False),
        ("p2", False),
        ("p2", False),
    ]
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p2 1"]


async def test_several_events_of_a_new_lane_in_one_batch_have_one_head(world, erp, hook):
    told = [*await world.tell(erp, "p1"), *await world.tell(erp, "p1"), *await world.tell(erp, "p1")]
    await world.admissions.admit(told[::-1])
    assert await world.waiting(hook.lease.subject) == [("p1", True), ("p1", False), ("p1", False)]


async def test_an_event_is_admitted_once_however_often_it_comes(world, erp, hook):
    told = await world.tell(erp, "p1")
    assert (await world.admissions.admit([*told, *told])).events == 1
    again = await world.admissions.admit(told)
    assert (again.events, again.deliveries, again.early, again.unknown) == (0, 0, 0, ())
    assert len(await world.states()) == 1


async def test_an_event_before_its_predecessor_waits_to_be_published_again(world, erp, hook):
    first, second = [*await world.tell(erp, "p1"), *await world.tell(erp, "p1")]
    await published(world, erp, ago=timedelta(minutes=1))
    early = await world.admissions.admit([second])
    assert (early.events, early.early) == (0, 1)
    assert ids(await world.outbox.to_publish(erp.lease, 10)) == [first, second]
    assert (await world.admissions.admit([first, second])).events == 2
    assert await world.states("outbox") == ["relayed", "relayed"]


async def test_events_that_relay_never_made_are_named(world, erp):
    told = await world.tell(erp, "p1")
    strange = ["evt_unknown", "nul \x00", "half \ud800"]
    admitted = await world.admissions.admit([*told, *strange])
    assert (admitted.events, sorted(admitted.unknown)) == (1, sorted(strange))


async def test_a_dead_letters_id_is_not_an_event(world, erp):
    letter = entry(erp.lease.subject, "p1", 0, stream="dead-letters")
    await world.orders.save_page(erp.lease, erp.subject, [], [letter], None)
    assert (await world.admissions.admit([letter.event_id])).unknown == (letter.event_id,)


async def test_an_empty_batch_is_nothing(world):
    assert (await world.admissions.admit([])).events == 0


async def test_events_that_nobody_wants_are_relayed_all_the_same(world, erp):
    await world.admissions.admit(await world.tell(erp, "p1"))
    assert await world.states("outbox") == ["relayed"]


async def test_a_disabled_endpoints_deliveries_wait_for_it(world, erp, hook):
    await world.deliveries.disable(hook.lease, hook.subject.url, "gone")
    assert (await world.admissions.admit(await world.tell(erp, "p1"))).deliveries == 1


async def test_admission_wakes_the_endpoints_by_id(world, erp, database_url):
    hooks = [await world.endpoint(f"h{number}") for number in range(160)]
    told = await world.tell(erp, "p1")
    heard = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("relay_deliveries", lambda *said: heard.put_nowait(said[-1]))
    await world.admissions.admit(told)
    said = [await asyncio.wait_for(heard.get(), 10) for _ in range(2)]
    await listener.close()
    assert sorted(",".join(said).split(",")) == sorted(hook.lease.subject for hook in hooks)


async def told_of(world, erp, **orders):
    """An order of each of these names with this total; the ids of their events."""
    looks = [
        observed(erp.subject, ORDER.model_copy(update={"remote_id": remote_id, "total": Decimal(total)}))
        for remote_id, total in orders.items()
    ]
    snapshots, entries = zip(*looks, strict=True)
    await world.orders.save_page(erp.lease, erp.subject, snapshots, entries, None)
    return [each.event_id for each in entries]


async def orders_for(world, endpoint):
    return [remote_id for remote_id, _ in await world.waiting(endpoint.lease.subject)]


async def test_an_endpoint_gets_the_events_that_its_condition_holds_for(world, erp, hook):
    large = await world.endpoint("large", options=EndpointOptions(where="data.order.total > 1000"))
    small = await world.endpoint(
        "small", options=EndpointOptions(where="data.order.total < 1000"), event_types=("purchase_order.created",)
    )
    admitted = await world.admissions.admit(await told_of(world, erp, p1="1000.01", p2="999.99", p3="1000"))
    assert (admitted.events, admitted.deliveries) == (3, 5)
    assert await orders_for(world, hook) == ["p1", "p2", "p3"]
    assert await orders_for(world, large) == ["p1"]
    assert await orders_for(world, small) == ["p2"]


async def test_a_condition_is_asked_of_each_event_of_a_long_batch(world, erp):
    large = await world.endpoint(options=EndpointOptions(where="data.order.total >= 100"))
    told = await told_of(world, erp, **{f"p{number}": str(number) for number in range(170)})
    assert (await world.admissions.admit(told)).deliveries == 70
    assert await orders_for(world, large) == [f"p{number}" for number in range(100, 170)]


@pytest.mark.parametrize("where", ["data.order.gone > 1", "data.order.total ~ 1", "\x00"])
async def test_a_condition_that_cannot_be_read_loses_nothing_and_is_told_of_once(world, erp, hook, where):
    options = orjson.dumps({"where": where, "ordering": "of another version"}).decode()
    await world.sql("UPDATE endpoints SET options = $1::text::json", options)
    with capture_logs() as logs:
        for _ in range(2):
            assert (await world.admissions.admit(await world.tell(erp, "p1"))).deliveries == 1
    (warning,) = [each for each in logs if each["event"] == "filter.ignored"]
    assert warning["endpoint"] == hook.lease.subject
    assert await world.waiting(hook.lease.subject) == [("p1", True), ("p1", False)]


async def test_where_order_does_not_matter_everything_is_due_at_once(world, erp):
    options = EndpointOptions(ordering=Ordering.UNORDERED)
    hook = await world.endpoint(options=options)
    told = [*await world.tell(erp, "p1"), *await world.tell(erp, "p1")]
    await world.admissions.admit(told)
    await world.admissions.admit(await world.tell(erp, "p1"))
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p1 2", b"p1 3"]


@pytest.mark.parametrize("state", sorted(set(EndpointState) - {EndpointState.ACTIVE}))
async def test_an_endpoint_that_is_sent_nothing_still_gets_its_deliveries(world, erp, hook, state):
    await world.registry.set_endpoint(hook.lease.subject, state)
    assert (await world.admissions.admit(await world.tell(erp, "p1"))).deliveries == 1


async def test_deliveries_of_an_endpoint_are_numbered_from_1_without_a_gap(world, erp, hook):
    other = await world.endpoint("other", event_types=("purchase_order.closed",))
    for _ in range(3):
        told = await world.tell(erp, "p1", "p2")
        await world.admissions.admit([*told, *told])
    assert await numbers(world, hook) == [1, 2, 3, 4, 5, 6]
    assert await numbers(world, other) == []


async def test_a_delivery_that_is_there_already_takes_no_number(world, erp, hook):
    told = await world.tell(erp, "p1", "p2", "p3")
    await world.admissions.admit(told[:1])
    await world.sql("UPDATE admitted SET sequence = 0")
    await world.admissions.admit(told)
    assert await numbers(world, hook) == [1, 2, 3]


async def numbers(world, endpoint):
    """The numbers of an endpoint's deliveries, in the order of their events."""
    rows = await world.sql(
        "SELECT number FROM deliveries WHERE endpoint_id = $1 ORDER BY position", endpoint.lease.subject
    )
    return [row["number"] for row in rows]
