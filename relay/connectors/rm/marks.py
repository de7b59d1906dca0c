"""Which new order bears which mark, looked through newest first: two months once, and then only what has come since.

Somebody asks for each command in doubt at every poll; a walk through all orders each time would be all that RM does.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.connectors.kit.readers import text_of
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.listing import Listing
from relay.connectors.rm.times import local_of

SOUGHT: Final = dt.timedelta(days=60)
"""How long ago a new order that is looked for may have been made."""
LATE: Final = dt.timedelta(minutes=30)
"""How long after it was made a movement may be committed, and so be seen."""


@dataclass
class Marks:
    """The marks in one field; `name` is the field."""

    listing: Listing
    name: str
    zone: str
    _orders: dict[str, str] = field(default_factory=dict, init=False)
    _until: dt.datetime | None = field(default=None, init=False)
    """When the newest movement was made that has been looked at, by RM's clock; None: none has."""

    async def find(self, own: str) -> str | None:
        """The remote id of the newest order that bears this mark."""
        since = self._until - LATE if self._until else self.listing.now() - SOUGHT
        until, fresh = self._until, dict[str, str]()
        async for window in self.listing.newest_first(self.name):
            old = False
            for each in self.listing.ours(window.movements):
                made = self._made(each.record)
                old = old or (made is not None and made < since)
                until = made if made and (until is None or made > until) else until
                if each.id and (mark := _text(each.record, self.name)):
                    fresh.setdefault(mark, f"{each.id[0]}|{each.id[1]}")
            if own in fresh:
                # Not all was looked at: the next one begins where this one did.
                self._orders |= fresh
                return fresh[own]
            if old:
                break
        self._orders |= fresh
        self._until = until
        return self._orders.get(own)

    def _made(self, record: Mapping[str, Any]) -> dt.datetime | None:
        try:
            return local_of(record.get(fields_of.BORN), self.zone)
        except ValueError:
            return None


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return text_of(value) if isinstance(value, str) else None
