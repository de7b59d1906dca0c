"""What changed since a cursor: rows newer than it, and which of them the last poll has not seen.

    rows stamped since (cursor - overlap) -> 256 buckets of orders -> buckets that differ from the cursor's -> orders

The overlap is there because Tryton stamps a row when its transaction begins, and shows it when it commits. Re-reading
all of it at every poll would be dear after a mass import, so the cursor remembers a digest of what it held, in buckets:
a fixed few kilobytes, and one change costs one 256th of the window.
"""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from relay.connectors.tryton.rpc import Rpc
from relay.connectors.tryton.rules import stamp
from relay.connectors.tryton.schema import Feed
from relay.domain.connections import Cursor
from relay.domain.errors import UnexpectedReply, Unsupported

ROWS_PER_CALL: Final = 1000
_BUCKETS: Final = 256
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_BY_ID: Final = [["id", "ASC"]]


class Mark(BaseModel):
    """A cursor read: in the first sync `after_id` and `until`, afterwards `since` and what was `seen`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_id: int | None = None
    until: AwareDatetime | None = None
    since: AwareDatetime | None = None
    seen: dict[int, str] = {}

    @classmethod
    def of(cls, cursor: Cursor | None) -> "Mark":
        """Read a cursor; None is the beginning. Raises Unsupported for one that another connector wrote."""
        try:
            return cls.model_validate_json(cursor) if cursor else cls()
        except ValidationError:
            raise Unsupported("the stored cursor is not one of Tryton's: read everything anew") from None

    def cursor(self) -> Cursor:
        """The mark as text."""
        return Cursor(self.model_dump_json(exclude_defaults=True))


@dataclass(frozen=True, slots=True)
class Row:
    """One record that names an order and when it changed."""

    feed: str
    id: int
    order: int
    at: datetime


@dataclass(slots=True)
class Window:
    """The rows since the mark less the overlap, and the line ids of every draft (only drafts lose lines)."""

    rows: Sequence[Row]
    drafts: Mapping[int, str]
    overlap: timedelta
    _newest: dict[int, datetime] = field(init=False)

    def __post_init__(self) -> None:
        newest: dict[int, datetime] = defaultdict(lambda: _LONG_AGO)
        for row in self.rows:
            newest[row.order] = max(newest[row.order], row.at)
        self._newest = {**dict.fromkeys(self.drafts, _LONG_AGO), **newest}

    def due(self, mark: Mark) -> list[int]:
        """Orders to read, oldest change first: those whose bucket differs from what the mark has seen."""
        now = self._digests(_LONG_AGO)
        changed = [order for order in self._newest if now[order % _BUCKETS] != mark.seen.get(order % _BUCKETS)]
        return sorted(changed, key=lambda order: (self._newest[order], order))

    def up_to(self, order: int, mark: Mark) -> Mark:
        """The mark once every due order up to this one is stored."""
        return Mark(since=max(mark.since or _LONG_AGO, self._newest[order]))

    def whole(self, mark: Mark) -> Mark:
        """The mark once all due orders are stored."""
        since = max([mark.since or _LONG_AGO, *(row.at for row in self.rows)])
        return Mark(since=since, seen=self._digests(since - self.overlap))

    def _digests(self, since: datetime) -> dict[int, str]:
        parts: dict[int, list[str]] = defaultdict(list)
        for row in self.rows:
            if row.at >= since:
                parts[row.order % _BUCKETS].append(f"{row.feed} {row.id} {row.at.isoformat()}")
        for order, lines in self.drafts.items():
            parts[order % _BUCKETS].append(f"{order} {lines}")
        return {
            bucket: hashlib.blake2b("\n".join(sorted(each)).encode(), digest_size=5).hexdigest()
            for bucket, each in parts.items()
        }


async def look(rpc: Rpc, mark: Mark, overlap: timedelta, feeds: Iterable[Feed], company: int | None) -> Window:
    """Ask every feed for its rows since the mark; raises what `Rpc.call` raises."""
    since = (mark.since or _LONG_AGO) - overlap
    rows = [row for feed in feeds async for row in _rows(rpc, feed, since, company)]
    domain = [["state", "=", "draft"], *_of(company, "company")]
    found = _all(rpc, "purchase.purchase", domain, ["lines"])
    drafts = {_id(draft.get("id")): str(sorted(map(_id, draft.get("lines") or ()))) async for draft in found}
    return Window(rows, drafts, overlap)


async def newest(rpc: Rpc, company: int | None) -> datetime | None:
    """The newest stamp of any order: changes from here on are seen after a first sync. None: there is no order."""
    stamps = []
    for name in ("create_date", "write_date"):
        domain = [[name, "!=", None], *_of(company, "company")]
        found = await rpc.call("model.purchase.purchase.search_read", domain, 0, 1, [[name, "DESC"]], [name])
        stamps += [at for at in (stamp(each.get(name)) for each in listed(found)) if at]
    return max(stamps, default=None)


async def ids_after(rpc: Rpc, after: int, at_once: int, company: int | None, begin: date | None = None) -> list[int]:
    """The next ids of orders, in order of id, and so of creation; those dated, made or written since `begin`."""
    domain = [["id", ">", after], *_of(company, "company"), *_begun(begin)]
    found = await rpc.call("model.purchase.purchase.search", domain, 0, at_once, _BY_ID)
    if not isinstance(found, list):
        raise UnexpectedReply("a list of ids came as something else")
    return [_id(each) for each in found]


async def count(rpc: Rpc, company: int | None, begin: date | None) -> int | None:
    """How many orders there are; None when the answer is no number."""
    found = await rpc.call("model.purchase.purchase.search_count", [*_of(company, "company"), *_begun(begin)])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


async def ids_before(rpc: Rpc, at_once: int, company: int | None) -> list[int]:
    """The ids of the orders made last, oldest of them first."""
    domain = _of(company, "company")
    found = await rpc.call("model.purchase.purchase.search", [*domain], 0, at_once, [["id", "DESC"]])
    if not isinstance(found, list):
        raise UnexpectedReply("a list of ids came as something else")
    return [_id(each) for each in reversed(found)]


async def _rows(rpc: Rpc, feed: Feed, since: datetime, company: int | None) -> AsyncIterator[Row]:
    # write_date is null until the first change.
    born = [["write_date", "=", None], ["create_date", ">=", since]]
    domain = [["OR", [["write_date", ">=", since]], born], *_of(company, feed.company)]
    if feed.order == "purchase":
        domain.append(["purchase", "!=", None])
    async for found in _all(rpc, feed.model, domain, ["create_date", "write_date", feed.order]):
        named = found.get(feed.order)
        for order in named if isinstance(named, list) else [named]:
            yield Row(feed.model, _id(found.get("id")), _id(order), _at(found) or since)


async def _all(rpc: Rpc, model: str, domain: list[Any], names: list[str]) -> AsyncIterator[Mapping[str, Any]]:
    """Every record, by pages that begin after the last id: rows that come and go meanwhile shift nothing."""
    last, full = 0, True
    while full:
        page = [*domain, ["id", ">", last]]
        found = listed(await rpc.call(f"model.{model}.search_read", page, 0, ROWS_PER_CALL, _BY_ID, names))
        for each in found:
            last = max(last, _id(each.get("id")))
            yield each
        full = len(found) == ROWS_PER_CALL


def _at(found: Mapping[str, Any]) -> datetime | None:
    try:
        return stamp(found.get("write_date")) or stamp(found.get("create_date"))
    except ValueError:
        return None  # read it anew rather than miss it


def _of(company: int | None, name: str) -> list[list[Any]]:
    return [] if company is None else [[name, "=", company]]


def _begun(begin: date | None) -> list[list[Any]]:
    if begin is None:
        return []
    midnight = datetime.combine(begin, time(), UTC)
    stamps = [[name, ">=", midnight] for name in ("create_date", "write_date")]
    return [["OR", [["purchase_date", ">=", begin]], *([each] for each in stamps)]]


def listed(found: Any) -> list[Mapping[str, Any]]:
    """The records of a `search_read`; raises UnexpectedReply for anything else."""
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise UnexpectedReply("a list of records came as something else")
    return found


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnexpectedReply("a record's id is no number")
    return value
