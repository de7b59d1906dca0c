"""Recording attempts on a real PostgreSQL: the lane goes on, stays, or ends, and never strands what waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.domain.deliveries import Answer, Outcome
from relay.domain.endpoints import EndpointState
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
    (promoted,) = await world.deliveries.record(hook.lease, [attempt(first)])
    assert promoted.body == b"p1 2"
    assert [head.id for head in await world.heads(hook)] == [other.id, promoted.id]
    assert await world.states() == ["delivered", "waiting", "waiting", "waiting"]


async def test_a_dead_head_gives_its_place_to_the_next(world, hook, erp):
    (promoted,) = await world.deliveries.record(hook.lease, [attempt((await world.heads(hook))[0], Outcome.DEAD)])
    assert promoted.body == b"p1 2"
    assert (await world.states())[0] == "dead"


async def test_a_refused_head_keeps_its_lane_until_it_is_due_again(world, hook, erp):
    first, other = await world.heads(hook)
    assert await world.deliveries.record(hook.lease, [attempt(first, Outcome.RETRY, due_at=LATER)]) == ()
    found = await world.deliveries.heads(hook.lease.subject, 10)
    assert [head.id for head in found.due] == [other.id]
    assert found.next_due == LATER
    assert not await world.stranded()


async def test_an_endpoint_that_is_gone_keeps_what_waits_and_it_goes_first_when_enabled(world, hook, erp):
    first = (await world.heads(hook))[0]
    assert await world.deliveries.record(hook.lease, [attempt(first, Outcome.GONE)]) == ()
    await world.deliveries.disable(hook.lease, "410 \x00 Gone")
    assert (await world.registry.endpoint("hook")).problem == "410 \ufffd Gone"
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.ACTIVE)
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p2 1"]
    assert not await world.stranded()


async def test_the_last_of_a_lane_leaves_it_empty_and_the_next_event_begins_it_anew(world, hook, erp):
    head = (await world.heads(hook))[1]
    assert await world.deliveries.record(hook.lease, [attempt(head)]) == ()
    await world.admissions.admit(await world.tell(erp, "p2"))
    assert [head.body for head in await world.heads(hook)] == [b"p1 1", b"p2 2"]


async def test_a_batch_moves_all_its_lanes_at_once(world, hook, erp):
    first, other = await world.heads(hook)
    promoted = await world.deliveries.record(
        hook.lease, [attempt(other, Outcome.RETRY, due_at=LATER), attempt(first, Outcome.DELIVERED)]
    )
    assert [each.body for each in promoted] == [b"p1 2"]


async def test_two_attempts_at_one_delivery_in_one_batch_are_both_kept_and_the_last_counts(world, hook, erp):
    head = (await world.heads(hook))[1]
    again = replace(attempt(head), number=2)
    await world.deliveries.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER), again])
    found = await world.registry.delivery(head.id)
    assert (found["state"], found["attempts"], len(found["attempts_made"])) == ("delivered", 2, 2)


async def test_an_attempt_is_kept_as_it_was(world, hook, erp):
    head = (await world.heads(hook))[0]
    answer = Answer(status=503, error="", detail="busy \x00", excerpt=b"\x00\xff", retry_after=3)
    await world.deliveries.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=LATER, answer=answer)])
    found = await world.registry.delivery(head.id)
    (made,) = found["attempts_made"]
    assert (found["last_status"], found["due_at"], found["done_at"]) == (503, LATER, None)
    assert (made["detail"], made["excerpt"], made["seconds"]) == ("busy \ufffd", b"\x00\xff", 0.25)


async def test_attempts_at_deliveries_that_were_removed_do_not_hold_up_the_others(world, hook, erp):
    other = await world.connection("other")
    await world.admissions.admit(await world.tell(other, "p9"))
    heads = await world.heads(hook)
    await world.registry.remove("connections", other.lease.subject)
    await world.deliveries.record(hook.lease, [attempt(head) for head in heads])
    assert await world.states() == ["delivered", "delivered", "waiting", "waiting"]
    assert await world.one("SELECT count(*) FROM attempts") == 2


async def test_heads_are_given_longest_due_first_and_no_more_than_asked(world, hook, erp):
    first, other = await world.heads(hook)
    await world.sql("UPDATE deliveries SET due_at = now() - interval '1 hour' WHERE id = $1", other.id)
    assert [head.id for head in await world.heads(hook)] == [other.id, first.id]
    assert [head.id for head in await world.heads(hook, 1)] == [other.id]


async def test_nothing_due_later_means_no_next_due(world, hook, erp):
    assert (await world.deliveries.heads(hook.lease.subject, 1)).next_due is None


async def test_what_falls_due_while_heads_are_read_is_never_overlooked(world, hook, erp):
    # Due between the two looks: the first look must be the one for later ones.
    head = (await world.heads(hook))[0]
    for _ in range(50):
        await world.sql("UPDATE deliveries SET due_at = clock_timestamp() + interval '1 ms' WHERE id = $1", head.id)
        found = await world.deliveries.heads(hook.lease.subject, 10)
        assert found.next_due or head.id in {each.id for each in found.due}


# A person's retry


async def test_a_dead_delivery_is_sent_again_when_a_person_says_so(world, hook, erp):
    head = (await world.heads(hook))[0]
    await world.deliveries.record(hook.lease, [attempt(head, Outcome.DEAD)])
    await world.registry.retry(head.id)
    # Both it and the present head are due; the runner sends the earlier first, as they share a lane.
    assert [each.body for each in await world.heads(hook) if each.lane == head.lane] == [b"p1 2", b"p1 1"]
    await world.deliveries.record(hook.lease, [attempt(each) for each in await world.heads(hook)])
    assert [each.body for each in await world.heads(hook)] == [b"p1 3"]
    assert not await world.stranded()


async def test_after_a_retry_the_lane_still_goes_on_in_either_order(world, hook, erp):
    head = (await world.heads(hook))[0]
    await world.deliveries.record(hook.lease, [attempt(head, Outcome.DEAD)])
    await world.registry.retry(head.id)
    present, retried = [each for each in await world.heads(hook) if each.lane == head.lane]
    assert await world.deliveries.record(hook.lease, [attempt(present)]) == ()
    (last,) = await world.deliveries.record(hook.lease, [attempt(retried)])
    assert last.body == b"p1 3"
