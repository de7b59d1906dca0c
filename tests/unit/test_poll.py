"""The poll stage: what changed is told once, whatever the ERP does in between."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.domain.connections import ConnectionState
from relay.domain.errors import CredentialsRefused, LeaseLost, Throttled, Unavailable, UnexpectedReply
from relay.domain.hours import Hours
from relay.domain.orders import Status
from relay.domain.schedules import Schedule
from relay.ports import Rejected
from relay.stages.poll import MOST_NOTICES, Patience, Poll
from relay.stages.take import Take
from tests.fakes import LEASE, START, Erp, World, clock, connection, order, page, run

PATIENCE = Patience(timedelta(seconds=5), timedelta(minutes=15))
SYNCED = connection(synced=True)
JUNK = Rejected("4501", "C7_QUANT", "not a number", b'{"C7_QUANT": "many"}')


def poll(world, *polls, of=SYNCED, dice=0.0):
    poll.rung = 0

    def saved():
        poll.rung += 1

    return Poll(of, LEASE, Erp(list(polls)), world, Take(of, world, clock, saved), clock, lambda: dice, PATIENCE)


def polled(world, *steps, **values):
    return run(poll(world, list(steps), **values).run_once())


def test_an_order_seen_first_is_created_unless_it_is_older_than_the_first_syncs_window():
    world = World()
    old, new = order("1", order_date=date(2026, 1, 1)), order("2", order_date=date(2026, 2, 1))
    polled(world, page(old, new), of=connection(synced=True, history_from=date(2026, 2, 1)))
    assert world.told() == ["snapshot", "created"]


def test_a_page_read_twice_makes_no_second_event():
    world = World()
    for _ in range(2):
        polled(world, page(order("1"), order("2")))
    assert world.told() == ["created", "created"]


def test_what_did_not_change_rings_nobody():
    world = World()
    polled(world, page(order("1")))
    polled(world, page(order("1")), page(cursor="c2"))
    assert (poll.rung, world.cursor) == (0, "c2")


def test_a_page_that_holds_an_order_twice_gives_two_events_in_sequence_and_one_snapshot():
    world = World()
    polled(world, page(order("1", quantity=1), order("1", quantity=2)))
    assert [(row.sequence, row.type) for row in world.outbox] == [
        (1, "purchase_order.created"),
        (2, "purchase_order.updated"),
    ]
    assert world.known["1"].sequence == 2


def test_a_crash_between_pages_resumes_at_the_stored_cursor():
    world = World()

    class Crash(Exception):
        pass

    with pytest.raises(Crash):
        polled(world, page(order("1"), cursor="c1"), Crash())
    again = poll(world, [page(order("2"), cursor="c2")], of=connection(synced=True, cursor=world.cursor))
    run(again.run_once())
    assert again.connector.cursors == ["c1"]
    assert world.told() == ["created", "created"]


def test_a_poll_that_failed_goes_on_where_it_was():
    stage = poll(World(), [page(order("1"), cursor="c1"), Unavailable("away")], [page(cursor="c2")], [])
    for _ in range(3):
        run(stage.run_once())
    assert stage.connector.cursors == [None, "c1", "c2"]


def test_a_rejected_record_is_one_dead_letter_with_its_bytes_and_its_neighbours_are_told():
    world = World()
    for _ in range(2):
        polled(world, page(order("1"), order("2"), rejected=(JUNK,)))
    [letter] = [row for row in world.outbox if row.stream == "dead-letters"]
    assert (letter.body, letter.remote_id) == (JUNK.raw, "4501")
    assert letter.problem == "C7_QUANT: not a number"
    assert world.told() == ["created", "created"]


def test_junk_that_every_pass_shows_is_told_once_and_again_only_when_it_was_not_stored():
    world = World()
    stage = poll(world, *[[page(rejected=(JUNK,))]] * 3)
    world.away = True
    with capture_logs() as logs:
        with pytest.raises(Unavailable):
            run(stage.run_once())
        world.away = False
        for _ in range(2):
            run(stage.run_once())
    assert [line["event"] for line in logs if line["event"] == "record.rejected"] == ["record.rejected"]
    assert len(world.outbox) == 1


def test_what_was_told_of_junk_is_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr("relay.stages.take.MOST_MET", 1)
    world, other = World(), Rejected("9", "C7_NUM", "no number", b"9")
    stage = poll(world, *[[page(rejected=(JUNK, other))]] * 2, [page(rejected=(JUNK,))])
    with capture_logs() as logs:
        for _ in range(3):
            run(stage.run_once())
    assert [line["event"] for line in logs].count("record.rejected") == 3
    assert len(world.outbox) == 2


def test_a_page_of_junk_only_rings_for_its_letters():
    polled(World(), page(rejected=(JUNK,)))
    assert poll.rung == 1


def test_the_same_record_spoiled_in_another_way_is_another_letter():
    world = World()
    nameless = Rejected("", "", "no id", b"?")
    polled(world, page(rejected=(JUNK, Rejected("4501", "C7_PRECO", "not a number", JUNK.raw), nameless)))
    letters = {row.event_id: row for row in world.outbox}
    assert len(letters) == 3
    assert [(row.remote_id, row.problem) for row in letters.values()][-1] == ("?", "record: no id")


@given(st.text(alphabet=st.characters(categories=["L", "Cs", "Cc"])))
def test_any_text_of_an_erp_can_stand_in_a_letter(text):
    world = World()
    polled(world, page(rejected=(Rejected(text, text, text, text.encode(errors="surrogatepass")),)))
    [letter] = world.outbox
    assert f"{letter.remote_id} {letter.problem}".encode()


def test_refused_credentials_need_a_person_at_once():
    world = World()
    result = polled(world, page(order("1")), CredentialsRefused("401 for user relay"), dice=0.5)
    assert (result.state, result.failures) == (ConnectionState.NEEDS_RECONNECT, 1)
    assert result.problem.startswith("401 for user relay. Check in the ERP")
    assert world.polled == [result]
    assert world.told() == ["created"]


def wait_after(*errors, dice=0.0, retry_after=None):
    stage = poll(World(), *([error] for error in errors), dice=dice)
    waits = [(run(stage.run_once()).due_at - START).total_seconds() for _ in errors]
    return waits if retry_after is None else waits[-1]


def test_failures_back_off_up_to_a_limit_and_jitter_spreads_them():
    errors = [Unavailable("away"), UnexpectedReply("HTML")] * 5
    assert wait_after(*errors) == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert wait_after(*errors, dice=1.0)[-1] == 675


@pytest.mark.parametrize(
    ("asked", "waits"), [(60, 60), (1, 5), (7200, 900), (1e308, 900), (float("inf"), 900), (-1e308, 5)]
)
def test_a_wish_to_slow_down_is_obeyed_up_to_the_limit(asked, waits):
    assert wait_after(Throttled("429", retry_after=asked)) == [waits]


def test_a_poll_that_goes_well_forgets_the_failures_before_it():
    stage = poll(World(), [Unavailable("away")], [page(order("1"))], of=connection(failures=3))
    assert run(stage.run_once()).failures == 4
    well = run(stage.run_once())
    assert (well.failures, well.problem, well.due_at - START) == (0, None, timedelta(seconds=60))


def test_quiet_polls_slow_down_and_a_change_makes_it_fast_again():
    of = connection(synced=True, poll_every=timedelta(seconds=10), schedule=Schedule(slowest=timedelta(seconds=15)))
    stage = poll(World(), *[[]] * 6, [page(order("1"))], of=of)
    ends = [run(stage.run_once()) for _ in range(7)]
    assert [(end.due_at - START).total_seconds() for end in ends] == [10, 10, 10, 12.5, 15, 15, 10]
    assert [end.quiet for end in ends] == [1, 2, 3, 4, 5, 6, 0]
    assert (ends[5].why, ends[6].why, ends[6].read, ends[6].told) == ("quiet for 6 polls", "as fast as it is set", 1, 1)


def test_a_poll_breaks_off_between_pages_when_the_hours_end_and_goes_on_when_they_begin():
    hours = Hours(open=("Mon-Fri 07:00-20:00",))  # START is a Sunday
    stage = poll(World(), [page(order("1"), cursor="c1"), page(order("2"), cursor="c2")], of=at_hours(hours))
    end = run(stage.run_once())
    assert (end.failures, end.why) == (0, "its hours begin then")
    assert end.due_at == datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert stage.cursor == "c1"


def at_hours(hours):
    return connection(synced=True, schedule=Schedule(hours=hours))


def test_notices_are_told_once_each_and_only_some_of_them():
    pages = [page(warnings=("the currency 7 is not mapped", f"notice {number}")) for number in range(100)]
    result = polled(World(), *pages)
    assert len(result.notices) == MOST_NOTICES
    assert result.notices[:2] == ("the currency 7 is not mapped", "notice 0")


def test_notices_of_a_poll_that_failed_are_kept():
    assert polled(World(), page(warnings=("odd",)), Unavailable("away")).notices == ("odd",)


def test_a_lost_lease_ends_it():
    with pytest.raises(LeaseLost):
        polled(World(lost=True), page(order("1")))


def test_a_store_that_is_away_is_not_the_erps_failure():
    world = World(away=True)
    stage = poll(world, [page(order("1"))])
    with pytest.raises(Unavailable, match="PostgreSQL"):
        run(stage.run_once())
    assert (stage.failures, world.calls["save_polled"]) == (0, 0)


def test_quiet_polls_are_no_news():
    with capture_logs() as logs:
        polled(World(), page())
        polled(World(), page(order("1", status=Status.DRAFT)))
    assert [line["log_level"] for line in logs if line["event"] == "connection.polled"] == ["debug", "info"]
