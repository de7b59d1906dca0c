"""Unblock on virtual time: it looks again and again, tells what it ended, and outlives a store that is away."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from relay.domain.errors import Unavailable
from relay.stages.unblock import Unblock
from tests.fakes import run

EVERY = 5.0


@dataclass
class Sessions:
    standing: int = 0
    away: bool = False
    looks: int = 0

    async def end(self):
        self.looks += 1
        if self.away:
            raise Unavailable("PostgreSQL went away")
        ended, self.standing = self.standing, 0
        return ended


async def looked(sessions, seconds):
    """What was logged in so much time."""
    with capture_logs() as logs, pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await Unblock(sessions, timedelta(seconds=EVERY)).run()
    return [(line["event"], line["log_level"]) for line in logs]


def test_sessions_that_stand_still_are_ended_and_told_once():
    async def work():
        sessions = Sessions(standing=2)
        assert await looked(sessions, 2 * EVERY + 1) == [("sessions.ended", "warning")]
        assert (sessions.looks, sessions.standing) == (3, 0)

    run(work())


def test_a_store_that_is_away_is_asked_again():
    async def work():
        sessions = Sessions(away=True)
        assert await looked(sessions, EVERY + 1) == [("sessions.unseen", "warning")] * 2

    run(work())
