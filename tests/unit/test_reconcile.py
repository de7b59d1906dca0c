"""The reconcile stage: a delete is believed late, and never too many at once."""

from datetime import timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from relay.domain.errors import CredentialsRefused, LeaseLost, RecordRejected, Unavailable
from relay.domain.hours import Hours
from relay.domain.orders import Status
from relay.domain.schedules import Schedule
from relay.stages.poll import Patience, Poll
from relay.stages.reconcile import FEW, Doubt, Reconcile
from relay.stages.take import Take
from tests.fakes import LEASE, START, Erp, World, clock, connection, order, page, run

DOUBT = Doubt(passes=2, share=0.2)


def seen(*remote_ids):
    """A world in which these orders were told."""
    world = World()
    tell(world, *(order(each) for each in remote_ids))
    world.outbox.clear()
    return world


def tell(world, *orders):
    patience = Patience(timedelta(seconds=5), timedelta(minutes=15))
    erp = Erp([[page(*orders)]])
    of = connection(synced=True)
    run(Poll(of, LEASE, erp, world, Take(of, world, clock, lambda: None), clock, float, patience).run_once())


def reconciled(world, *ids, orders=(), times=1):
    erp = Erp(ids=list(ids), orders=dict(orders))
    stage = Reconcile(connection(), LEASE, erp, world, clock, DOUBT)
    return [run(stage.run_once()) for _ in range(times)], erp


def test_a_missing_order_is_deleted_after_enough_passes_and_a_direct_read_that_says_gone():
    world = seen("1", "2")
    deleted, erp = reconciled(world, ("1",), times=3)
    assert deleted == [0, 1, 0]
    assert erp.asked == ["2"]
    assert world.told() == ["deleted"]
    data = orjson.loads(world.outbox[0].body)["data"]
    assert (data["order"]["status"], data["sequence"]) == ("deleted", 2)
    assert data["order"]["field_presence"] == ["incoterm"]


def test_a_missing_order_that_a_read_finds_is_told_as_it_is():
    world = seen("1", "2")
    deleted, _ = reconciled(world, ("1",), orders={"2": order("2", status=Status.CLOSED)}, times=2)
    assert deleted == [0, 0]
    assert world.told() == ["closed"]


def test_a_read_that_finds_the_order_marked_as_deleted_is_a_delete():
    world = seen("1", "2")
    assert reconciled(world, ("1",), orders={"2": order("2").deleted()}, times=2)[0] == [0, 1]


def test_an_order_that_comes_back_starts_anew():
    world = seen("1", "2")
    reconciled(world, ("1",))
    reconciled(world, ("1", "2"))
    deleted, erp = reconciled(world, ("1",))
    assert (deleted, erp.asked) == ([0], [])


def test_a_deleted_order_that_comes_back_is_restored():
    world = seen("1", "2")
    reconciled(world, ("1",), times=2)
    tell(world, order("2"))
    assert world.told() == ["deleted", "restored"]


@pytest.mark.parametrize("ids", [(Unavailable("away"),), (("1",), CredentialsRefused("401"))])
def test_a_pass_that_breaks_off_changes_nothing(ids):
    world = seen("1", "2")
    assert reconciled(world, *ids, times=3)[0] == [0, 0, 0]
    assert (world.told(), world.missing) == ([], {})
    assert "broke off" in world.reconciled[0][0]


def test_a_pass_that_misses_too_many_deletes_nothing_and_says_why():
    many = [str(number) for number in range(100)]
    world = seen(*many)
    with capture_logs() as logs:
        deleted, erp = reconciled(world, tuple(many[:79]), times=3)
    assert (deleted, erp.asked, world.missing) == ([0, 0, 0], [], {})
    problem, due_at = world.reconciled[-1]
    assert "misses 21 of 100 orders" in problem
    assert "permissions" in problem
    assert due_at == START + timedelta(hours=1)
    assert [line["log_level"] for line in logs] == ["warning"] * 3


def test_a_few_are_never_too_many():
    some = [str(number) for number in range(FEW)]
    world = seen(*some)
    assert reconciled(world, times=2)[0] == [0, FEW]


def test_one_more_than_a_few_of_a_few_is():
    some = [str(number) for number in range(FEW + 1)]
    world = seen(*some)
    assert reconciled(world, times=2)[0] == [0, 0]


def test_a_record_that_cannot_be_read_hides_no_other():
    world = seen("1", "2", "3")
    deleted, erp = reconciled(world, ("1",), orders={"2": RecordRejected("junk")}, times=2)
    assert (deleted, erp.asked) == ([0, 1], ["2", "3"])
    assert world.reconciled[-1][0] is None


@pytest.mark.parametrize("error", [CredentialsRefused("401"), Unavailable("away")])
def test_an_erp_that_refuses_one_read_is_not_asked_for_the_others(error):
    world = seen("1", "2", "3")
    deleted, erp = reconciled(world, ("1",), orders={"3": None, "2": error}, times=2)
    assert (deleted, erp.asked) == ([0, 0], ["2"])
    assert str(error) in world.reconciled[-1][0]
    assert world.told() == []


@pytest.mark.parametrize("asked", [False, True])
def test_a_full_pass_breaks_off_when_the_hours_end(asked):
    world, now = seen("1", "2"), [START]
    reconciled(world, ("1",))
    hours = Schedule(hours=Hours(open=("Sun 00:00-12:30",)))

    class Late(Erp):
        async def remote_ids(self):
            async for each in super().remote_ids():
                now[0] = START + timedelta(hours=asked or 1) * (not asked)
                yield each
                now[0] = START + timedelta(hours=1)

    erp = Late(ids=[("1",)], orders={})
    stage = Reconcile(connection(schedule=hours), LEASE, erp, world, lambda: now[0], DOUBT)
    assert run(stage.run_once()) == 0
    assert "hours ended" in world.reconciled[-1][0]
    assert (erp.asked, world.missing["2"]) == ([], 2 if asked else 1)


def test_a_lost_lease_ends_it():
    world = seen("1")
    world.lost = True
    with pytest.raises(LeaseLost):
        reconciled(world, ("1",))


def test_a_store_that_is_away_is_not_the_erps_failure():
    world = seen("1", "2")
    reconciled(world, ("1",))
    stage = Reconcile(connection(), LEASE, Erp(ids=[("1",)], orders={}), world, clock, DOUBT)
    snapshots = world.snapshots

    async def away(*_):
        world.away = True
        return await snapshots(*_)

    world.snapshots = away
    with pytest.raises(Unavailable, match="PostgreSQL"):
        run(stage.run_once())
