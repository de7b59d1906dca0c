"""Notices from a change of state to the topic: written with it, told in order, by one worker at a time, and kept."""

from datetime import timedelta

import pytest

from relay.domain.notices import Notice, NoticeType
from relay.store.notices import NoticeStore, add_notices
from tests.fixtures.store import NOW

pytestmark = pytest.mark.timeout(180)

KEEP = timedelta(days=30)


@pytest.fixture
def store(database):
    return NoticeStore(database, KEEP)


def notice(subject="end_1", kind=NoticeType.ENDPOINT_FAILING, hours=1, **values):
    span = timedelta(hours=hours)
    return Notice(kind, "acme", subject, subject, NOW + span, failing_since=NOW, after=span, **values)


async def add(database, *notices):
    async def work(connection):
        await add_notices(connection, notices)

    await database.transact(work)


# The store


async def test_notices_are_taken_in_order_with_all_that_they_say(database, store):
    said = [notice(f"end_{n}", reason=f"reason {n}") for n in range(5)]
    await add(database, *said[:3])
    await add(database, *said[3:])
    assert await store.take(10) == said


async def test_what_is_written_twice_is_told_once(database, store):
    await add(database, notice(), notice())
    await add(database, notice(reason="other words"))
    assert await store.take(10) == [notice()]


async def test_writing_nothing_does_nothing(database, store):
    await add(database)
    assert await store.take(10) == []


async def test_a_notice_is_gone_with_the_transaction_that_wrote_it(database, store):
    async def work(connection):
        await add_notices(connection, [notice()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transact(work)
    assert await store.take(10) == []


async def test_what_one_worker_has_taken_no_other_takes_until_it_is_given_back(database, store):
    await add(database, notice("end_1"), notice("end_2"))
    first = await store.take(1)
    assert first == [notice("end_1")]
    assert await store.take(10) == [notice("end_2")]
    assert await store.take(10) == []
    await store.give_back([first[0].id])
    assert await store.take(10) == first


async def test_a_later_notice_of_a_subject_waits_while_an_earlier_one_is_being_told(database, store):
    await add(database, notice(hours=1), notice(hours=24))
    first = await store.take(1)
    assert await store.take(10) == []
    await store.told([first[0].id])
    assert await store.take(10) == [notice(hours=24)]


async def test_a_worker_that_died_leaves_its_notices_to_others_after_a_while(database, store, world):
    await add(database, notice())
    await store.take(10)
    await world.sql("UPDATE notices SET taken_until = now() - interval '1 second'")
    assert await store.take(10) == [notice()]


async def test_giving_back_what_another_has_told_meanwhile_does_not_tell_it_again(database, store):
    await add(database, notice())
    await store.take(10)
    await store.told([notice().id])
    await store.give_back([notice().id])
    assert await store.take(10) == []


async def test_told_notices_are_forgotten_after_a_while_and_untold_ones_never(database, store, world):
    await add(database, notice("end_1"), notice("end_2"), notice("end_3"))
    await store.told([notice("end_1").id, notice("end_2").id])
    await world.sql("UPDATE notices SET created_at = now() - interval '1 year'")
    assert await store.forget() == 0
    await world.sql("UPDATE notices SET told_at = now() - interval '31 days' WHERE subject_id = 'end_1'")
    assert await store.forget() == 1
    assert [row["subject_id"] for row in await world.sql("SELECT subject_id FROM notices ORDER BY position")] == [
        "end_2",
        "end_3",
    ]


async def test_a_reason_that_postgresql_cannot_hold_is_written_all_the_same(database, store):
    await add(database, notice(reason="half a \ud83d pair, and \x00"))
    [taken] = await store.take(10)
    assert taken.reason == "half a ? pair, and \ufffd"
