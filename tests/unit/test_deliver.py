"""The deliver stage on virtual time: order, limits, rest, and an end that loses nothing."""

import asyncio
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.deliveries import Answer, Outcome, Wish
from relay.domain.endpoints import EndpointOptions, EndpointState, Health, Ordering, Payload
from relay.domain.errors import LeaseLost, Unavailable
from relay.domain.lanes import Lanes, Memory
from relay.domain.notices import NoticeType
from relay.domain.payload import shaped
from relay.domain.retry import SCHEDULE
from relay.domain.samples import sample_event
from relay.domain.signing import verify
from relay.ports import Space
from relay.stages.deliver import AHEAD, SAFETY_NET, Deliver
from tests.fakes import LEASE, Hook, World, clock, endpoint, run, running, until

SECRET = b"s" * 32
DAYS = 6 * 86_400
FINE, BUSY, GONE = Answer(status=204), Answer(status=503), Answer(status=410)


def deliver(world, hook, at_once=4, **values):
    hook.world = world
    return Deliver(endpoint(at_once=at_once), LEASE, [SECRET], hook, world, values.get("clock", clock), lambda: 0.5)


def answers(*some, after=FINE):
    """Each delivery is answered in turn by `some`, then by `after`."""
    tries = Counter()

    def answer(headers, _body):
        tries[headers["relay-delivery"]] += 1
        made = tries[headers["relay-delivery"]]
        return some[made - 1] if made <= len(some) else after

    return answer


def delivered(world, hook, *, lanes, each=1, seconds=DAYS, **values):
    """Run until nothing waits; the seconds that it took."""

    async def work():
        for _ in range(each):
            for lane in range(lanes):
                world.put("end_1", f"lane {lane}")
        stage = deliver(world, hook, **values)
        async with running(stage.run()):
            await until(lambda: not world.waiting(), seconds)
            took = asyncio.get_running_loop().time()
            stage.stop()
        return took

    return run(work())


def states(world):
    return Counter(each["state"] for each in world.deliveries.values())


def test_everything_is_delivered_in_the_order_of_its_lane():
    world, hook = World(), Hook()
    delivered(world, hook, lanes=5, each=4)
    positions = defaultdict(list)
    for name in hook.sent:
        positions[world.deliveries[name]["lane"]].append(world.deliveries[name]["position"])
    assert all(each == sorted(each) for each in positions.values())
    assert (states(world), len(hook.sent)) == ({"delivered": 20}, 20)


def test_webhooks_are_signed_and_numbered():
    world, seen = World(), []
    hook = Hook(lambda headers, body: seen.append((headers, body)) or answer(headers, body))
    answer = answers(BUSY)
    delivered(world, hook, lanes=1)
    for headers, body in seen:
        verify([SECRET], headers, body, int(headers["webhook-timestamp"]))
    assert [headers["relay-attempt"] for headers, _ in seen] == ["1", "2"]
    assert len({headers["webhook-id"] for headers, _ in seen}) == 1


def test_a_thin_webhook_is_signed_as_it_is_sent_and_tried_again_with_the_same_bytes():
    world, seen = World(), []
    body = sample_event("purchase_order.approved").model_dump_json().encode()
    answer = answers(BUSY)
    hook = Hook(lambda headers, sent: seen.append((headers, sent)) or answer(headers, sent))

    async def work():
        world.put("end_1", "a", body=body)
        hook.world = world
        thin = endpoint(options=EndpointOptions(payload=Payload.THIN))
        stage = Deliver(thin, LEASE, [SECRET], hook, world, clock, lambda: 0.5)
        async with running(stage.run()):
            await until(lambda: not world.waiting(), DAYS)
            stage.stop()

    run(work())
    assert [sent for _, sent in seen] == [shaped(body, Payload.THIN)] * 2
    for headers, sent in seen:
        verify([SECRET], headers, sent, int(headers["webhook-timestamp"]))


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_attempts_are_in_flight_than_allowed(at_once):
    hook = Hook()
    delivered(World(), hook, lanes=40, at_once=at_once)
    assert hook.most_at_once == at_once


def test_more_heads_than_the_window_holds_are_all_delivered_without_a_ring():
    world, hook = World(), Hook()
    took = delivered(world, hook, lanes=200, at_once=2)
    assert states(world) == {"delivered": 200}
    assert took < 200 / 2 * hook.takes * 1.5


def test_a_refused_delivery_blocks_its_lane_until_the_retry_and_others_flow():
    world, sent = World(), []

    def answer(headers, _body):
        name = headers["relay-delivery"]
        sent.append((asyncio.get_running_loop().time(), world.deliveries[name]["lane"], headers["relay-attempt"]))
        return BUSY if name == "dlv_1" and headers["relay-attempt"] == "1" else FINE

    delivered(world, Hook(answer), lanes=2, each=3)
    other = [at for at, lane, _ in sent if lane == "lane 1"]
    blocked = [(at, number) for at, lane, number in sent if lane == "lane 0"]
    assert max(other) < 1
    assert [number for _, number in blocked] == ["1", "2", "1", "1"]
    wait = blocked[1][0] - blocked[0][0]
    assert SCHEDULE[1].total_seconds() <= wait < SCHEDULE[1].total_seconds() + 1


def test_an_attempt_is_recorded_with_when_to_try_again():
    world = World()
    delivered(world, Hook(answers(Answer(status=429, retry_after=100.0))), lanes=1)
    first, second = world.attempts
    assert (first.number, first.outcome, second.outcome) == (1, Outcome.RETRY, Outcome.DELIVERED)
    assert first.due_at - first.started_at >= timedelta(seconds=100)
    assert second.due_at is None


def test_a_delivery_that_uses_up_its_schedule_is_dead_and_its_lane_goes_on():
    world = World()
    first = "dlv_1"
    hook = Hook(lambda headers, _: BUSY if headers["relay-delivery"] == first else FINE)
    delivered(world, hook, lanes=1, each=2)
    assert (world.deliveries[first]["state"], hook.sent.count(first)) == ("dead", len(SCHEDULE))
    assert states(world) == {"dead": 1, "delivered": 1}


def test_an_address_that_policy_forbids_is_tried_again_for_the_rules_may_be_mended():
    world = World()
    delivered(world, Hook(answers(Answer(error="policy"))), lanes=1)
    assert [each.outcome for each in world.attempts] == [Outcome.RETRY, Outcome.DELIVERED]


def test_gone_disables_the_endpoint_once_and_ends():
    async def work():
        world, hook = World(), Hook(answers(after=GONE))
        for lane in range(20):
            world.put("end_1", str(lane))
        await deliver(world, hook, at_once=3).run()
        assert len(world.disabled) == 1
        assert len(hook.sent) == len(world.attempts) == 3
        assert len(world.waiting()) == 20

    run(work())


def test_a_wish_to_be_disabled_is_heard_in_a_good_answer_too():
    async def work():
        world, hook = World(), Hook(answers(after=Answer(status=204, wish=Wish.DISABLE)))
        world.put("end_1", "a")
        await deliver(world, hook).run()
        assert states(world) == {"delivered": 1}
        assert "webhook-delivery" in world.disabled[0]

    run(work())


PATIENT = EndpointOptions(schedule=(timedelta(0), *[timedelta(minutes=30)] * 90))
"""Tried for two days: long enough to see what becomes of an endpoint that never answers."""


def of(world, hook, **values):
    hook.world = world
    return Deliver(endpoint(at_once=4, **values), LEASE, [SECRET], hook, world, clock, lambda: 0.5)


def test_an_endpoint_that_takes_nothing_is_told_of_suspended_probed_each_hour_and_given_up():
    async def work():
        world, hook, loop = World(), Hook(answers(after=BUSY)), asyncio.get_running_loop()
        for lane in range(20):
            world.put("end_1", str(lane))
        stage = of(world, hook, options=PATIENT)
        task = asyncio.create_task(stage.run())
        await until(lambda: any(each.state for each in world.verdicts), DAYS)
        suspended_at, asked = loop.time(), len(hook.sent)
        assert suspended_at >= 72 * 3600
        await until(task.done, DAYS * 2)
        await task
        told = [each.notice.removeprefix("endpoint.") for each in world.verdicts if each.notice]
        assert told == ["failing", "failing", "suspended", "disabled"]
        assert 7 * 24 <= (loop.time() - suspended_at) / 3600 < 7 * 24 + 3
        assert 100 < len(hook.sent) - asked <= 7 * 24 / 0.7
        assert world.waiting()

    run(work())


def test_a_broken_proxy_of_our_own_is_not_held_against_an_endpoint():
    world, hook = World(), Hook(answers(after=Answer(error="proxy")))
    delivered(world, hook, lanes=1)
    assert (states(world), world.verdicts) == ({"dead": 1}, [])


def test_a_suspended_endpoint_begins_with_a_probe_and_is_active_once_that_is_delivered():
    async def work():
        world, hook = World(), Hook()
        for lane in range(50):
            world.put("end_1", str(lane))
        health = Health(clock(), timedelta(hours=24), clock())
        stage = of(world, hook, health=health, state=EndpointState.SUSPENDED)
        async with running(stage.run()):
            await until(lambda: hook.flying, 10)
            assert len(hook.sent) == 1
            await until(lambda: not world.waiting(), DAYS)
            stage.stop()
        assert [(each.notice, each.state) for each in world.verdicts] == [
            (NoticeType.ENDPOINT_RECOVERED, EndpointState.ACTIVE)
        ]

    run(work())


def test_a_suspended_endpoint_that_goes_on_refusing_loses_nothing_of_what_waits():
    async def work():
        world, hook = World(), Hook(answers(after=Answer(status=400)))
        for lane in range(50):
            world.put("end_1", str(lane))
        health = Health(clock() - timedelta(days=3), timedelta(hours=24), clock())
        stage = of(world, hook, health=health, state=EndpointState.SUSPENDED)
        async with running(stage.run()):
            await until(lambda: asyncio.get_running_loop().time() > 5 * 3600, DAYS)
            stage.stop()
        assert 4 <= len(hook.sent) <= 7
        assert states(world) == {"waiting": 50}

    run(work())


def test_only_an_endpoint_that_wants_the_newest_asks_for_older_ones_to_be_left_out():
    for ordering, asked in ((Ordering.STRICT, False), (Ordering.LATEST_ONLY, True)):

        async def work(ordering=ordering):
            world = World()
            world.put("end_1", "a")
            stage = of(world, Hook(), options=EndpointOptions(ordering=ordering))
            async with running(stage.run()):
                await until(lambda: not world.waiting(), 5)
                stage.stop()
            return world

        assert bool(run(work()).calls["supersede"]) == asked


def test_while_it_is_still_nothing_is_recorded_or_read():
    async def work():
        world, hook = World(), Hook()
        name = world.put("end_1", "a")
        stage = deliver(world, hook)
        async with running(stage.run()):
            await until(lambda: hook.flying)
            async with stage.still() as held:
                await asyncio.sleep(60)
                assert (held, world.attempts) == ({name}, [])
            await until(lambda: not world.waiting(), 5)
            stage.stop()

    run(work())


def test_bodies_are_held_within_the_bytes_of_the_worker():
    async def work():
        world, hook, memory = World(), Hook(), Memory(100)
        for lane in range(30):
            world.put("end_1", str(lane), body=b"x" * 30)
        hook.world = world
        stage = Deliver(endpoint(at_once=8), LEASE, [SECRET], hook, world, clock, lambda: 0.5, memory)
        async with running(stage.run()):
            await until(lambda: not world.waiting(), DAYS)
            stage.stop()
        assert hook.most_at_once <= 3
        assert memory.used == 0
        assert all(space.bytes <= 100 for space in world.spaces)

    run(work())


def test_stop_sends_nothing_more_and_records_what_is_in_flight():
    async def work():
        world, hook = World(), Hook(takes=10)
        for lane in range(20):
            world.put("end_1", str(lane))
        stage = deliver(world, hook, at_once=4)
        async with running(stage.run()):
            await until(lambda: len(hook.flying) == 4)
            stage.stop()
        assert len(hook.sent) == len(world.attempts) == 4
        assert world.disabled == []

    run(work())


def test_stopped_before_it_began_it_sends_nothing():
    async def work():
        world, hook = World(), Hook()
        world.put("end_1", "a")
        stage = deliver(world, hook)
        stage.stop()
        await stage.run()
        assert hook.sent == []

    run(work())


@pytest.mark.parametrize("trouble", ["lost", "away"])
def test_a_record_that_fails_ends_everything_at_once(trouble):
    async def work():
        world, hook = (
            World(),
            Hook(lambda headers, _: asyncio.Event() if headers["relay-delivery"] != "dlv_1" else FINE),
        )
        for lane in range(4):
            world.put("end_1", str(lane))
        stage = deliver(world, hook)
        task = asyncio.create_task(stage.run())
        await until(lambda: len(hook.flying) == 4)
        setattr(world, trouble, True)
        with pytest.raises(ExceptionGroup) as raised:
            await task
        assert raised.group_contains(LeaseLost if trouble == "lost" else Unavailable)
        assert (hook.flying, world.attempts) == ([], [])

    run(work())


def test_a_store_that_is_away_when_heads_are_read_ends_it():
    async def work():
        await deliver(World(away=True), Hook()).run()

    with pytest.raises(ExceptionGroup) as raised:
        run(work())
    assert raised.group_contains(Unavailable)


def test_a_ring_finds_new_deliveries_at_once_and_a_lost_one_is_caught_by_the_safety_net():
    async def work():
        world, hook, loop = World(), Hook(), asyncio.get_running_loop()
        stage = deliver(world, hook)
        async with running(stage.run()):
            await asyncio.sleep(5)
            world.put("end_1", "a")
            stage.ring()
            await until(lambda: hook.sent, 0.1)
            world.put("end_1", "b")
            at = loop.time()
            await until(lambda: len(hook.sent) == 2, SAFETY_NET.total_seconds() + 1)
            assert loop.time() - at > 1
            stage.stop()

    run(work())


def test_a_ring_while_the_heads_are_read_is_not_lost():
    async def work():
        world, hook = World(), Hook()
        stage = deliver(world, hook)
        heads = world.heads

        async def ringing(*wanted):
            world.heads = heads
            found = await heads(*wanted)
            world.put("end_1", "a")
            stage.ring()
            return found

        world.heads = ringing
        async with running(stage.run()):
            await until(lambda: hook.sent, 1)
            stage.stop()

    run(work())


def test_an_idle_endpoint_asks_the_store_only_now_and_then():
    async def work():
        world = World()
        stage = deliver(world, Hook())
        async with running(stage.run()):
            await asyncio.sleep(3600)
            stage.stop()
        assert world.calls["heads"] <= 3600 / SAFETY_NET.total_seconds() + 2

    run(work())


def test_an_endpoint_that_fails_for_everything_does_not_spin():
    world, hook = World(), Hook(answers(after=BUSY))
    delivered(world, hook, lanes=30)
    assert states(world) == {"dead": 30}
    assert len(hook.sent) == 30 * len(SCHEDULE)
    days = sum(SCHEDULE, timedelta()).total_seconds()
    assert world.calls["heads"] < days * 1.1 / SAFETY_NET.total_seconds() + 4 * len(hook.sent)


def test_a_retry_that_falls_due_while_slow_attempts_fill_the_window_does_not_spin():
    """There is then no room to ask the store: it rests until an attempt ends."""

    async def work():
        world, slow = World(), asyncio.Event()
        hook = Hook(lambda headers, _: BUSY if headers["relay-delivery"] == "dlv_1" else slow, takes=0.01)
        for lane in range(AHEAD * 4):
            world.put("end_1", str(lane))
        stage = deliver(world, hook, at_once=1)
        async with running(stage.run()):
            await until(lambda: world.attempts and hook.flying)
            asked, steps = world.calls["heads"], []
            clock_of, stage.clock = stage.clock, lambda: steps.append(1) or clock_of()
            await asyncio.sleep(60)
            assert world.calls["heads"] - asked < 5
            assert len(steps) < 20
            slow.set()
            stage.stop()

    run(work())


@pytest.mark.parametrize("skew", [-10, -0.02, 0.02, 10])
def test_a_clock_that_differs_from_the_stores_neither_delays_nor_spins(skew):
    world, hook = World(), Hook(answers(BUSY))
    took = delivered(world, hook, lanes=4, each=3, clock=lambda: clock() + timedelta(seconds=skew))
    assert states(world) == {"delivered": 12}
    assert took < 3 * (SCHEDULE[1].total_seconds() + max(skew, 0)) + 30 * (skew == -10) + 2
    assert world.calls["heads"] < 100 + max(skew, 0) * 3 * 25


def test_what_is_promoted_and_finds_no_room_is_read_from_the_store_later():
    async def work():
        world, hook = World(), Hook()
        stage = deliver(world, hook, at_once=1)
        stage._lanes = Lanes(AHEAD, Memory(1000))
        for _ in range(2):
            for lane in range(AHEAD * 2):
                world.put("end_1", str(lane))
        record = world.record

        async def crowded(*given_):
            promoted = await record(*given_)
            stage._lanes.offer((await world.heads("end_1", Space(100, 100, 100))).due)
            return promoted

        world.record = crowded
        async with running(stage.run()):
            await until(lambda: not world.waiting(), 20)
            stage.stop()

    run(work())


outcomes = st.sampled_from([FINE, FINE, FINE, BUSY, Answer(error="timeout"), Answer(status=501)])
happenings = st.lists(
    st.tuples(st.floats(0, 20), st.one_of(st.integers(0, 5), st.sampled_from(["ring", "restart"]))), max_size=25
)


@given(st.lists(outcomes, max_size=40), happenings, st.integers(1, 3))
def test_whatever_happens_each_delivery_is_tried_in_turn_until_it_is_done(script, story, at_once):
    """`Hook` watches each attempt: one of a lane at once, the eldest first, all before it recorded."""

    async def work():
        world, rest = World(), list(script)
        hook = Hook(lambda *_: rest.pop() if rest else FINE)
        stage = deliver(world, hook, at_once=at_once)
        task = asyncio.create_task(stage.run())
        for wait, what in story:
            await asyncio.sleep(wait)
            if what == "ring":
                stage.ring()
            elif what == "restart":
                stage.stop()
                await task
                stage = deliver(world, hook, at_once=at_once)
                task = asyncio.create_task(stage.run())
            else:
                world.put("end_1", f"lane {what}")
        stage.ring()
        await until(lambda: not world.waiting(), DAYS)
        stage.stop()
        await task
        assert hook.most_at_once <= at_once
        assert [each["state"] for each in world.deliveries.values()].count("waiting") == 0
        assert len(hook.sent) == len(world.attempts)

    run(work())
