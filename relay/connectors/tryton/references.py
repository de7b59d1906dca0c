"""Codes and ids that a command names, as records of Tryton's lists: one call per list, and none for what is known.

    Wanted("vendor", "vendor.code", VENDORS, codes=("F001",)) -> find -> {"vendor": 2}

What is unknown, inactive or named twice is refused by its canonical field before anything is written. That matters: an
id that is not there is taken without a word by a Tryton on SQLite.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.connectors.tryton.rpc import Rpc
from relay.connectors.tryton.watch import listed
from relay.domain.results import Refusal, RefusalReason, WriteRefused

REMEMBERED: Final = 60.0
"""Seconds for which a record that was found is not asked for again."""
MOST_REMEMBERED: Final = 10_000
_INACTIVE_TOO: Final = {"active_test": False}


@dataclass(frozen=True, slots=True)
class Listing:
    """One of Tryton's lists: its canonical name, what one record is called, its model and the field of its code."""

    name: str
    noun: str
    model: str
    code: str = "code"
    domain: tuple[tuple[str, str, str], ...] = ()


VENDORS: Final = Listing("vendors", "vendor", "party.party")
ITEMS: Final = Listing("items", "item", "product.product")
TERMS: Final = Listing("payment_terms", "payment term", "account.invoice.payment_term", "name")
UNITS_OF_MEASURE: Final = Listing("units", "unit", "product.uom", "symbol")
CURRENCIES: Final = Listing("currencies", "currency", "currency.currency")
WAREHOUSES: Final = Listing("warehouses", "warehouse", "stock.location", domain=(("type", "=", "warehouse"),))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One record that a command names at `field`: by its id, by any of these codes, or by both."""

    place: str
    field: str
    listing: Listing
    id: str | None = None
    codes: tuple[str, ...] = ()
    fix: str = "use one that is there, or make it there first"
    """What to do when there is none."""

    @property
    def named(self) -> str:
        """How it was named, for people."""
        return f"{self.listing.code} {' or '.join(self.codes)}" if self.id is None else f"id {self.id}"


@dataclass(frozen=True, slots=True)
class Known:
    """A record of a list."""

    id: int
    code: str | None
    active: bool


@dataclass(slots=True)
class References:
    """Finds records for one connector; `clock` counts seconds."""

    rpc: Rpc
    clock: Callable[[], float] = time.monotonic
    _kept: dict[tuple[str, int | str], tuple[float, tuple[Known, ...]]] = field(default_factory=dict)

    async def find(self, wanted: Sequence[Wanted]) -> dict[str, int]:
        """The ids of what is wanted, by place. Raises WriteRefused naming every field that cannot be used."""
        by_listing: dict[Listing, list[Wanted]] = defaultdict(list)
        for each in wanted:
            by_listing[each.listing].append(each)
        found: dict[str, int] = {}
        refusals: list[Refusal] = []
        for listing, group in by_listing.items():
            known = await self._look_up(listing, group)
            for each in group:
                match _chosen(each, known):
                    case Known(id=number):
                        found[each.place] = number
                    case refusal:
                        refusals.append(refusal)
        if refusals:
            raise WriteRefused(refusals)
        return found

    async def _look_up(self, listing: Listing, group: Iterable[Wanted]) -> Mapping[int | str, tuple[Known, ...]]:
        """The records of these ids and codes, each under its id and its code."""
        names = {name for each in group for name in _names(each)}
        now = self.clock()
        fresh = {
            name: self._kept[listing.model, name][1]
            for name in names
            if self._kept.get((listing.model, name), (0.0, ()))[0] > now
        }
        if missing := names - fresh.keys():
            asked = await self._ask(listing, missing)
            if len(self._kept) > MOST_REMEMBERED:
                self._kept.clear()
            for name, records in asked.items():
                fresh[name] = records
                if any(each.active for each in records):  # what is missing may be made at any moment
                    self._kept[listing.model, name] = now + REMEMBERED, records
        return fresh

    async def _ask(self, listing: Listing, names: Iterable[int | str]) -> Mapping[int | str, tuple[Known, ...]]:
        ids = sorted(name for name in names if isinstance(name, int))
        codes = sorted(name for name in names if isinstance(name, str))
        domain = [
            *(list(clause) for clause in listing.domain),
            ["OR", [["id", "in", ids]], [[listing.code, "in", codes]]],
        ]
        fields = [listing.code, "active"]
        order = [["id", "ASC"]]
        method = f"model.{listing.model}.search_read"
        found = await self.rpc.call(method, domain, 0, None, order, fields, context=_INACTIVE_TOO)
        asked: dict[int | str, tuple[Known, ...]] = dict.fromkeys(names, ())
        for each in map(dict, listed(found)):
            known = Known(each["id"], each.get(listing.code), bool(each.get("active")))
            for name in (known.id, known.code):
                if name is not None and name in asked:
                    asked[name] = *asked[name], known
        return asked


def _names(wanted: Wanted) -> Iterable[int | str]:
    yield from _number(wanted.id or "")
    yield from wanted.codes


def _number(remote_id: str) -> Iterable[int]:
    if remote_id.isascii() and remote_id.isdecimal():
        yield int(remote_id)


def _chosen(wanted: Wanted, known: Mapping[int | str, tuple[Known, ...]]) -> Known | Refusal:
    by_code = [each for code in wanted.codes for each in known.get(code, ())]
    candidates = by_code
    if wanted.id is not None:
        candidates = list(known.get(int(wanted.id), ())) if wanted.id.isascii() and wanted.id.isdecimal() else []
        if wanted.codes and candidates and candidates[0] not in by_code:
            return _refused(
                wanted, f"id {wanted.id} and {wanted.listing.code} are not of the same {wanted.listing.noun}"
            )
    active = [each for each in candidates if each.active]
    noun = wanted.listing.noun
    if len(active) == 1:
        return active[0]
    if active:
        return _refused(wanted, f"Tryton has {len(active)} {noun}s with the {wanted.named}", "name it by its id")
    if candidates:
        return _refused(wanted, f"the {noun} with the {wanted.named} is inactive in Tryton", "activate it there")
    return _refused(wanted, f"Tryton has no {noun} with the {wanted.named}", wanted.fix)


def _refused(wanted: Wanted, message: str, fix: str = "give only one of them") -> Refusal:
    return Refusal(reason=RefusalReason.VALIDATION, message=message, field=wanted.field, fix=fix)
