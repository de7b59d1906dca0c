"""Pulling: an endpoint's events as a log that its receiver reads for itself, in the order of their numbers.

    1 2 3 4 [5 6 forgotten] 7 8       after 2: 3 and 4, and more      after 4: forgotten, go on at 6

A page never jumps over a number: what follows it without a word is what there was. Where numbers are missing because
retention (or the removal of a connection) took them, the reader is told so, and where to go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.domain.errors import UserError


@dataclass(frozen=True, slots=True)
class Logged:
    """One event of an endpoint's log, with what became of its delivery. `body` is the event's frozen bytes."""

    number: int
    event_id: str
    delivery_id: str
    state: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a log without gaps. The next one is read after `until`; `last` is the newest number there is."""

    events: tuple[Logged, ...]
    until: int
    last: int

    @property
    def more(self) -> bool:
        """Whether there are later events now."""
        return self.until < self.last


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What follows the reader's cursor is no longer kept; what is kept follows `oldest`."""

    oldest: int


def page_of(after: int | None, last: int, found: Sequence[Logged]) -> Page | Forgotten:
    """What a reader gets that knows everything up to `after`; None begins with the oldest event that is kept.

    `found` are the first events after it in the order of numbers, and `last` the endpoint's newest number, looked up
    before them.

    Raises:
        UserError: `after` is ahead of the log.
    """
    if after is None:
        after = found[0].number - 1 if found else last
    newest = max(last, found[-1].number if found else 0)
    if after > newest:
        raise UserError("the cursor is ahead of this log, as after a restored backup: begin anew without a cursor")
    follows = [each for place, each in enumerate(found, after + 1) if each.number == place]
    if follows:
        return Page(tuple(follows), follows[-1].number, newest)
    if after == newest:
        return Page((), after, newest)
    return Forgotten(found[0].number - 1 if found else newest)
