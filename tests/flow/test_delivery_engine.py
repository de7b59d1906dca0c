"""The delivery engine on a real PostgreSQL and real sockets: isolation, flow, orderings, wishes and health."""

import asyncio
import os
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.control import Control
from relay.control.at_hand import Usual
from relay.domain.egress import Policy
from relay.domain.endpoints import EndpointOptions, EndpointState, Ordering
from relay.domain.errors import UserError
from relay.domain.signing import new_secret
from tests.fixtures.engine import AT_ONCE, PATIENCE, raw, statuses, text, until

pytestmark = pytest.mark.timeout(120)


# Isolation


async def hangs(reader, _writer):
    await reader.read()


async def drips(_reader, writer):
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.5)


async def resets(_reader, writer):
    writer.transport.abort()


@pytest.mark.parametrize("speak", [hangs, drips, resets])
async def test_a_bad_endpoint_holds_up_nobody_else_nor_a_deliverys_other_endpoints(engine, speak):
    """Peers share a pool of workers: one endpoint that hangs holds up all, or gets all others their events twice."""
    async with AsyncExitStack() as peer, engine.receiving(lambda _: 204) as (hook, fine):
        url = await peer.enter_async_context(raw(speak))
        bad = await engine.endpoint(url, new_secret(os.urandom(32)), "bad", deadline=timedelta(seconds=30))
        await engine.tell(*(f"p{n}" for n in range(200)))
        async with engine.running(bad, fine):
            assert set((await engine.settled("hook")).values()) == {"delivered"}
            assert (hook.tally.received, hook.tally.duplicates) == (200, 0)
            assert set((await engine.states("bad")).values()) == {"waiting"}
            await peer.aclose()  # or the end would wait for the deadline of what is in flight


async def test_ten_thousand_deliveries_that_are_due_at_once_make_no_storm(engine):
    present, most = 0, 0

    async def answer(_):
        nonlocal present, most
        present += 1
        most = max(most, present)
        await asyncio.sleep(0.001)
        present -= 1
        return 204

    async with engine.receiving(answer, at_once=16) as (hook, claimed):
        for part in range(10):
            await engine.tell(*(f"p{part}-{n}" for n in range(1000)))
        await engine.world.sql(
            "UPDATE deliveries SET attempts = 3, due_at = now() - interval '1 hour' WHERE state = 'waiting'"
        )
        async with engine.running(claimed):
            assert Counter((await engine.settled()).values()) == {"delivered": 10_000}
        assert most <= 16
        assert hook.tally.duplicates == 0


async def test_new_events_flow_past_any_number_of_refused_ones(engine):
    """Refused orders fill neither the window nor the slots: their tries take half of both."""
    refused = {f"old{n} 1" for n in range(500)}
    arrived = []

    def answer(each):
        arrived.append(text(each))
        return 409 if text(each) in refused else 204

    async with engine.receiving(answer, at_once=4, options=EndpointOptions(schedule=(timedelta(0),) * 3)) as (_, one):
        await engine.tell(*(f"old{n}" for n in range(500)))
        await engine.world.sql("UPDATE deliveries SET attempts = 1, due_at = now() - interval '1 hour'")
        await engine.tell(*(f"new{n}" for n in range(50)))
        async with engine.running(one):
            await until(lambda: sum(each.startswith("new") for each in arrived) == 50)
        assert sum(each.startswith("old") for each in arrived) < 300


# Flow


async def test_a_dead_receiver_is_asked_by_a_few_probes_only_and_then_gets_everything_in_order(engine):
    """Knative sent one event 184 times in an hour; here a breaker waits, and waiting spends no attempt."""
    well, asked = False, []

    def answer(each):
        asked.append(text(each))
        return 204 if well else 500

    async with engine.receiving(answer) as (hook, claimed):
        await engine.tell(*(f"p{n}" for n in range(300)))
        await engine.tell(*(f"p{n}" for n in range(300)))
        async with engine.running(claimed):
            await until(lambda: len(asked) >= 10)
            well = True
            assert set((await engine.settled()).values()) == {"delivered"}
        assert hook.tally.refused < 40
        counted = await engine.world.sql(
            "SELECT o.body, d.attempts FROM deliveries AS d JOIN outbox AS o USING (position)"
        )
        assert {row["body"].decode(): row["attempts"] for row in counted} == Counter(asked)
        order = defaultdict(list)
        for each in dict.fromkeys(asked):
            name, _, sequence = each.partition(" ")
            order[name].append(sequence)
        assert all(each == ["1", "2"] for each in order.values())


async def test_no_more_attempts_a_second_than_the_endpoint_has_agreed_to(engine):
    """Svix stores a rate limit and never keeps it; Convoy's waits by the schedule of retries instead of the limit's."""
    at = []

    def answer(_):
        at.append(time.monotonic())
        return 204

    async with engine.receiving(answer, options=EndpointOptions(per_second=100)) as (_, claimed):
        await engine.tell(*(f"p{n}" for n in range(150)))
        async with engine.running(claimed):
            await engine.settled()
    # 10 at once after a quiet time, then 100 a second; what the network holds up may arrive closer together.
    assert at[-1] - at[0] >= (150 - 10 - 1) / 100 * 0.9
    assert all(later - earlier >= 0.5 for earlier, later in zip(at, at[75:], strict=False))


async def test_retry_after_holds_up_the_whole_endpoint(engine):
    """Svix makes ten seconds of a "120", and its 429 branch can never be reached; Convoy and Outpost ignore it."""
    at = []

    async def speak(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(4)
            at.append(time.monotonic())
            first = len(at) == 1
            head = b"429 Busy\r\nretry-after: 2" if first else b"204 Fine"
            writer.write(b"HTTP/1.1 " + head + b"\r\ncontent-length: 0\r\n\r\n")

    async with raw(speak) as url:
        claimed = await engine.endpoint(url, new_secret(os.urandom(32)), at_once=1)
        await engine.tell("p1", "p2", "p3")
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"delivered"}
    assert at[1] - at[0] >= 2


# Orderings


async def test_strict_a_refused_event_holds_up_its_order_and_no_other(engine):
    arrived = []

    def answer(each):
        arrived.append(text(each))
        return 500 if arrived.count("p1 1") == 1 and text(each) == "p1 1" else 204

    async with engine.receiving(answer) as (_, claimed):
        await engine.tell("p1", "p2")
        await engine.tell("p1", "p2")
        async with engine.running(claimed):
            await engine.settled()
    assert [each for each in arrived if each.startswith("p1")] == ["p1 1", "p1 1", "p1 2"]
    assert arrived.index("p2 2") < len(arrived) - 2


async def test_latest_only_sends_the_newest_after_a_refusal_and_counts_what_it_left_out(engine):
    arrived = []
    refuse, seen = asyncio.Event(), asyncio.Event()

    async def answer(each):
        arrived.append(text(each))
        if len(arrived) == 1:
            seen.set()
            await refuse.wait()
            return 500
        return 204

    options = EndpointOptions(ordering=Ordering.LATEST_ONLY, schedule=AT_ONCE)
    async with engine.receiving(answer, options=options) as (_, claimed):
        await engine.tell("p1")
        async with engine.running(claimed):
            await asyncio.wait_for(seen.wait(), PATIENCE)
            for _ in range(4):
                await engine.tell("p1")
            refuse.set()
            states = await engine.settled()
    assert arrived == ["p1 1", "p1 5"]
    assert Counter(states.values()) == {"superseded": 4, "delivered": 1}


async def test_skip_after_gives_an_event_up_after_so_many_attempts_and_its_order_goes_on(engine):
    arrived = []

    def answer(each):
        arrived.append(text(each))
        return 500 if text(each) == "p1 1" else 204

    options = EndpointOptions(ordering=Ordering.SKIP_AFTER, skip_after=2, schedule=AT_ONCE)
    async with engine.receiving(answer, options=options) as (_, claimed):
        await engine.tell("p1")
        await engine.tell("p1")
        async with engine.running(claimed):
            assert await engine.settled() == {"p1 1": "dead", "p1 2": "delivered"}
    assert arrived == ["p1 1", "p1 1", "p1 2"]


async def test_unordered_nothing_waits_for_another(engine):
    arrived = []

    def answer(each):
        arrived.append(text(each))
        return 500 if arrived.count("p1 1") == 1 and text(each) == "p1 1" else 204

    options = EndpointOptions(ordering=Ordering.UNORDERED, schedule=AT_ONCE)
    async with engine.receiving(answer, options=options) as (_, claimed):
        await engine.tell("p1")
        await engine.tell("p1")
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"delivered"}
    assert sorted(arrived[:2]) == ["p1 1", "p1 2"]
    assert arrived[2:] == ["p1 1"]


async def test_order_survives_a_runner_that_ends_in_the_middle_and_another_that_goes_on(engine):
    """Knative's retries start anew after a rebalance; here attempts and order are in the store."""
    async with engine.receiving(statuses(500), options=EndpointOptions(schedule=AT_ONCE)) as (hook, claimed):
        for _ in range(3):
            await engine.tell("p1", "p2")
        async with engine.running(claimed):
            await until(lambda: hook.tally.refused == 2)
        async with engine.running(claimed):
            assert set((await engine.settled()).values()) == {"delivered"}
    numbers = await engine.world.sql("SELECT number FROM attempts ORDER BY started_at")
    assert sorted(row["number"] for row in numbers) == [1] * 6 + [2] * 6


# Wishes


@pytest.mark.parametrize(
    ("status", "header", "state", "delivery"),
    [
        (410, b"", "disabled", "waiting"),
        (500, b"webhook-delivery: disable", "disabled", "waiting"),
        (204, b"webhook-delivery: disable", "disabled", "delivered"),
        (400, b"Webhook-Delivery: Abort-Message", "active", "dead"),
        (501, b"", "active", "dead"),
    ],
)
async def test_a_receiver_may_refuse_an_event_or_all_of_them_for_ever(engine, status, header, state, delivery):
    """No open server of today heeds 410, and Svix heeds the header only where it hosts."""

    async def speak(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(4)
            head = f"HTTP/1.1 {status} x\r\n".encode() + header + b"\r\n" * bool(header)
            writer.write(head + (b"" if status == 204 else b"content-length: 0\r\n") + b"\r\n")

    async with raw(speak) as url:
        claimed = await engine.endpoint(url, new_secret(os.urandom(32)))
        await engine.tell("p1")
        async with engine.running(claimed) as (runner,):
            if state == "disabled":
                await asyncio.wait_for(ended(runner), PATIENCE)
            else:
                await engine.settled()
    assert await engine.states() == {"p1 1": delivery}
    seen = await engine.world.registry.endpoint("hook")
    assert seen.subject.state == state
    assert bool(seen.problem) == (state == "disabled")


async def ended(runner):
    while not runner._deliver or not runner._deliver._over():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# Health


async def test_days_of_failure_suspend_an_endpoint_and_one_delivered_probe_brings_it_back(engine):
    """Svix forgets the failures of an endpoint with its cache; here they are in its row."""
    well = False

    async with engine.receiving(lambda _: 204 if well else 500, options=EndpointOptions(schedule=AT_ONCE * 30)) as (
        hook,
        claimed,
    ):
        await engine.tell("p1", "p2")
        async with engine.running(claimed):
            await until(lambda: hook.tally.refused >= 2)
        failing = (await engine.world.registry.endpoint("hook")).subject
        assert failing.health.failing_since is not None

        await engine.world.sql("UPDATE endpoints SET failing_since = now() - interval '73 hours'")
        async with engine.running(await again(engine, claimed)):
            await until(lambda: hook.tally.refused >= 3)
        suspended = await engine.world.registry.endpoint("hook")
        assert suspended.subject.state is EndpointState.SUSPENDED
        assert "one probe an hour" in suspended.problem

        well = True
        async with engine.running(await again(engine, claimed)):
            assert set((await engine.settled()).values()) == {"delivered"}
    recovered = await engine.world.registry.endpoint("hook")
    assert (recovered.subject.state, recovered.problem) == (EndpointState.ACTIVE, None)
    told = [row["type"] for row in await engine.world.sql("SELECT type FROM notices ORDER BY occurred_at")]
    assert told == ["endpoint.suspended", "endpoint.recovered"]


async def again(engine, claimed):
    """The endpoint as another worker finds it."""
    await engine.world.expire("endpoints", claimed.lease.subject)
    found = await engine.world.claimed("endpoints", claimed.lease.subject)
    return replace(found, subject=replace(found.subject, sealed=claimed.subject.sealed))


# Access


async def test_what_a_person_gave_for_access_is_sealed_and_shown_with_each_webhook_until_it_is_taken_back(engine):
    registry, heads = engine.world.registry, []

    async def speak(reader, writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
            heads.append(head)
            writer.write(b"HTTP/1.1 204 x\r\n\r\n")

    control = Control(
        registry, lambda: engine.world.vault, {}, Policy(allow_private=True), usual=Usual(allow_http=True)
    )
    access = {"headers": {"X-Tenant": "t1"}, "auth": {"kind": "bearer", "token": "canary-77"}}
    async with raw(speak) as url:
        added = await control.add_endpoint(customer="acme", name="hook", url=url, access=access)
        assert added.endpoint.access
        assert "canary" not in str(await engine.world.everything())
        assert "canary" not in added.model_dump_json()
        await engine.tell("p1")
        async with engine.running(await engine.world.claimed("endpoints", added.endpoint.id)):
            await engine.settled(added.endpoint.id)
        assert not (await control.change_endpoint("hook", access={})).access
        await engine.tell("p2")
        await engine.world.expire("endpoints", added.endpoint.id)
        async with engine.running(await engine.world.claimed("endpoints", added.endpoint.id)):
            await engine.settled(added.endpoint.id)
    first, second = heads
    assert "authorization: bearer canary-77" in first
    assert "x-tenant: t1" in first
    assert "authorization" not in second


# Changes


async def test_an_endpoint_is_changed_in_what_is_given_and_in_nothing_else(engine):
    world = engine.world
    control = Control(world.registry, lambda: world.vault, {}, Policy(allow_private=True))
    hook = await world.endpoint(
        at_once=7, options=EndpointOptions(per_second=5, where='type == "purchase_order.approved"')
    )
    changed = await control.change_endpoint(
        "hook", options={"ordering": "latest_only", "schedule": "0s,5s"}, defaults=["per_second"]
    )
    assert changed.options == EndpointOptions(
        ordering=Ordering.LATEST_ONLY, schedule=(timedelta(0), timedelta(seconds=5)), where=hook.subject.options.where
    )
    assert (changed.at_once, changed.url) == (7, hook.subject.url)
    renewed = await world.endpoints.renew([hook])
    assert renewed.changed == {hook.lease.subject}, "its runner starts anew"
    for wrong, says in (
        ({"options": {"orderng": 1}}, "orderng is not known; the known ones are ordering"),
        ({"options": {"skip_after": 0}}, "skip_after"),
        ({"options": {"where": "data.order.totl > 1"}}, "totl"),
        ({"defaults": ["nothing"]}, "there is no option nothing"),
        ({"at_once": 0}, "at_once"),
        ({"deadline": timedelta(0)}, "deadline"),
        ({"url": "http://x.example/"}, "https"),
        ({"access": {"auth": {"kind": "bearer", "token": "a b"}}}, "token"),
    ):
        with pytest.raises(UserError, match=says):
            await control.change_endpoint("hook", **wrong)
    assert await control.endpoint("hook") == changed


async def test_two_people_who_change_an_endpoint_at_once_do_not_undo_each_other(engine):
    hook = (await engine.world.endpoint()).subject
    await engine.world.registry.change_endpoint(hook, replace(hook, at_once=3))
    with pytest.raises(UserError, match="changed by somebody else"):
        await engine.world.registry.change_endpoint(hook, replace(hook, at_once=4))
