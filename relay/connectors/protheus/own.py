"""Columns that a connection's mapping names: which of them SC7 has, found out once; one that is missing costs no order.

all of them in one question -> a fault, while the simplest question is answered -> each by itself
"""

from collections.abc import Iterable, Sequence
from typing import Any

from relay.connectors.kit.sampling import source_fields
from relay.connectors.protheus.walk import Walk
from relay.domain.capabilities import SourceField
from relay.domain.errors import Unavailable, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides, ReaderName
from relay.ports import Mappings

_FAULTS = (Unavailable, UnexpectedReply, Unsupported)
"""An unknown column and a sick server fail alike."""


class OwnColumns:
    """The extra columns of some mappings."""

    def __init__(self, walk: Walk, mappings: Mappings, absent: Iterable[str]) -> None:
        self._walk = walk
        self._absent = frozenset(absent)
        self._current = frozenset(_named(mappings.current))
        every = (mappings.current, *mappings.beside)
        self._all = tuple(dict.fromkeys(name for each in every for name in _named(each) if name not in self._absent))
        self._there: tuple[str, ...] | None = None
        self.missing: frozenset[str] = self._current & self._absent
        """Columns of the current mapping that are not there, or kept back from this user."""

    async def there(self) -> tuple[str, ...]:
        """The columns to ask for. Raises what is wrong with this ERP, if something is."""
        if self._there is None:
            found, hidden = await self._found(self._all)
            self._there = found
            self.missing |= self._current - set(found) | self._current & hidden
        return self._there

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people should know of the missing ones."""
        return tuple(f"SC7 has no column {name}, or this user may not see it" for name in sorted(self.missing))

    async def _found(self, names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
        if not names:
            return (), frozenset()
        try:
            return tuple(names), await self._walk.answers(names)
        except _FAULTS:
            await self._walk.answers()
        if len(names) == 1:
            return (), frozenset()
        parts = [await self._found((name,)) for name in names]
        return tuple(name for found, _ in parts for name in found), frozenset().union(*(hidden for _, hidden in parts))


async def unread(walk: Walk, only: str, asked: frozenset[str]) -> tuple[SourceField, ...]:
    """The columns of these orders' rows that nobody asks for, with samples; none if the ERP gives no others."""
    values: dict[str, list[Any]] = {}
    varied: set[str] = set()
    try:
        batches = [batch async for batch in walk.orders((), only=only, with_deleted=False)]
    except _FAULTS:
        return ()
    for rows in (rows for batch in batches for rows in batch.orders.values()):
        for row in rows:
            for name, value in row.items():
                values.setdefault(name, []).append(value)
                varied |= {name} if value != rows[0].get(name) else set()
    free = {name: found for name, found in values.items() if name not in asked and not name.endswith("_")}
    return source_fields(
        {name: found for name, found in free.items() if name not in varied},
        {name: found for name, found in free.items() if name in varied},
    )


def _named(overrides: MappingOverrides) -> Iterable[str]:
    return (
        name
        for columns in (overrides.fields, overrides.line_fields)
        for name, kind in columns.items()
        if kind is not ReaderName.OMIT
    )
