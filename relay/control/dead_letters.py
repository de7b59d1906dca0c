"""Dead letters: looked at, and sent again when what was wrong is mended.

read to the end -> those that are wanted -> listed, or written down and published where they came from, in order
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import Field

from relay.control.views import View
from relay.domain.errors import Transient, Unavailable, UserError
from relay.domain.messages import MessageRefused, Reason
from relay.domain.redrives import Letter, Redrive, Wanted, again, in_order, redrives
from relay.ports import Publishing

AT_ONCE = 500
"""Letters written down and published together."""


class Reading(Protocol):
    """Where letters are read."""

    def letters(self) -> AsyncIterator[Letter]:
        """Each letter there is now."""
        ...


class Redriving(Protocol):
    """Where redrives are written down."""

    async def save(self, redrives: Sequence[Redrive]) -> None:
        """Write them down."""
        ...

    async def known(self, ids: Collection[str]) -> Mapping[str, Redrive]:
        """Those of these that there are."""
        ...


class LetterView(View):
    """One dead letter, without its bytes."""

    at: datetime
    reason: str
    detail: str
    topic: str
    partition: int = Field(description="-1, as the offset: it never was in a topic.")
    offset: int
    key: str
    bytes: int | None = Field(description="Null when its bytes are not kept: they were too large.")
    redriven: bool = Field(description="Whether it was sent again before.")


class RedriveView(View):
    """What a redrive came to. `before` went with an earlier one; `stay` never were in a topic, or lack bytes."""

    redriven: int
    before: int
    stay: int
    by_reason: dict[str, int]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """What people do with dead letters."""

    box: Reading
    publisher: Publishing
    store: Redriving
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def listed(self, wanted: Wanted, most: int) -> list[LetterView]:
        """The latest, up to `most`, newest first. Raises Unavailable."""
        found = sorted(await self._found(wanted), key=lambda each: each.at, reverse=True)
        known = await self.store.known([each.id for each in found[:most]])
        return [_view(each, redriven=each.id in known) for each in found[:most]]

    async def redrive(
        self, wanted: Wanted, *, expires_in: timedelta | None, repeat: bool = False, dry_run: bool = False
    ) -> RedriveView:
        """Send them again where they came from, in their order; with `dry_run` only count.

        Those that were sent again before stay, but with `repeat`: they are then sent once more.

        Raises:
            UserError: commands among them had expired, and no new time is given.
            Unavailable: the broker or the database is not there; what went before is gone, and may go again.
        """
        found = await self._found(wanted)
        able = in_order(each for each in found if each.can_go)
        known = {} if repeat else await self.store.known([each.id for each in able])
        going = [each for each in able if each.id not in known]
        expired = sum(each.reason == Reason.EXPIRED for each in going)
        if expired and expires_in is None and not dry_run:
            raise UserError(
                f"{expired} of these {len(going)} are commands that had expired: give --expires-in, or leave them out "
                "with --reason"
            )
        if not dry_run:
            await self._send(going, self.clock() + expires_in if expires_in else None)
        counts = {reason: sum(each.reason == reason for each in going) for reason in {each.reason for each in going}}
        stay = sum(not each.can_go for each in found)
        return RedriveView(
            redriven=len(going),
            before=len(able) - len(going),
            stay=stay,
            by_reason=dict(sorted(counts.items())),
            dry_run=dry_run,
        )

    async def _found(self, wanted: Wanted) -> list[Letter]:
        return [each async for each in self.box.letters() if wanted.holds(each)]

    async def _send(self, going: Sequence[Letter], expires_at: datetime | None) -> None:
        for start in range(0, len(going), AT_ONCE):
            some = going[start : start + AT_ONCE]
            await self.store.save(redrives(some, expires_at))
            published = await self.publisher.publish([again(each) for each in some])
            match published.error:
                case MessageRefused() as refused:
                    raise UserError(f"the broker refuses one of them: {refused}. Those before it are sent") from None
                case Transient() as error:
                    sent = start + published.acknowledged
                    raise Unavailable(f"{sent} of {len(going)} are sent; say --again for the rest: {error}") from error


def _view(letter: Letter, *, redriven: bool) -> LetterView:
    came = letter.message
    return LetterView(
        at=letter.at,
        reason=letter.reason,
        detail=letter.detail,
        topic=came.topic,
        partition=came.partition,
        offset=came.offset,
        key=(came.key or b"").decode(errors="replace"),
        bytes=None if came.value is None else len(came.value),
        redriven=redriven,
    )
