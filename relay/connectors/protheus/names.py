"""Names behind codes: vendors (SA2), payment terms (SE4) and products (SB1), asked for in batches and kept a while."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.connectors.protheus.query import GenericQuery, quoted

KEPT: Final = 3600.0
"""Seconds that a name is believed."""
MOST_KEPT: Final = 20_000
LONGEST: Final = 40
"""Characters of a code that is worth asking for; the widest code column has 30."""
AT_ONCE: Final = 40
"""Codes in one question: the address of a request has a limit."""

Codes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    """One table of names: the row's columns that hold the code, the table's own, and what is wanted of it."""

    table: str
    codes: tuple[str, ...]
    keys: tuple[str, ...]
    wanted: tuple[str, ...]
    unless: str = ""
    """Not asked for when the row already says this."""


LOOKUPS: Final = (
    Lookup("SA2", ("C7_FORNECE", "C7_LOJA"), ("A2_COD", "A2_LOJA"), ("A2_NOME", "A2_CGC")),
    Lookup("SE4", ("C7_COND",), ("E4_CODIGO",), ("E4_DESCRI",)),
    Lookup("SB1", ("C7_PRODUTO",), ("B1_COD",), ("B1_DESC",), unless="C7_DESCRI"),
)


class Names:
    """Answers with looked-up columns; `clock` counts seconds."""

    def __init__(self, query: GenericQuery, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._query = query
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known: dict[tuple[str, Codes], tuple[float, Mapping[str, Any]]] = {}
        self.hidden: frozenset[str] = frozenset()
        """Columns that the ERP keeps back from this user."""

    async def beside(self, rows: Iterable[Any]) -> list[Mapping[str, Any]]:
        """The rows with the looked-up columns beside their own; codes without a name get none."""
        given = list(rows)
        # One at a time: what one of them asks for, another must not take for nameless meanwhile, or forget.
        async with self._asking:
            for lookup in LOOKUPS:
                await self._learn(lookup, given)
            return [row | self._names(row) for row in given]

    async def _learn(self, lookup: Lookup, rows: Sequence[Any]) -> None:
        now = self._clock()
        if len(self._known) > MOST_KEPT:
            self._known.clear()
        wanted = {_trimmed(codes): codes for row in rows if (codes := _codes(lookup, row))}
        missing = [codes for code, codes in wanted.items() if self._age(lookup, code, now) > KEPT]
        for start in range(0, len(missing), AT_ONCE):
            asked = missing[start : start + AT_ONCE]
            found = await self._ask(lookup, asked)
            self._known |= {(lookup.table, _trimmed(codes)): (now, {}) for codes in asked}
            self._known |= {(lookup.table, name): (now, row) for name, row in found}

    async def _ask(self, lookup: Lookup, asked: Sequence[Codes]) -> list[tuple[Codes, Mapping[str, Any]]]:
        where = " OR ".join(
            "("
            + " AND ".join(
                f"{lookup.table}.{key} = {quoted(code)}" for key, code in zip(lookup.keys, codes, strict=True)
            )
            + ")"
            for codes in asked
        )
        # Twice the rows asked for: an exclusive table may hold a code once for each branch.
        answer = await self._query.rows(
            lookup.table, (*lookup.keys, *lookup.wanted), f"({where})", order=lookup.keys, size=2 * len(asked)
        )
        self.hidden |= answer.hidden
        # Reversed, so that of several rows for one code the first stands.
        found = [(_texts(row, lookup.keys), row) for row in reversed(answer.rows) if isinstance(row, dict)]
        return [(_trimmed(codes), _only_texts(row, lookup.wanted)) for codes, row in found if codes]

    def _age(self, lookup: Lookup, code: Codes, now: float) -> float:
        known = self._known.get((lookup.table, code))
        return now - known[0] if known else float("inf")

    def _names(self, row: Mapping[str, Any]) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for lookup in LOOKUPS:
            if codes := _codes(lookup, row):
                names |= self._known.get((lookup.table, _trimmed(codes)), (0.0, {}))[1]
        return names


def _codes(lookup: Lookup, row: Mapping[str, Any]) -> Codes | None:
    """The row's code as it came, padded; None when it holds none, or needs no name."""
    told = row.get(lookup.unless) if lookup.unless else None
    codes = _texts(row, lookup.codes)
    return None if (isinstance(told, str) and told.strip()) or not codes or not codes[0].strip() else codes


def _texts(row: Mapping[str, Any], columns: Sequence[str]) -> Codes | None:
    texts = tuple(text for name in columns if isinstance(text := row.get(name), str))
    askable = all(len(text) <= LONGEST and text.isprintable() for text in texts)
    return texts if askable and len(texts) == len(columns) else None


def _only_texts(row: Mapping[str, Any], columns: Sequence[str]) -> Mapping[str, str]:
    return {name: text for name in columns if isinstance(text := row.get(name), str)}


def _trimmed(codes: Codes) -> Codes:
    return tuple(code.rstrip() for code in codes)
