"""The lists in which codes must be: vendors with their store (SA2), payment terms (SE4), products (SB1).

Asked before MATA120 is, so that an unknown code is refused by the name of its field. What was found is believed for a
while; what was not found is asked for again each time.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.kit.readers import text_of
from relay.connectors.protheus.query import GenericQuery, quoted
from relay.domain.results import Refusal, RefusalReason

KEPT: Final = 600.0
"""Seconds that a code is believed to be there."""
MOST_KEPT: Final = 20_000
AT_ONCE: Final = 40
"""Codes in one question: the address of a request has a limit."""
STORES: Final = 200
"""Stores of one vendor that are looked at."""
_BLOCKED: Final = "1"


@dataclass(frozen=True, slots=True)
class Listing:
    """One list: its table, its columns, how it is called, and how wide its code is."""

    table: str
    code: str
    blocked: str | None
    called: str
    width: int
    store: str | None = None


VENDORS: Final = Listing("SA2", "A2_COD", "A2_MSBLQL", "vendor", 6, "A2_LOJA")
TERMS: Final = Listing("SE4", "E4_CODIGO", None, "payment term", 3)
PRODUCTS: Final = Listing("SB1", "B1_COD", "B1_MSBLQL", "product", 15)

Stores = Mapping[str, bool]
"""For each store of a code (one without a name where the list has no stores), whether it is blocked."""


class References:
    """Looks codes up; `clock` counts seconds."""

    def __init__(
        self, query: GenericQuery, absent: Collection[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._query = query
        self._absent = absent
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Stores]] = {}

    async def vendor(self, code: str, store: str | None) -> tuple[str, list[Refusal]]:
        """The store to buy from, the only one unless it is given; and what is wrong with the vendor."""
        stores = (await self._stores(VENDORS, [code], store)).get(code)
        if stores is None:
            return store or "", []
        if not stores:
            return "", [_unknown("vendor.code", VENDORS)]
        usable = sorted(name for name, blocked in stores.items() if not blocked)
        if store is None and len(usable) > 1:
            rule = f"is missing: this vendor has the stores {', '.join(usable)}"
            return "", [_no("vendor.site_code", rule, "Say which one")]
        if store is not None and store not in stores:
            rule = f"is no store of this vendor, which has {', '.join(sorted(stores))} (SA2)"
            return "", [_no("vendor.site_code", rule, "Give one of these")]
        if not usable or (store is not None and store not in usable):
            return "", [_blocked("vendor.code", VENDORS)]
        return store or usable[0], []

    async def listed(self, listing: Listing, places: Mapping[str, Iterable[str]]) -> list[Refusal]:
        """What is wrong with codes, each with the fields that name it."""
        found = await self._stores(listing, list(places))
        wrong: list[Refusal] = []
        for code, fields in places.items():
            stores = found.get(code)
            if stores is None or (stores and not all(stores.values())):
                continue
            wrong += [(_blocked if stores else _unknown)(field, listing) for field in fields]
        return wrong

    async def _stores(self, listing: Listing, codes: list[str], store: str | None = None) -> dict[str, Stores]:
        """What is known of these codes; nothing of those that this user may not see."""
        now = self._clock()
        if len(self._known) > MOST_KEPT:
            self._known.clear()
        missing = [code for code in codes if not self._believed(listing, code, store, now)]
        seen = True
        for start in range(0, len(missing), AT_ONCE):
            asked = missing[start : start + AT_ONCE]
            found = await self._ask(listing, asked)
            seen = seen and found is not None
            for code in asked:
                self._known.pop((listing.table, code), None)
                if found is not None:
                    self._known[listing.table, code] = now, found.get(code, {})
        return {code: known[1] for code in codes if (known := self._known.get((listing.table, code)))} if seen else {}

    def _believed(self, listing: Listing, code: str, store: str | None, now: float) -> bool:
        """Whether it was found lately, not blocked, and with the store that is wanted."""
        at, stores = self._known.get((listing.table, code), (0.0, {}))
        usable = not stores.get(store, True) if store is not None else any(not each for each in stores.values())
        return usable and now - at <= KEPT

    async def _ask(self, listing: Listing, codes: list[str]) -> dict[str, dict[str, bool]] | None:
        """Stores by code; None when this user may not see the list."""
        # Padded too: databases differ in whether blanks at the end count.
        texts = dict.fromkeys(text for code in codes for text in (code, code.ljust(listing.width)))
        where = f"{listing.table}.{listing.code} IN ({','.join(quoted(text) for text in texts)})"
        keys = (listing.code, *([listing.store] if listing.store else []))
        mark = [listing.blocked] if listing.blocked and listing.blocked not in self._absent else []
        size = STORES if listing.store else 2 * len(codes)
        answer = await self._query.rows(listing.table, (*keys, *mark), where, order=keys, size=size)
        if answer.hidden & set(keys):
            return None
        found: dict[str, dict[str, bool]] = {}
        for row in answer.rows:
            code, store = (_told(row, name) for name in (listing.code, listing.store))
            blocked = bool(mark) and _told(row, mark[0]) == _BLOCKED
            # An exclusive list may hold a code once for each branch: one that is not blocked is enough.
            stores = found.setdefault(code, {})
            stores[store] = stores.get(store, True) and blocked
        return found


def _told(row: Any, name: str | None) -> str:
    value = row.get(name) if isinstance(row, dict) and name else None
    return text_of(value) or "" if isinstance(value, str) else ""


def _unknown(place: str, listing: Listing) -> Refusal:
    return _no(place, f"is no {listing.called} that the ERP has ({listing.table})", f"Give a {listing.called} it has")


def _blocked(place: str, listing: Listing) -> Refusal:
    rule = f"is a {listing.called} that is blocked in the ERP ({listing.blocked})"
    return _no(place, rule, f"Give another {listing.called}, or have this one released in the ERP")


def _no(place: str, rule: str, fix: str) -> Refusal:
    return Refusal(reason=RefusalReason.VALIDATION, field=place, message=f"{place} {rule}", fix=fix)
