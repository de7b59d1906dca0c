"""Walking through a list whose pages shift: each window shares a record with the one before it, or goes back.

    records 0..99 -> the window that begins before record 99 and reaches furthest -> 98..195 -> ...

RM counts pages from the start of the list, so a record that goes away moves all behind it forward, and the next page
would miss one. A window that shows none of the records just read, nor begins before them, was moved: it is asked for
again from further back.
"""

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from relay.connectors.rm.times import LONG_AGO
from relay.domain.errors import UnexpectedReply

Key = tuple[int, ...]
"""Where a record stands in an order of the list."""
Id = tuple[int, int]
"""Company and movement."""


class NotInOrder(UnexpectedReply):
    """The list does not come in the order that was asked for."""


_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Movement:
    """One record of the list: what names it, its last change, and all of it. None: the record does not say."""

    id: Id | None
    stamp: dt.datetime | None
    record: Any


@dataclass(frozen=True, slots=True)
class Order:
    """One order of the list: how it is asked for, and where a record stands in it."""

    text: str
    key: Callable[[Movement], Key | None]
    parts: int
    """Numbers in a key."""
    unique: bool
    """No two records stand at one place."""


BY_ID: Final = Order("CompanyId,MovementId", lambda movement: movement.id, parts=2, unique=True)
BY_CHANGE: Final = Order(
    "-RECMODIFIEDON",
    lambda movement: None if movement.stamp is None else (-((movement.stamp - LONG_AGO) // _MICROSECOND),),
    parts=1,
    unique=False,
)
"""The newest change first."""
NEWEST_FIRST: Final = Order(
    "-MovementId,CompanyId",
    lambda movement: None if movement.id is None else (-movement.id[1], movement.id[0]),
    parts=2,
    unique=True,
)
"""The movement that was made last first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk stands: how many records lie before it, and the key of the last of them."""

    position: int = 0
    last: Key = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Records that were not read before, in order, and where to go on behind them."""

    movements: tuple[Movement, ...]
    place: Place


Ask = Callable[[str, int, int], Awaitable[tuple[Sequence[Movement], bool]]]
"""(order, page, size) -> the movements of that page, and whether more follow."""


async def windows(ask: Ask, order: Order, size: int, place: Place | None = None) -> AsyncIterator[Window]:
    """All records behind `place`, each once. Raises NotInOrder, and UnexpectedReply for pages of one record."""
    at, recent, shared = place or Place(), frozenset[Id](), 1
    while True:
        begin, page, length = cut(at.position, size, shared)
        found, more = await ask(order.text, page, length)
        _check_sorted(order, found)
        if more and len(found) < length:
            if len(found) < 2 or length > size:  # noqa: PLR2004 - one record to share and one to go on
                raise UnexpectedReply(f"movements come {len(found)} a page, although more follow")
            size = len(found)  # RM gives no larger pages than this
            continue
        if begin and not _joins(order, found, at.last, recent):
            shared = min(shared * 8, at.position)
            continue
        fresh = tuple(each for each in found if each.id not in recent and _behind(order, each, at.last))
        at = Place(begin + len(found), _last(order, found) or at.last)
        recent, shared = frozenset(each.id for each in found if each.id), 1
        yield Window(fresh, at)
        if not more:
            return


def cut(position: int, size: int, shared: int) -> tuple[int, int, int]:
    """The window that holds `shared` records before `position` and reaches furthest: its begin, page and page size.

    A page begins at a multiple of its size, so the size is what is chosen: up to `size`, or the first larger one that
    reaches behind the position at all.
    """
    back = max(0, position - shared)
    sizes = list(range(size, max(1, size // 2) - 1, -1))
    best = max(sizes, key=lambda each: (back // each + 1) * each)
    while (back // best + 1) * best <= position:
        best = max(best, size) + 1
    page = back // best + 1
    return (page - 1) * best, page, best


def _check_sorted(order: Order, found: Sequence[Movement]) -> None:
    keys = [key for each in found if (key := order.key(each))]
    if any(second < first or (order.unique and second == first) for first, second in pairwise(keys)):
        raise NotInOrder(f"movements come in another order than asked for ({order.text})")


def _joins(order: Order, found: Sequence[Movement], last: Key, recent: frozenset[Id]) -> bool:
    """Whether nothing can lie between the records read before and these."""
    first = next((key for each in found if (key := order.key(each))), None)
    return any(each.id in recent for each in found) or (first is not None and first < last)


def _behind(order: Order, each: Movement, last: Key) -> bool:
    """Whether a record was not read before `last` was; one that has no key may not have been."""
    key = order.key(each)
    return key is None or not last or key > last or (key == last and not order.unique)


def _last(order: Order, found: Sequence[Movement]) -> Key | None:
    return next((key for each in reversed(found) if (key := order.key(each))), None)
