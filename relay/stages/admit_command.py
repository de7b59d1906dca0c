"""Admit a command: judged by itself, kept with what is told of it, whichever way it came in.

    Given -> how its connection stands -> judged -> NewCommand: a row, its first result, a dead letter when it is late

The row comes first: who sent it is told "accepted" only by what is in the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.domain.dead_letters import origin_of
from relay.domain.errors import AlreadyThere, NotFound, UserError
from relay.domain.intake import Given, Judged, given_body, judge
from relay.domain.messages import BadMessage, Incoming, Reason
from relay.domain.results import Outcome, RefusalReason
from relay.ports import Clock, Intake, NewCommand, Standing, expired_letter
from relay.stages.tell import FIRST, told

API, TOPIC = "api", "topic"
"""Where commands come from."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a command may be, in bytes, and how long one waits that does not say."""

    largest: int
    expire_after: timedelta


class InvalidCommand(UserError):
    """A command that can never be done as it is; `field` is where, if it is one place."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class CommandAdmission:
    """Admits commands, one by one, from whoever calls; those of a topic are taken in batches, by the same rules."""

    store: Intake
    limits: Limits
    clock: Clock

    async def admit_one(self, body: bytes, caller: str, *, connection_id: str | None = None) -> str:
        """Keep the command in the body of a call; its id, under which it is found from now on.

        The same one again is the same command. With `connection_id` it must be for that connection.

        Raises:
            InvalidCommand: it cannot be read, or a field cannot be used; nothing is kept.
            NotFound: its connection is not there.
            AlreadyThere: another command came under this id before, with other content.
        """
        try:
            given = given_body(body, self.limits.largest)
        except BadMessage as bad:
            raise InvalidCommand(str(bad), _FIELDS.get(bad.reason)) from None
        if connection_id not in {None, given.connection_id}:
            raise NotFound(f"there is no connection {given.connection_id[:100]!r}")
        standings = await self.store.standings([given.connection_id])
        command = self._judged(given, standings, caller)
        kept = (await self.store.keep([command])).get(given.id)
        if kept is None:
            raise NotFound(f"there is no connection {given.connection_id[:100]!r}")
        if kept.digest != given.digest:
            raise AlreadyThere(f"command_id: {given.command_id!r} is that of another command: give this one its own")
        return given.id

    def _judged(self, given: Given, standings: Mapping[str, Standing], caller: str) -> NewCommand:
        if (standing := standings.get(given.connection_id)) is None:
            raise NotFound(f"there is no connection {given.connection_id[:100]!r}")
        now = self.clock()
        judged = judge(given, standing.state, now, self.limits.expire_after)
        if judged.refusals and judged.refusals[0].reason is RefusalReason.VALIDATION:
            raise InvalidCommand(judged.refusals[0].message, judged.refusals[0].field)
        return new_command(given, judged, standing.customer_id, now, caller=caller)


_FIELDS = {Reason.NO_COMMAND_ID: "command_id", Reason.UNKNOWN_CONNECTION: "connection_id"}


def new_command(  # noqa: PLR0913 - what is known of it
    given: Given,
    judged: Judged,
    customer_id: str,
    now: datetime,
    *,
    caller: str,
    message: Incoming | None = None,
) -> NewCommand:
    """What is kept of it. `message` is what it came in, when that was one."""
    entries = [told(judged.result(given, customer_id), FIRST, now)]
    if judged.outcome is Outcome.EXPIRED and message is not None:
        entries.append(expired_letter(given.id, message.value or b"", origin_of(message), now))
    command = judged.command
    return NewCommand(
        id=given.id,
        connection_id=given.connection_id,
        command_id=given.command_id,
        type=given.type,
        remote_id=getattr(command, "remote_id", None),
        lane=judged.lane(given),
        dry_run=command.dry_run if command else False,
        body=command.model_dump_json(exclude_unset=True).encode() if command else given.content,
        digest=given.digest,
        outcome=judged.outcome,
        expires_at=judged.expires_at,
        entries=entries,
        source=API if message is None else TOPIC,
        caller=caller,
        raw=message.value if message else None,
        origin=origin_of(message) if message else None,
    )
