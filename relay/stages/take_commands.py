"""Take commands: those of the commands topic are kept, each once; what nobody can work with goes to the dead letters.

    batch -> read -> signed, keyed -> judged -> one transaction: rows + first results -> acknowledge the batch

Nothing here waits for an ERP. A batch that is read twice changes nothing: the same command again is the same row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from relay import metrics
from relay.domain.ed25519_keys import parse_public_key
from relay.domain.intake import Given, check_key, given_message, judge
from relay.domain.messages import BadMessage, Incoming, Reason
from relay.domain.redrives import Redrive, redrive_named, renewed
from relay.domain.signing import ID, SIGNATURE, TIMESTAMP, TOLERANCE, SignatureRefused, verify
from relay.ports import Clock, Intake, NewCommand, Standing
from relay.stages.admit_command import Limits, new_command
from relay.stages.letters import Letters

log = structlog.get_logger()

ANYBODY: Final = "kafka"
"""Who sent a command that is not signed: whoever may write to the topic."""
FOREVER: Final = 10**12
"""Seconds that the signature of a message may be old which a person sent again."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message at its place in the batch; `command` is None of the same one again within it."""

    place: int
    given: Given
    command: NewCommand | None


@dataclass(frozen=True, slots=True)
class TakeCommands:
    """The consumer's side of the commands topic. With `signed` only what a connection's command key signed is taken."""

    store: Intake
    letters: Letters
    limits: Limits
    clock: Clock
    signed: bool = False

    async def run_once(self, batch: Sequence[Incoming]) -> int:
        """Take one batch; how many commands are new.

        Raises:
            Unavailable: the store or the broker is not there; the batch comes again.
        """
        read = [_read(message, self.limits.largest) for message in batch]
        standings = await self.store.standings({each.connection_id for each in read if isinstance(each, Given)})
        redrives = await self._redrives(batch)
        taken: list[_Taken] = []
        refused: dict[int, BadMessage] = {}
        seen: set[str] = set()
        for place, (message, given) in enumerate(zip(batch, read, strict=True)):
            try:
                if isinstance(given, BadMessage):
                    raise given
                redrive = redrives.get(place)
                command = self._command(message, given, standings, seen, redrive)
                taken.append(_Taken(place, renewed(given, redrive) if redrive else given, command))
            except BadMessage as bad:
                refused[place] = bad
        new, others = await self._keep(taken)
        refused |= others
        await self.letters.bury([self.letters.of(batch[place], refused[place]) for place in sorted(refused)])
        _tell(new, len(batch) - len(new) - len(refused), len(refused))
        return len(new)

    async def _redrives(self, batch: Sequence[Incoming]) -> dict[int, Redrive]:
        """By place, the redrives that messages are of: a header alone gives no right, the bytes must be those."""
        named = {place: name for place, each in enumerate(batch) if (name := redrive_named(each.headers))}
        known = await self.store.redrives(set(named.values()))
        found = {place: known[name] for place, name in named.items() if name in known}
        return {place: each for place, each in found.items() if each.fits(batch[place].value)}

    def _command(
        self,
        message: Incoming,
        given: Given,
        standings: Mapping[str, Standing],
        seen: set[str],
        redrive: Redrive | None,
    ) -> NewCommand | None:
        """What is to be kept of it; None when it comes again. Raises BadMessage."""
        standing = standings.get(given.connection_id)
        if standing is None:
            raise _gone(given)
        now = self.clock()
        tolerance = TOLERANCE if redrive is None else FOREVER
        caller = _signer(message, given, standing, int(now.timestamp()), tolerance) if self.signed else ANYBODY
        check_key(given, message.key)
        given = given if redrive is None else renewed(given, redrive)
        if given.id in seen:
            return None
        seen.add(given.id)
        judged = judge(given, standing.state, now, self.limits.expire_after)
        return new_command(given, judged, standing.customer_id, now, caller=caller, message=message)

    async def _keep(self, taken: Sequence[_Taken]) -> tuple[list[NewCommand], dict[int, BadMessage]]:
        """Those that are new, and by place those that turned out to be of another command or of no connection."""
        kept = await self.store.keep([each.command for each in taken if each.command])
        new: list[NewCommand] = []
        refused: dict[int, BadMessage] = {}
        for each in taken:
            if (known := kept.get(each.given.id)) is None:
                refused[each.place] = _gone(each.given)
            elif known.digest != each.given.digest:
                said = f"command_id {each.given.command_id!r} is that of another command of this connection"
                refused[each.place] = BadMessage(Reason.REUSED_ID, said)
            elif known.new and each.command:
                new.append(each.command)
        return new, refused


def _read(message: Incoming, largest: int) -> Given | BadMessage:
    try:
        return given_message(message, largest)
    except BadMessage as bad:
        return bad


def _gone(given: Given) -> BadMessage:
    return BadMessage(Reason.UNKNOWN_CONNECTION, f"there is no connection {given.connection_id[:100]!r}")


def _signer(message: Incoming, given: Given, standing: Standing, now: int, tolerance: int) -> str:
    """The public key that the message is signed with. Raises BadMessage."""
    if standing.command_key is None:
        raise BadMessage(Reason.UNAUTHORISED, "commands must be signed, and this connection has no command key")
    try:
        headers = _signature(message)
        verify([parse_public_key(standing.command_key)], headers, message.value or b"", now, tolerance)
    except SignatureRefused as refused:
        raise BadMessage(Reason.UNAUTHORISED, str(refused)) from None
    if headers[ID] != given.command_id:
        raise BadMessage(Reason.UNAUTHORISED, f"the header {ID} is not the command_id")
    return standing.command_key


def _signature(message: Incoming) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in message.headers:
        if (lower := name.lower()) in {ID, TIMESTAMP, SIGNATURE}:
            if lower in found:
                raise SignatureRefused("malformed", f"the header {lower} comes twice")
            found[lower] = (value or b"").decode(errors="replace")
    return found


def _tell(new: Sequence[NewCommand], repeated: int, dead: int) -> None:
    for command in new:
        metrics.COMMANDS_TAKEN.labels(command.outcome).inc()
    metrics.COMMANDS_TAKEN.labels("repeated").inc(repeated)
    counts = {outcome: sum(each.outcome == outcome for each in new) for outcome in ("accepted", "rejected", "expired")}
    log.info("commands.taken", **counts, repeated=repeated, dead=dead)
