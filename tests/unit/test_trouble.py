"""What asyncpg says when a connection is lost, in our words: worth another try, and no bug."""

import asyncpg
import pytest

from relay.domain.errors import Unavailable
from relay.store.trouble import mapped


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
