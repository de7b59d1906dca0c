"""Walking through SC7 by key, so that rows that come and go under the reader cost nothing.

    page of rows -> grouped by (branch, number) -> the last order held back, it may be cut -> next page from its key

Keys go back to the ERP as they came, padding included: databases differ in whether blanks at the end count.
"""

import datetime as dt
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Final

from relay.connectors.protheus.mapping import BRANCH, ITEM, NUMBER, STAMP
from relay.connectors.protheus.query import Answer, GenericQuery, quoted
from relay.connectors.protheus.rows import Key, key_of, stamp_of
from relay.connectors.protheus.settings import ProtheusSettings
from relay.domain.errors import UnexpectedReply

TABLE: Final = "SC7"
BY_ORDER: Final = (BRANCH, NUMBER, ITEM)
BY_STAMP: Final = (STAMP, BRANCH, NUMBER)
FIRST_ITEM: Final = "0001"
KEYS_PER_ROW_PAGE: Final = 5
"""Pages that only name orders hold this many times the rows."""

Raw = tuple[str, str]
"""Branch and number as the ERP gave them, padded."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole orders by key, rows that cannot say whose they are, and where to go on."""

    orders: dict[Key, list[Any]]
    strays: tuple[Any, ...]
    after: Raw
    hidden: frozenset[str]
    raw: tuple[Raw, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """Orders of which some row has a stamp in the page, with those stamps; rows that do not say whose they are."""

    stamps: dict[Raw, frozenset[str]]
    strays: tuple[Any, ...]
    newest: dt.datetime


class Walk:
    """One way through one connection's orders; `base` is the condition that every query carries."""

    def __init__(self, query: GenericQuery, settings: ProtheusSettings) -> None:
        self._query = query
        self._size = settings.page_size
        self._literal = settings.stamp_literal
        since = f" AND SC7.C7_EMISSAO >= {quoted(f'{settings.issued_since:%Y%m%d}')}" if settings.issued_since else ""
        self._base = f"SC7.C7_TIPO = 1{since}"

    async def orders(
        self, fields: Sequence[str], *, after: Raw | None = None, only: str = "", with_deleted: bool = True
    ) -> AsyncIterator[Batch]:
        """Whole orders by key; `only` narrows them. Every page begins behind the last order that was complete."""
        while True:
            answer = await self._rows(fields, _and(only, _behind(after)), BY_ORDER, with_deleted=with_deleted)
            groups, strays = _grouped(answer.rows)
            if answer.more and len(groups) == 1:
                (raw, rows), *_ = groups
                groups = [(raw, await self._rest(fields, raw, rows, with_deleted=with_deleted))]
            elif answer.more:
                groups = groups[:-1]
            if not groups:
                if answer.more or strays:
                    raise UnexpectedReply("a page of SC7 without one readable branch and number")
                return
            last = groups[-1][0]
            if last == after:
                raise UnexpectedReply("SC7 gives the same orders again: the ERP ignores `where`")
            keys = tuple(raw for raw, _ in groups)
            yield Batch({trimmed(raw): rows for raw, rows in groups}, tuple(strays), last, answer.hidden, keys)
            if not answer.more:
                return
            after = last

    async def touched(self, since: dt.datetime) -> AsyncIterator[Touched]:
        """Which orders have rows with a stamp of `since` or later, by stamp."""
        where, last = f"SC7.{STAMP} >= {self._time(since)}", None
        while True:
            answer = await self._rows(
                (BRANCH, NUMBER, STAMP), where, BY_STAMP, with_deleted=True, size=self._size * KEYS_PER_ROW_PAGE
            )
            stamped = [(stamp, raw) for row in answer.rows if (stamp := _stamp(row)) and (raw := raw_key(row))]
            if not stamped or stamped[-1] == last:
                if answer.more:
                    raise UnexpectedReply("SC7 gives the same rows again, or rows without a readable stamp")
                return
            if any(first[0] > second[0] for first, second in pairwise(stamped)):
                raise UnexpectedReply("SC7 comes in another order than asked for")
            last = stamped[-1]
            yield _touched(answer.rows, last[0])
            if not answer.more:
                return
            at = self._time(last[0])
            where = f"(SC7.{STAMP} > {at} OR (SC7.{STAMP} = {at} AND {_behind(last[1])}))"

    def begun(self, day: dt.date) -> str:
        """The condition on rows that were issued or stamped on this day or later."""
        midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
        return f"(SC7.C7_EMISSAO >= {quoted(f'{day:%Y%m%d}')} OR SC7.{STAMP} >= {self._time(midnight)})"

    async def count(self, begin: dt.date | None, *, with_deleted: bool) -> int | None:
        """About how many orders there are: rows of a first line; None when the ERP does not count."""
        first = f"SC7.{ITEM} = {quoted(FIRST_ITEM)}"
        where = _and(first, self.begun(begin) if begin else "")
        answer = await self._rows((BRANCH, NUMBER), where, BY_ORDER, size=1, with_deleted=with_deleted)
        return None if answer.remaining is None else answer.remaining + len(answer.rows)

    async def stamped(self) -> bool:
        """Whether SC7 has stamps, and on some row; raises the ERP's fault when it has no such column."""
        answer = await self._rows((BRANCH, NUMBER, STAMP), f"SC7.{STAMP} > {self._time(FIRST_STAMP)}", (), size=1)
        return bool(answer.rows) and STAMP not in answer.hidden

    async def answers(self, columns: Sequence[str] = ()) -> frozenset[str]:
        """Ask the simplest question there is, for these columns too: the ones among them kept back from this user.

        Raises what is wrong with this ERP, if something is; or with the columns, when it has one of them not.
        """
        answer = await self._rows((BRANCH, NUMBER, *columns), "", BY_ORDER, size=1)
        return answer.hidden & set(columns)

    async def _rest(self, fields: Sequence[str], raw: Raw, rows: list[Any], *, with_deleted: bool) -> list[Any]:
        """All rows of an order larger than a page, line by line; the last line of each page is read again."""
        found = list(rows)
        while True:
            last = found[-1].get(ITEM)
            done = [row for row in found if row.get(ITEM) != last]
            if not isinstance(last, str) or not done:
                raise UnexpectedReply(f"more than {self._size} rows for one line of order {'|'.join(raw)}")
            where = f"{_is(raw)} AND SC7.{ITEM} >= {quoted(last)}"
            answer = await self._rows(fields, where, BY_ORDER, with_deleted=with_deleted)
            found = [*done, *(row for row in answer.rows if raw_key(row) == raw)]
            if not answer.more:
                return found
            if found[-1].get(ITEM) == last:
                raise UnexpectedReply(f"more than {self._size} rows for one line of order {'|'.join(raw)}")

    async def _rows(
        self,
        fields: Sequence[str],
        where: str,
        order: Sequence[str],
        *,
        with_deleted: bool = False,
        size: int | None = None,
    ) -> Answer:
        conditions = _and(self._base, where)
        return await self._query.rows(
            TABLE, fields, conditions, order=order, size=size or self._size, with_deleted=with_deleted
        )

    def _time(self, moment: dt.datetime) -> str:
        utc = moment.astimezone(dt.UTC).replace(tzinfo=None)
        # With T, SQL Server reads it the same in every language; milliseconds are all that its old type takes.
        return self._literal.format(
            utc.isoformat(timespec="microseconds" if utc.microsecond % 1000 else "milliseconds")
        )


FIRST_STAMP: Final = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)


def one_of(keys: Iterable[Raw]) -> str:
    """The condition that names these orders."""
    branches = groupby(sorted(keys), key=lambda raw: raw[0])
    parts = (
        f"(SC7.{BRANCH} = {quoted(branch)} AND SC7.{NUMBER} IN ({','.join(quoted(number) for _, number in raws)}))"
        for branch, raws in branches
    )
    return f"({' OR '.join(parts)})"


def like(key: Key) -> str:
    """The condition that an order of this trimmed key meets, whatever its padding; others may meet it too."""
    branch, number = (quoted(f"{part}%") for part in key)
    return f"SC7.{BRANCH} LIKE {branch} AND SC7.{NUMBER} LIKE {number}"


def stamps_of(rows: Iterable[Any]) -> frozenset[str]:
    """The different stamps of these rows, as they came."""
    return frozenset(str(row.get(STAMP)) for row in rows)


def newest_stamp(rows: Iterable[Any]) -> dt.datetime:
    """The latest stamp of these rows."""
    return max((stamp for row in rows if (stamp := _stamp(row))), default=FIRST_STAMP)


def trimmed(raw: Raw) -> Key:
    """A key without the padding at its ends."""
    return raw[0].rstrip(), raw[1].rstrip()


def _grouped(rows: Sequence[Any]) -> tuple[list[tuple[Raw, list[Any]]], list[Any]]:
    """Rows by the order they belong to, as they come, and those that do not say; raises when they come unsorted."""
    groups: list[tuple[Raw, list[Any]]] = []
    strays = [row for row in rows if raw_key(row) is None]
    known: set[Raw] = set()
    for raw, same in groupby((row for row in rows if raw_key(row) is not None), key=raw_key):
        assert raw is not None
        if raw in known or (groups and _backwards(groups[-1][0], raw)):
            raise UnexpectedReply("SC7 comes in another order than asked for")
        known.add(raw)
        groups.append((raw, list(same)))
    return groups, strays


def _backwards(first: Raw, second: Raw) -> bool:
    # Only what every collation agrees on: plain digits within one branch.
    numbers = first[1].rstrip(), second[1].rstrip()
    return first[0] == second[0] and all(number.isdecimal() for number in numbers) and numbers[0] > numbers[1]


def _touched(rows: Sequence[Any], newest: dt.datetime) -> Touched:
    rows_of: dict[Raw, list[Any]] = {}
    for row in rows:
        if raw := raw_key(row):
            rows_of.setdefault(raw, []).append(row)
    stamps = {raw: stamps_of(own) for raw, own in rows_of.items()}
    return Touched(stamps, tuple(row for row in rows if not raw_key(row)), newest)


def _stamp(row: Any) -> dt.datetime | None:
    try:
        return stamp_of(row.get(STAMP)) if isinstance(row, dict) else None
    except ValueError:
        return None


def raw_key(row: Any) -> Raw | None:
    """Whose a row is, as it came; None when it does not say."""
    return (row[BRANCH], row[NUMBER]) if key_of(row) else None


def _is(raw: Raw) -> str:
    return f"SC7.{BRANCH} = {quoted(raw[0])} AND SC7.{NUMBER} = {quoted(raw[1])}"


def _behind(after: Raw | None) -> str:
    if after is None:
        return ""
    branch, number = quoted(after[0]), quoted(after[1])
    return f"(SC7.{BRANCH} > {branch} OR (SC7.{BRANCH} = {branch} AND SC7.{NUMBER} > {number}))"


def _and(*conditions: str) -> str:
    return " AND ".join(condition for condition in conditions if condition)
