"""Sending again, without a store: which orders go next, and how a runner goes on, waits and ends."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.connections import Lease
from relay.domain.endpoints import Endpoint, EndpointId
from relay.domain.errors import LeaseLost, Unavailable
from relay.domain.replays import Chosen, Criteria, Match, chosen
from relay.ports import Bite, ReplayLook
from relay.stages.replay import AGAIN, MOST_AT_ONCE, MOST_WAITING, Replay

LEASE = Lease("end_1", "worker", 1)
ENDPOINT = Endpoint(EndpointId("end_1"), "acme", "hook", "https://x.example")
UNTIL = 1000


def matches(orders):
    return tuple(Match(position, ("con", order), f"con|{order}") for position, order in enumerate(orders, 1))


def orders_of(pick: Chosen):
    return sorted(order for _, order in pick.orders)


@pytest.mark.parametrize(
    ("orders", "busy", "most", "last", "taken", "reached", "all_"),
    [
        ("aba", "", 10, True, "ab", UNTIL, True),
        ("aba", "", 10, False, "ab", UNTIL, False),
        ("aba", "", 1, True, "a", 1, False),
        ("aab", "", 1, True, "a", 2, False),
        ("aba", "a", 10, True, "b", 0, False),
        ("bab", "a", 10, True, "b", 1, False),
        ("aa", "a", 10, False, "", 0, False),
        ("", "", 10, True, "", UNTIL, True),
        ("", "", 10, False, "", UNTIL, False),
    ],
)
def test_the_next_orders_are_chosen_whole_and_busy_ones_left(  # noqa: PLR0917 - a table
    orders, busy, most, last, taken, reached, all_
):
    lanes = {f"con|{order}" for order in busy}
    pick = chosen(matches(orders), busy=lanes, most=most, end=UNTIL, last=last)
    assert ("".join(orders_of(pick)), pick.reached, pick.all) == (taken, reached, all_)


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(1, 10), st.integers(1, 12), st.data())
def test_bite_after_bite_everything_goes_exactly_once_and_every_order_in_one_piece(orders, most, window, data):
    everything = matches(orders)
    gone, reached, rounds = [], 0, 0
    while True:
        left = [each for each in everything if each.position > reached and each not in gone]
        seen = left[:window]
        # Who is busy for ever is no case: the runner ends what it holds.
        busy = data.draw(st.sets(st.sampled_from("abcdef"))) if rounds < 5 else set()
        last = len(left) <= window
        end = len(everything) if last else seen[-1].position
        pick = chosen(seen, busy={f"con|{each}" for each in busy}, most=most, end=end, last=last)
        gone += [each for each in left if each.order in pick.orders]
        assert not busy & set(orders_of(pick))
        assert pick.reached >= reached
        assert all(each in gone for each in everything if each.position <= pick.reached)
        reached, rounds = pick.reached, rounds + 1
        if pick.all:
            break
    assert sorted(each.position for each in gone) == [each.position for each in everything]
    for order in set(orders):
        positions = [each.position for each in gone if each.order == ("con", order)]
        assert positions == sorted(positions)


class Line:
    """A store of replays that answers what it is told, and keeps what was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def look(self, endpoint, most_waiting):
        assert (endpoint, most_waiting) == (ENDPOINT, MOST_WAITING)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def bite(self, lease, _endpoint, _look, held, most):
        self.asked.append(("bite", lease, held, most))
        return self.answers.pop(0)

    async def take_back(self, lease, replay_id, held):
        self.asked.append(("take back", lease, replay_id, held))
        return self.answers.pop(0)


def look(*, per_second=50.0, waiting=0, cancelled=False):
    return ReplayLook("rpl_1", Criteria(), per_second, 0, UNTIL, waiting, cancelled, (), UNTIL, last=False)


@asynccontextmanager
async def still():
    yield frozenset({"dlv_held"})


def replaying(*answers):
    line, woken = Line(*answers), []
    return Replay(ENDPOINT, LEASE, line, still, lambda: woken.append(1)), line, woken


async def test_a_bite_wakes_the_runner_and_the_next_comes_at_the_rate_that_was_asked_for():
    stage, line, woken = replaying(look(per_second=20), Bite(30, moved=True, ended=False))
    assert await stage.run_once() == 1.5
    assert line.asked == [("bite", LEASE, frozenset({"dlv_held"}), 20)]
    assert woken


@pytest.mark.parametrize(("per_second", "most"), [(0.5, 1), (20, 20), (100_000, MOST_AT_ONCE)])
async def test_a_bite_is_never_empty_and_never_large(per_second, most):
    stage, line, _ = replaying(look(per_second=per_second), Bite(1, moved=True, ended=False))
    await stage.run_once()
    assert line.asked[0][-1] == most


async def test_nothing_put_in_line_is_tried_again_later_and_wakes_nobody():
    stage, _, woken = replaying(look(), Bite(0, moved=False, ended=False))
    assert (await stage.run_once(), woken) == (AGAIN, [])


async def test_a_stretch_without_any_match_is_passed_at_once():
    stage, _, woken = replaying(look(), Bite(0, moved=True, ended=False))
    assert (await stage.run_once(), woken) == (0.0, [])


async def test_after_the_last_bite_the_next_replay_is_looked_for_at_once():
    stage, _, woken = replaying(look(), Bite(2, moved=True, ended=True))
    assert (await stage.run_once(), woken) == (0.0, [1])


async def test_nothing_is_put_in_line_while_much_waits():
    stage, line, _ = replaying(look(waiting=MOST_WAITING))
    assert await stage.run_once() == AGAIN
    assert line.asked == []


async def test_what_was_cancelled_is_taken_back_until_nothing_of_it_waits():
    stage, line, woken = replaying(look(cancelled=True, waiting=3), 2, look(cancelled=True, waiting=1), 0)
    assert [await stage.run_once(), await stage.run_once(), await stage.run_once()] == [0.0, AGAIN, None]
    assert line.asked[0] == ("take back", LEASE, "rpl_1", frozenset({"dlv_held"}))
    assert woken


async def test_it_runs_until_nothing_is_left():
    stage, line, _ = replaying(look(), Bite(1, moved=True, ended=True), look(), Bite(1, moved=True, ended=True))
    await asyncio.wait_for(stage.run(), 10)
    assert line.answers == []


async def test_it_stops_in_the_middle_of_a_pause():
    stage, line, woken = replaying(look(per_second=0.001), Bite(1, moved=True, ended=False), look())
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(10):
        while not woken:  # noqa: ASYNC110 - it rings when a bite was taken
            await asyncio.sleep(0)
        stage.stop()
        await running
    assert line.answers == [look()]


async def test_a_store_that_does_not_answer_is_asked_again_and_a_lost_lease_ends_it():
    stage, line, _ = replaying(Unavailable("too slow"), LeaseLost("taken"))
    stage.patience = 0.0
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(stage.run(), 10)
    assert line.answers == []
