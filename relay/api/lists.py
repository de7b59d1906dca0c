"""Lists: pages of a few items, and where the next one begins.

?limit=50&after=<cursor>  ->  {"items": [...], "next": <cursor> or null}
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from relay.domain.paging import Key, page_cursor

Item = TypeVar("Item")
Row = TypeVar("Row")

MOST = 200

Limit = Annotated[int, Query(ge=1, le=MOST, description="Items at most.")]
After = Annotated[str | None, Query(max_length=2000, description="`next` of the page before; none: the list begins.")]


class Listed(BaseModel, Generic[Item]):
    """A page of a list."""

    items: tuple[Item, ...]
    next: str | None = Field(description="`after` of the next page; null: this is the last.")


def listed(
    of: str, rows: Sequence[Row], limit: int, *, view: Callable[[Row], Item], key: Callable[[Row], Key]
) -> Listed[Item]:
    """The page of `limit` items that `rows` begin with: ask the store for one row more than the page holds."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Listed(items=tuple(map(view, shown)), next=page_cursor(of, key(shown[-1])) if more else None)
