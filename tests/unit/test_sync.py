"""The sync stage and its place beside the polls: page by page, resumable, and never with an older look."""

import asyncio
from dataclasses import replace
from datetime import date, timedelta

import pytest
from structlog.testing import capture_logs

from relay.domain.connections import ConnectionState
from relay.domain.errors import CredentialsRefused, LeaseLost, Throttled, Unavailable
from relay.domain.hours import Hours
from relay.domain.orders import Status
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce, OpenSync, SyncKind
from relay.ports import Rejected
from relay.stages.attend import Attend
from relay.stages.poll import Patience, Poll
from relay.stages.reconcile import Doubt, Reconcile
from relay.stages.sync import Sync
from relay.stages.take import Take
from tests.fakes import LEASE, START, Erp, World, clock, connection, order, page, run, until

PATIENCE = Patience(timedelta(seconds=5), timedelta(minutes=15))
RESYNC = OpenSync("syn_1", SyncKind.RESYNC, Announce.CHANGES)


def world(*syncs, **values):
    made = World(**values)
    made.syncs = list(syncs)
    return made


def sync(at, erp, saved=lambda: None):
    of = connection(synced=True)
    return Sync(of, LEASE, erp, at, Take(of, at, clock, saved), clock, lambda: 0.0, PATIENCE)


def worked_off(at, erp, most=20):
    """The sync's steps until nothing is left to do at once; what was refused."""

    async def work():
        stage = sync(at, erp)
        await stage.look()
        refused = None
        for _ in range(most):
            if stage.open is None or stage.due_at > clock() or refused:
                break
            refused = await stage.run_once()
        return stage, refused

    return run(work())


def test_a_sync_reads_its_window_tells_what_differs_and_ends():
    at = world(replace(RESYNC, begin=date(2026, 1, 1)))
    erp = Erp(pages=[page(order("1"), order("2")), page(order("3"))], total=3)
    stage, _ = worked_off(at, erp)
    assert (at.told(), at.totals, erp.begins) == (["created"] * 3, [3], [(None, date(2026, 1, 1))])
    assert [(each.read, each.told, each.rejected, each.cursor) for each in at.moves] == [(2, 2, 0, "1"), (1, 1, 0, "2")]
    assert ([each.id for each in at.ended], stage.open, stage.due_at) == (["syn_1"], None, None)
    assert at.cursor is None, "the polls' own cursor stays where it was"


def test_a_sync_goes_on_where_it_was():
    at = world(replace(RESYNC, started=True, cursor="1"))
    erp = Erp(pages=[page(order("1")), page(order("2"))])
    worked_off(at, erp)
    assert (erp.begins, at.told(), at.totals) == ([("1", None)], ["created"], [])


def test_there_may_be_nothing_to_do():
    stage, _ = worked_off(world(), Erp())
    assert (stage.open, stage.due_at) == (None, None)


def test_a_page_that_cannot_be_read_is_tried_again_later_from_the_stored_place():
    at = world(RESYNC)
    erp = Erp(pages=[page(order("1")), Throttled("429", retry_after=60), page(order("2"))])
    with capture_logs() as logs:
        stage, _ = worked_off(at, erp)
    assert (stage.due_at, at.sync_problems, at.syncs[0].failures) == (START + timedelta(seconds=60), ["429"], 1)
    assert [line["event"] for line in logs] == ["sync.delayed"]
    stage.due_at = START
    run(stage.run_once())
    assert erp.begins == [(None, None), ("1", None)]
    assert at.syncs[0].failures == 0


def test_an_erp_that_cannot_count_now_delays_the_beginning():
    at = world(RESYNC)
    erp = Erp(pages=[page(order("1"))], total=Unavailable("away"))
    stage, _ = worked_off(at, erp)
    assert (at.sync_problems, at.syncs[0].started, stage.due_at) == (["away"], False, START + timedelta(seconds=5))


def test_refused_credentials_are_handed_on():
    at = world(RESYNC)
    error = CredentialsRefused("401")
    assert worked_off(at, Erp(pages=[error]))[1] is error


def test_a_sync_that_is_cancelled_while_its_page_is_read_stores_nothing_of_it():
    at = world(RESYNC)

    class Cancelling(Erp):
        async def walk(self, cursor, begin):
            async for each in super().walk(cursor, begin):
                at.syncs.clear()
                yield each

    stage, _ = worked_off(at, Cancelling(pages=[page(order("1"))]))
    assert (at.told(), at.known, stage.open) == ([], {}, None)


def test_a_look_leaves_what_runs_alone():
    at = world(RESYNC)

    async def work():
        stage = sync(at, Erp(pages=[page(order("1")), page(order("2"))]))
        await stage.look()
        await stage.run_once()
        pages = stage._pages
        await stage.look()
        assert stage._pages is pages
        at.syncs = [replace(RESYNC, id="syn_2")]
        await stage.look()
        assert (stage.open.id, stage._pages) == ("syn_2", None)

    run(work())


def test_warnings_are_noted_once_and_junk_is_a_letter():
    at = world(RESYNC)
    junk = Rejected("9", "C7_QUANT", "not a number", b"?")
    worked_off(at, Erp(pages=[page(order("1"), warnings=("odd",), rejected=(junk,)), page(warnings=("odd", "even"))]))
    assert [(each.notices, each.rejected) for each in at.moves] == [(("odd",), 1), (("even",), 0)]
    assert [row.stream for row in at.outbox] == ["changes", "dead-letters"]


def test_the_sync_after_it_follows_at_once():
    at = world(RESYNC, replace(RESYNC, id="syn_2"))
    stage, _ = worked_off(at, Erp(pages=[page(order("1"))]))
    assert ([each.id for each in at.ended], stage.open) == (["syn_1", "syn_2"], None)


def test_a_lost_lease_ends_it():
    with pytest.raises(LeaseLost):
        worked_off(world(RESYNC, lost=True), Erp(pages=[page(order("1"))]))


# Beside the polls


def attend(at, erp, *, every=10, **values):
    of = connection(synced=True, poll_every=timedelta(seconds=every), **values)
    take = Take(of, at, clock, lambda: None)
    timing = (clock, lambda: 0.0, PATIENCE)
    return Attend(
        Poll(of, LEASE, erp, at, take, *timing),
        Reconcile(of, LEASE, erp, at, clock, Doubt(2, 0.2)),
        Sync(of, LEASE, erp, at, take, *timing),
        clock,
        lambda: None,
    )


class Slow(Erp):
    """An ERP whose pages take four seconds; `asked` is what it was asked, in order."""

    async def changed_since(self, cursor):
        self.asked.append("poll")
        async for each in super().changed_since(cursor):
            yield each

    async def walk(self, cursor, begin):
        async for each in super().walk(cursor, begin):
            self.asked.append("page")
            await asyncio.sleep(4)
            yield each


FIRST = OpenSync("syn_1", SyncKind.FIRST, Announce.SNAPSHOT, begin=date(2026, 2, 1))


def attended(at, erp, seconds, **values):
    async def work():
        stage = attend(at, erp, **values)
        task = asyncio.create_task(stage.run())
        await asyncio.wait([task], timeout=seconds)
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        return ended

    return run(work())


def test_polls_go_on_between_the_pages_of_a_sync():
    at = world(RESYNC)
    erp = Slow(pages=[page(order(str(number))) for number in range(6)])
    attended(at, erp, 40)
    assert erp.asked[:8] == ["poll", "page", "page", "page", "poll", "page", "page", "page"]
    assert len(at.ended) == 1


def test_a_poll_that_is_always_due_leaves_room_for_a_page():
    at = world(RESYNC)
    erp = Slow(pages=[page(order(str(number))) for number in range(3)])
    attended(at, erp, 30, every=1)
    assert erp.asked[:6] == ["poll", "page", "poll", "page", "poll", "page"]


def test_polls_go_on_while_orders_are_read_for_a_changed_mapping():
    at = world(OpenSync("syn_1", SyncKind.MAPPING, Announce.CHANGES))
    erp = Slow(pages=[page(order("1")), page(order("2"))])
    attended(at, erp, 12)
    assert erp.asked[:3] == ["poll", "page", "page"]
    assert at.told() == []


def test_a_page_of_a_sync_never_undoes_what_a_poll_has_told():
    at = world(RESYNC)
    state = {"1": order("1")}

    class Live(Slow):
        async def changed_since(self, cursor):
            self.asked.append("poll")
            state["1"] = order("1", status=[Status.APPROVED, Status.RECEIVED, Status.CLOSED][min(2, len(self.cursors))])
            self.cursors.append(cursor)
            yield page(state["1"])

        async def walk(self, cursor, begin):
            for _ in range(5):
                read = state["1"]
                await asyncio.sleep(4)
                yield page(read)

    attended(at, Live(), 60, every=5)
    assert at.told() == ["created", "status_changed", "closed"]


def test_a_ring_begins_a_new_sync_at_once():
    async def work():
        at, erp = world(), Erp(pages=[page(order("1"))])
        stage = attend(at, erp, every=3600)
        task = asyncio.create_task(stage.run())
        await until(lambda: at.polled, 1)
        at.syncs.append(RESYNC)
        stage.ring()
        await until(lambda: at.ended, 1)
        assert at.told() == ["created"]
        task.cancel()
        await asyncio.wait([task])

    run(work())


def test_refused_credentials_of_a_sync_end_the_attending():
    at = world(RESYNC)
    assert attended(at, Erp(pages=[CredentialsRefused("401")]), 100)
    assert [each.state for each in at.polled] == [ConnectionState.ACTIVE, ConnectionState.NEEDS_RECONNECT]


def test_a_sync_that_fails_delays_no_poll():
    at = world(RESYNC)
    erp = Erp(pages=[Unavailable("away")] * 3)
    attended(at, erp, 25)
    assert len(erp.cursors) == 3
    assert at.sync_problems == ["away"] * 3


# The first sync


def test_polls_begin_where_the_first_sync_ends():
    at = world(FIRST)
    old = order("2", order_date=date(2026, 1, 1))
    erp = Slow([[page(order("3"))]], pages=[page(order("1")), page(old)])
    attended(at, erp, 9)
    assert erp.asked == ["page", "page", "poll"]
    assert (at.told(), at.known["2"].sequence, erp.cursors) == (["snapshot", "created"], 0, ["2"])
    assert erp.begins == [(None, date(2026, 2, 1))]


def test_a_first_sync_may_be_silent():
    at = world(replace(FIRST, announce=Announce.SILENT))
    attended(at, Slow([[page(order("1", quantity=2))]], pages=[page(order("1"))]), 9)
    assert [(row.type, row.sequence) for row in at.outbox] == [("purchase_order.updated", 1)]


def test_a_first_sync_that_fails_is_the_connections_problem_until_it_goes_on():
    at = world(FIRST)
    attended(at, Erp(pages=[Unavailable("away"), Unavailable("away"), page(order("1"))]), 12)
    assert [(each.failures, each.problem) for each in at.polled[:3]] == [(1, "away"), (0, None), (1, "away")]
    assert at.told() == ["snapshot"]
    assert not at.polled[-1].failures


def test_a_first_sync_that_failed_before_a_restart_waits_as_long_as_it_would_have():
    at, erp = world(FIRST), Erp(pages=[page(order("1"))])
    attended(at, erp, 39, failures=3, due_at=START + timedelta(seconds=40))
    assert erp.begins == []
    attended(at, erp, 41, failures=3, due_at=START + timedelta(seconds=40))
    assert at.told() == ["snapshot"]


# Asked for by people, and when it is time


def test_a_poll_that_somebody_asks_for_is_made_at_once_and_answered():
    async def work():
        at, erp = world(), Erp([[], [page(order("1"))]])
        stage = attend(at, erp, every=3600)
        task = asyncio.create_task(stage.run())
        await until(lambda: at.polled, 1)
        at.syncs.append(OpenSync("syn_1", SyncKind.POLL, Announce.CHANGES))
        stage.ring()
        await until(lambda: at.answered, 1)
        assert [(each.read, each.told) for each in at.answered] == [(1, 1)]
        await asyncio.sleep(100)
        assert len(at.polled) == 2
        task.cancel()
        await asyncio.wait([task])

    run(work())


def scheduled(**values):
    return {"schedule": Schedule(**values), "compare_due_at": START + timedelta(hours=1)}


def test_all_orders_are_compared_at_night_and_again_after_a_while():
    at = world()
    erp = Erp(pages=[page(order("1"))])
    values = scheduled(compare_every=timedelta(days=2))
    attended(at, erp, 11.9 * 3600, every=3600, reconcile_every=timedelta(30), **values)
    assert at.compared == []
    attended(at, erp, 4.4 * 86400, every=3600, reconcile_every=timedelta(30), **values)
    assert [each - START for each in at.compared] == [timedelta(days=2, hours=12), timedelta(days=4, hours=12)]
    assert [each.kind for each in at.ended] == [SyncKind.COMPARE] * 2
    assert at.told() == ["created"]


def test_comparing_leaves_half_of_the_time_to_others_and_stops_in_the_morning():
    at = world(OpenSync("syn_1", SyncKind.COMPARE, Announce.CHANGES))
    erp = Slow(pages=[page(order(str(number))) for number in range(60)])
    values = {"reconcile_every": timedelta(30), "schedule": Schedule(hours=Hours(zone="Pacific/Auckland"))}
    attended(at, erp, 60, every=3600, **values)
    assert erp.asked.count("page") == 8, "it is one in the morning there"
    by_day = world(OpenSync("syn_1", SyncKind.COMPARE, Announce.CHANGES))
    attended(by_day, erp, 60, every=3600, reconcile_every=timedelta(30))
    assert by_day.moves == [], "it is noon"


def test_nothing_is_compared_where_that_is_never_to_be():
    at = world()
    attended(at, Erp(), 20 * 86400, every=86400, reconcile_every=timedelta(30), **scheduled(compare_every=None))
    assert at.compared == []


# Hours


def test_an_erp_is_not_asked_anything_outside_of_its_hours():
    at = world(RESYNC)
    erp = Slow(pages=[page(order(str(number))) for number in range(3)])
    values = {"schedule": Schedule(hours=Hours(open=("Mon 07:00-20:00",)), compare_every=None)}
    attended(at, erp, 18.9 * 3600, every=600, **values)  # START is Sunday noon
    assert erp.asked == []
    attended(at, erp, 19.1 * 3600, every=600, **values)
    assert erp.asked[:4] == ["poll", "page", "page", "page"]


def test_hours_that_never_come_are_looked_at_once_a_day():
    at, erp = world(), Erp()
    attended(at, erp, 10 * 86400, schedule=Schedule(hours=Hours(closed=("00:00-24:00",)), compare_every=None))
    assert erp.cursors == []
