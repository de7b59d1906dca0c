"""Recording attempts on a real PostgreSQL: the lane goes on, stays, or ends, and never strands what waits."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.deliveries import Answer, Outcome
from relay.domain.endpoints import EndpointState, Health
from relay.domain.errors import LeaseLost
from relay.domain.health import Verdict
from relay.domain.notices import NoticeType
from relay.ports import Rules
from tests.fixtures.store import attempt

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
async def hook(world):
    return await world.endpoint()


@pytest.fixture
async def erp(world, hook):
    """Three events of p1 and one of p2, admitted."""
    erp = await world.connection()
    for remote_ids in (("p1", "p2"), ("p1",), ("p1",)):
        await world.admissions.admit(await world.tell(erp, *remote_ids))
    return erp


async def test_a_delivered_head_gives_its_place_to_the_next(world, hook, erp):
    first, other = await world.heads(hook)
    (promoted,) = await world.record(hook.lease, [attempt(first)])
    assert promoted.body == b"p1 2"
    assert [head.id for head in await world.heads(hook)] == [other.id, promoted.id]
    assert await world.states() == ["delivered", "waiting", "waiting", "waiting"]


async def test_a_dead_head_gives_its_place_to_the_next(world, hook, erp):
    (promoted,) = await world.record(hook.lease, [attempt((await world.heads(hook))[0], Outcome.DEAD)])
    assert promoted.body == b"p1 2"
    assert (await world.states())[0] == "dead"


async def test_a_refused_head_keeps_its_lane_until_it_is_due_again(world, hook, erp):
    first, other = await world.heads(hook)
    assert await world.record(hook.lease, [attempt(first, Outcome.RETRY, due_at=LATER)]) == ()
    found = await world.look(hook, 10)
    assert [head.id for head in found.due] == [other.id]
    assert found.next_due == LATER
    assert not await world.stranded()


async def test_an_endpoint_that_is_gone_keeps_what_waits_and_it_goes_first_when_enabled(world, hook, erp):
    first = (await world.heads(hook))[0]
    assert await world.record(hook.lease, [attempt(first, Outcome.GONE)]) == ()
    await world.deliveries.disable(hook.lease, hook.subject.url, "410 \x00 Gone")
    assert (await world.registry.endpoint("hook")).problem == "410 \ufffd Gone"
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.ACTIVE)
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p2 1"]
    assert not await world.stranded()


async def test_the_last_of_a_lane_leaves_it_empty_and_the_next_event_begins_it_anew(world, hook, erp):
    head = (await world.heads(hook))[1]
    assert await world.record(hook.lease, [attempt(head)]) == ()
    await world.admissions.admit(await world.tell(erp, "p2"))
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p2 2"]


async def test_a_batch_moves_all_its_lanes_at_once(world, hook, erp):
    first, other = await world.heads(hook)
    promoted = await world.record(
        hook.lease, [attempt(other, Outcome.RETRY, due_at=LATER), attempt(first, Outcome.DELIVERED)]
    )
    assert [each.body for each in promoted] == [b"p1 2"]


async def test_two_attempts_at_one_delivery_in_one_batch_are_both_kept_and_the_last_counts(world, hook, erp):
    head = (await world.heads(hook))[1]
    again = replace(attempt(head), number=2)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER), again])
    found = await world.registry.delivery(head.id)
    assert (found["state"], found["attempts"], len(found["attempts_made"])) == ("delivered", 2, 2)


async def test_an_attempt_is_kept_as_it_was(world, hook, erp):
    head = (await world.heads(hook))[0]
    answer = Answer(status=503, error="", detail="busy \x00", excerpt=b"\x00\xff", retry_after=3)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER, answer=answer)])
    found = await world.registry.delivery(head.id)
    (made,) = found["attempts_made"]
    assert (found["last_status"], found["due_at"], found["done_at"]) == (503, LATER, None)
    assert (made["detail"], made["excerpt"], made["seconds"]) == ("busy \ufffd", b"\x00\xff", 0.25)


async def test_attempts_at_deliveries_that_were_removed_do_not_hold_up_the_others(world, hook, erp):
    other = await world.connection("other")
    await world.admissions.admit(await world.tell(other, "p9"))
    heads = await world.heads(hook)
    await world.registry.remove("connections", other.lease.subject)
    await world.record(hook.lease, [attempt(head) for head in heads])
    assert await world.states() == ["delivered", "delivered", "waiting", "waiting"]
    assert await world.one("SELECT count(*) FROM attempts") == 2


async def test_heads_are_given_longest_due_first_and_no_more_than_asked(world, hook, erp):
    first, other = await world.heads(hook)
    await world.sql("UPDATE deliveries SET due_at = now() - interval '1 hour' WHERE id = $1", other.id)
    assert [head.id for head in await world.heads(hook)] == [other.id, first.id]
    assert [head.id for head in await world.heads(hook, 1)] == [other.id]


async def test_nothing_due_later_means_no_next_due(world, hook, erp):
    assert (await world.look(hook, 1)).next_due is None


async def test_what_falls_due_while_heads_are_read_is_never_overlooked(world, hook, erp):
    # Due between the two looks: the first look must be the one for later ones.
    head = (await world.heads(hook))[0]
    for _ in range(50):
        await world.sql("UPDATE deliveries SET due_at = clock_timestamp() + interval '1 ms' WHERE id = $1", head.id)
        found = await world.look(hook, 10)
        assert found.next_due or head.id in {each.id for each in found.due}


# A person's retry


async def test_a_dead_delivery_is_sent_again_when_a_person_says_so(world, hook, erp):
    head = (await world.heads(hook))[0]
    await world.record(hook.lease, [attempt(head, Outcome.DEAD)])
    await world.registry.retry(head.id)
    # Both it and the present head are due; the runner sends the earlier first, as they share a lane.
    assert [each.body for each in await world.heads(hook) if each.lane == head.lane] == [b"p1 2", b"p1 1"]
    await world.record(hook.lease, [attempt(each) for each in await world.heads(hook)])
    assert [each.body for each in await world.heads(hook)] == [b"p1 3"]
    assert not await world.stranded()


async def test_after_a_retry_the_lane_still_goes_on_in_either_order(world, hook, erp):
    head = (await world.heads(hook))[0]
    await world.record(hook.lease, [attempt(head, Outcome.DEAD)])
    await world.registry.retry(head.id)
    present, retried = [each for each in await world.heads(hook) if each.lane == head.lane]
    assert await world.record(hook.lease, [attempt(present)]) == ()
    (last,) = await world.record(hook.lease, [attempt(retried)])
    assert last.body == b"p1 3"


# Only the newest


async def test_a_refused_snapshot_gives_way_to_the_newest_of_its_order_which_keeps_its_time(world, hook, erp):
    head, other = await world.heads(hook)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER)], latest_only=True)
    assert await world.states() == ["superseded", "waiting", "superseded", "waiting"]
    found = await world.look(hook)
    assert ([each.id for each in found.due], found.next_due) == ([other.id], LATER)
    assert (await world.registry.endpoint("hook")).counts["superseded"] == 2
    assert not await world.stranded()


async def test_what_came_while_a_snapshot_was_on_its_way_goes_next_without_those_between(world, hook, erp):
    head = (await world.heads(hook))[0]
    (following,) = await world.record(hook.lease, [attempt(head)], latest_only=True)
    assert following.body == b"p1 3"
    assert await world.states() == ["delivered", "waiting", "superseded", "waiting"]


async def test_a_refused_snapshot_is_left_out_when_a_newer_one_came_before_its_time(world, hook, erp):
    head, _ = await world.heads(hook)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=long_ago)])
    await world.deliveries.supersede(hook.lease, [head.id])
    assert await world.states() == ["waiting"] * 4, "what is held may be on its way"
    await world.deliveries.supersede(hook.lease, [])
    assert [each.body for each in await world.heads(hook)] == [b"p1 3", b"p2 1"]
    await world.record(hook.lease, [replace(attempt(head, Outcome.RETRY, due_at=LATER), number=2)])
    assert (await world.states())[0] == "superseded", "an attempt that was on its way brings it not back"
    await world.deliveries.supersede(hook.lease, [])
    assert not await world.stranded()


# Room


async def test_heads_come_within_their_bytes_and_one_at_least(world, hook, erp):
    first, other = await world.heads(hook)
    found = await world.look(hook, most_bytes=1)
    assert ([each.id for each in found.due], found.more) == ([first.id], True)
    found = await world.look(hook, most_bytes=len(first.body) + 1)
    assert (len(found.due), found.more) == (2, False)
    found = await world.look(hook, held=[first.id])
    assert [each.id for each in found.due] == [other.id]


async def test_new_deliveries_are_found_behind_any_number_of_due_retries(world, hook):
    erp = await world.connection()
    await world.admissions.admit(await world.tell(erp, *(f"p{n}" for n in range(30))))
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    await world.record(
        hook.lease, [attempt(each, Outcome.RETRY, due_at=long_ago) for each in (await world.heads(hook))[:28]]
    )
    found = await world.look(hook, 4)
    assert [each.attempts for each in found.due] == [1, 1, 1, 1, 0, 0]
    assert found.more


async def test_the_next_heads_come_within_their_bytes_and_the_rest_is_due_in_the_store(world, hook, erp):
    await world.admissions.admit(await world.tell(erp, "p2"))
    heads = await world.heads(hook)
    rules = Rules(latest_only=False, bytes=1)
    found = await world.deliveries.record(hook.lease, [attempt(each) for each in heads], rules)
    assert ([each.body for each in found.due], found.more) == ([b"p1 2"], True)
    assert [each.body for each in await world.heads(hook)] == [b"p1 2", b"p2 2"]


# Health


async def test_health_is_kept_with_the_attempts_and_told_in_the_same_step(world, hook, erp):
    now = datetime.now(UTC)
    health = Health(now - timedelta(hours=1), timedelta(hours=1))
    verdict = Verdict(health, now, NoticeType.ENDPOINT_FAILING, problem="nothing was delivered")
    head = (await world.heads(hook))[0]
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER)], verdict=verdict)
    await world.expire("endpoints", hook.lease.subject)
    claimed = await world.claimed("endpoints", hook.lease.subject)
    assert claimed.subject.health == health
    assert (await world.registry.endpoint("hook")).problem == "nothing was delivered"
    assert await world.one("SELECT type FROM notices") == "endpoint.failing"


async def test_a_suspended_endpoint_is_still_worked_on_and_enabling_it_forgets_its_failure(world, hook, erp):
    now = datetime.now(UTC)
    verdict = Verdict(Health(now, suspended_at=now), now, NoticeType.ENDPOINT_SUSPENDED, EndpointState.SUSPENDED, "x")
    head = (await world.heads(hook))[0]
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER)], verdict=verdict)
    await world.expire("endpoints", hook.lease.subject)
    claimed = await world.claimed("endpoints", hook.lease.subject)
    assert claimed.subject.state is EndpointState.SUSPENDED
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.ACTIVE)
    await world.expire("endpoints", hook.lease.subject)
    assert (await world.claimed("endpoints", hook.lease.subject)).subject.health == Health()


async def test_what_was_in_flight_when_a_person_disabled_an_endpoint_does_not_enable_it(world, hook, erp):
    (head, _) = await world.heads(hook)
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.DISABLED)
    verdict = Verdict(Health(), LATER, NoticeType.ENDPOINT_RECOVERED, EndpointState.ACTIVE)
    await world.record(hook.lease, [attempt(head)], verdict=verdict)
    assert (await world.registry.endpoint("hook")).subject.state is EndpointState.DISABLED
    assert await world.sql("SELECT * FROM notices") == []
    assert "delivered" in await world.states()


async def test_disabling_is_told(world, hook, erp):
    await world.deliveries.disable(hook.lease, hook.subject.url, "410 Gone")
    assert await world.one("SELECT type FROM notices") == "endpoint.disabled"


# Together


async def test_many_endpoints_record_together_and_one_that_lost_its_lease_fails_alone(world):
    erp = await world.connection()
    hooks = [await world.endpoint(f"hook{n}") for n in range(8)]
    for _ in range(3):
        await world.admissions.admit(await world.tell(erp, "p1", "p2"))
    heads = {hook.lease.subject: await world.heads(hook) for hook in hooks}
    await world.taken_over("endpoints", hooks[3].lease)
    refused = [attempt(each, Outcome.RETRY, due_at=LATER) for each in heads[hooks[5].lease.subject]]
    made = [refused if hook is hooks[5] else [attempt(each) for each in heads[hook.lease.subject]] for hook in hooks]
    found = await asyncio.gather(
        *(world.record(hook.lease, some, latest_only=hook is hooks[6]) for hook, some in zip(hooks, made, strict=True)),
        return_exceptions=True,
    )
    assert isinstance(found[3], LeaseLost)
    assert found[5] == ()
    assert sorted(each.body for each in found[6]) == [b"p1 3", b"p2 3"]
    for number in (0, 1, 2, 4, 7):
        assert sorted(each.body for each in found[number]) == [b"p1 2", b"p2 2"]
    assert await world.one("SELECT count(*) FROM attempts") == 7 * 2
    assert not await world.stranded()


async def test_an_endpoint_that_is_being_changed_holds_up_no_other_that_records_with_it(world):
    erp = await world.connection()
    hooks = [await world.endpoint(f"hook{n}") for n in range(4)]
    await world.admissions.admit(await world.tell(erp, "p1"))
    made = [(hook, [attempt(each) for each in await world.heads(hook)]) for hook in hooks]
    async with world.database.session() as other, other.transaction():
        await other.execute("SELECT 1 FROM endpoints WHERE id = $1 FOR UPDATE", hooks[2].lease.subject)
        tasks = [asyncio.create_task(world.record(hook.lease, some)) for hook, some in made]
        await asyncio.wait([tasks[0], tasks[1], tasks[3]], timeout=30)
        assert [task.done() for task in tasks] == [True, True, False, True]
    await tasks[2]
    assert set(await world.states()) == {"delivered"}


async def test_customers_whose_rows_somebody_holds_hold_up_no_other(world):
    erp = await world.connection()
    hooks = [await world.endpoint(f"hook{n}") for n in range(4)]
    await world.admissions.admit(await world.tell(erp, "p1"))
    made = [(hook, [attempt(each) for each in await world.heads(hook)]) for hook in hooks]
    async with world.database.session() as other, other.transaction():
        await other.execute("SELECT 1 FROM deliveries WHERE endpoint_id <> $1 FOR UPDATE", hooks[3].lease.subject)
        held = [asyncio.create_task(world.record(hook.lease, some)) for hook, some in made[:3]]
        await asyncio.wait(held, timeout=0.05)
        async with asyncio.timeout(30):
            await world.record(hooks[3].lease, made[3][1])
        assert not any(task.done() for task in held)
    await asyncio.gather(*held)
    assert set(await world.states()) == {"delivered"}


async def test_what_an_earlier_lease_brought_is_refused_beside_what_the_next_one_brings(world, hook, erp):
    first, second = await world.heads(hook)
    new = await world.taken_over("endpoints", hook.lease)
    lost, _ = await asyncio.gather(
        world.record(hook.lease, [attempt(first)]), world.record(new.lease, [attempt(second)]), return_exceptions=True
    )
    assert isinstance(lost, LeaseLost)
    assert await world.one("SELECT count(*) FROM attempts") == 1


async def test_what_a_former_url_said_does_not_disable_the_one_that_a_person_gave_instead(world, hook):
    moved = replace(hook.subject, url="https://y.example/hook")
    await world.registry.change_endpoint(hook.subject, moved)
    await world.deliveries.disable(hook.lease, hook.subject.url, "410 Gone")
    assert (await world.registry.endpoint("hook")).subject.state is EndpointState.ACTIVE
    assert await world.one("SELECT count(*) FROM notices") == 0
