"""What asyncpg says when a connection is lost, in our words: worth another try, and no bug."""

import asyncio

import asyncpg
import pytest

from relay.domain.errors import Unavailable
from relay.store.trouble import cancelled_is_cancelled, mapped


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.IdleInTransactionSessionTimeoutError("stood still"),
        # A process that stood still goes on: its statement is cancelled, and the rollback meets that cancelling.
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        ConnectionResetError("reset"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_is_lost_is_tried_again(error):
    with pytest.raises(Unavailable) as raised, mapped():
        raise error
    assert "PostgreSQL" in str(raised.value)


async def cancelled_while(error):
    """How a task ends whose clean-up fails with `error` when it is cancelled."""

    async def work():
        with mapped(), cancelled_is_cancelled():
            try:
                await asyncio.Event().wait()
            finally:
                raise error

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize(
    "error", [asyncpg.InternalClientError("cannot switch"), TimeoutError(), asyncpg.InterfaceError("closed")]
)
async def test_who_is_cancelled_hears_nothing_of_a_rollback_that_failed(error):
    assert (await cancelled_while(error)).cancelled()


async def test_a_bug_is_told_to_who_is_cancelled():
    assert isinstance((await cancelled_while(ValueError("a bug"))).exception(), ValueError)


async def test_who_is_not_cancelled_hears_of_the_database():
    with pytest.raises(Unavailable), mapped(), cancelled_is_cancelled():
        raise asyncpg.InterfaceError("closed")
