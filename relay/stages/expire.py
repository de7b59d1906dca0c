"""Expire: commands that nobody did in time are over, and their senders are told.

    overdue -> result and dead letter of each -> kept for those that still wait

A connection's runner tells of its own; these are of connections that are paused or cannot be reached. What was sent and
not answered is never among them: it may have been done.
"""

import asyncio
from dataclasses import dataclass

import orjson
import structlog

from relay import metrics
from relay.domain.commands import read_command
from relay.domain.errors import Transient
from relay.domain.results import Outcome, ResultData
from relay.ports import Clock, Intake, OutboxEntry, Overdue, expired_letter
from relay.stages.tell import END, told

log = structlog.get_logger()

MOST = 500
LOOK_AGAIN = 5.0
"""Seconds between looks."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The sweep of a worker, over all connections."""

    store: Intake
    clock: Clock

    async def run(self) -> None:
        """Look until cancelled; a store that does not answer is asked again."""
        while True:
            expired = 0
            try:
                expired = await self.run_once()
            except Transient as error:
                log.warning("commands.unseen", problem=str(error))
            if expired < MOST:
                await asyncio.sleep(LOOK_AGAIN)

    async def run_once(self) -> int:
        """One bite; how many are over now. Raises Unavailable when the store is not there."""
        overdue = await self.store.overdue(MOST)
        if not overdue:
            return 0
        expired = await self.store.save_overdue([(each, self._entries(each)) for each in overdue])
        metrics.COMMANDS_EXPIRED.inc(expired)
        log.info("commands.expired", commands=expired)
        return expired

    def _entries(self, overdue: Overdue) -> list[OutboxEntry]:
        now, command = self.clock(), read_command(orjson.loads(overdue.body))
        result = ResultData(
            id=overdue.id,
            command_id=command.command_id,
            type=command.type,
            customer_id=overdue.customer_id,
            connection_id=overdue.connection_id,
            outcome=Outcome.EXPIRED,
            dry_run=command.dry_run,
            external_reference=command.external_reference,
            remote_id=getattr(command, "remote_id", None),
            attempts=overdue.attempts,
        )
        entries = [told(result, END, now)]
        if overdue.raw is not None and overdue.origin is not None:
            entries.append(expired_letter(overdue.id, overdue.raw, overdue.origin, now))
        return entries
