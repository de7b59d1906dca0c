"""The table behind the objects server: keys, bodies, and two rules for record batches.

    put(if_match | if_absent) -> etag | Refused        get -> Stored        page(prefix, after, delimiter) -> Page

Retention: the embedded broker never deletes, so the oldest batches of a partition go when it has more than `keep`.
Hole guard: producers store their batches in any order, and the broker's tail reader would step over one that is still
being written; a listing therefore stops at a gap in the offsets until the gap is older than `HOLE_PATIENCE`.
"""

import hashlib
import re
import sqlite3
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HOLE_PATIENCE = 3.0
"""Seconds a gap between two batches may stay before it counts as lost for good."""

_BATCH = re.compile(r"(.*/records/)([0-9]+)\.batch")
_LAST_OFFSET_DELTA = struct.Struct(">23xi")  # Kafka record batch v2: a big-endian int32 at byte 23
_AFTER_ALL = "\U0010ffff"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  key TEXT PRIMARY KEY, etag TEXT NOT NULL, modified REAL NOT NULL, size INTEGER NOT NULL,
  first_offset INTEGER, next_offset INTEGER, body BLOB NOT NULL
)"""
# The body is the last column: listings then never touch its overflow pages.
_PUT = """
INSERT INTO objects (key, etag, modified, size, first_offset, next_offset, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, modified = excluded.modified, size = excluded.size,
  first_offset = excluded.first_offset, next_offset = excluded.next_offset, body = excluded.body"""
_LIST = """
SELECT key, etag, modified, size, first_offset, next_offset FROM objects
WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"""
_FORGET_OLDEST = """
DELETE FROM objects WHERE key IN (SELECT key FROM objects WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)"""


class Refused(Exception):
    """The object is not in the state that the condition names."""


class Stored(NamedTuple):
    """One object: `modified` in seconds since the epoch, the body whole."""

    etag: str
    modified: float
    body: bytes


class Entry(NamedTuple):
    """One line of a listing; the offsets are None unless the object is a record batch."""

    key: str
    etag: str
    modified: float
    size: int
    first_offset: int | None
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: entries and common prefixes in key order, and where to go on (None: this was all)."""

    entries: list[Entry]
    prefixes: list[str]
    go_on_after: str | None


@dataclass(slots=True)
class Bucket:
    """Objects in one SQLite file.

    `keep` is the highest number of record batches a partition may have; `now` gives seconds since the epoch.
    """

    path: Path
    keep: int = 2000
    now: Callable[[], float] = time.time
    _db: sqlite3.Connection = field(init=False)
    _last_modified: float = field(init=False)
    _batches: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._db = sqlite3.connect(self.path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        # NORMAL outlives the death of any process; only a power cut can take the last instants, and what relay
        # published and did not admit by then is published again from its outbox.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(_SCHEMA)
        (self._last_modified,) = self._db.execute("SELECT coalesce(max(modified), 0) FROM objects").fetchone()

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        self._db.close()

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Store `body` under `key` and return its ETag. Raises Refused when the condition does not hold."""
        if if_match is not None or if_absent:
            present = self._db.execute("SELECT etag FROM objects WHERE key = ?", (key,)).fetchone()
            if (if_absent and present) or (if_match is not None and present != (if_match,)):
                raise Refused
        etag = hashlib.blake2b(body, digest_size=16).hexdigest()
        first_offset, next_offset = _offsets(key, body)
        self._db.execute(_PUT, (key, etag, self._moment(), len(body), first_offset, next_offset, body))
        self._retain(key)
        return etag

    def get(self, key: str) -> Stored | None:
        """Return the object, or None when there is none."""
        row = self._db.execute("SELECT etag, modified, body FROM objects WHERE key = ?", (key,)).fetchone()
        return Stored(*row) if row else None

    def delete(self, keys: list[str]) -> None:
        """Forget the objects; those not there are no error (as S3 has it)."""
        self._db.executemany("DELETE FROM objects WHERE key = ?", [(key,) for key in keys])
        self._batches.clear()

    def page(self, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` entries and common prefixes that come after `after`, without what the guard holds back.

        A common prefix is what a key has up to the first `delimiter` behind `prefix`; its keys are skipped, not read.
        """
        entries: list[Entry] = []
        prefixes: list[str] = []
        end = prefix + _AFTER_ALL
        while (found := len(entries) + len(prefixes)) < limit:
            start = max(prefix, after + "\0" if after else "")
            for entry in map(Entry._make, self._db.execute(_LIST, (start, end, limit - found))):
                if common := _common(entry.key, prefix, delimiter):
                    prefixes.append(common)
                    after = common + _AFTER_ALL
                    break
                entries.append(entry)
                after = entry.key
            else:
                break
        settled = self._before_hole(entries)
        there_may_be_more = len(entries) + len(prefixes) >= limit and len(settled) == len(entries)
        return Page(settled, prefixes, after if there_may_be_more else None)

    def _before_hole(self, entries: list[Entry]) -> list[Entry]:
        """Cut the entries where a batch is missing that may still be on its way."""
        young = self.now() - HOLE_PATIENCE
        expected = self._offset_due(entries[0]) if entries else None
        for index, entry in enumerate(entries):
            if entry.first_offset is None:
                continue
            if expected is not None and entry.first_offset > expected and entry.modified > young:
                return entries[:index]
            expected = entry.next_offset
        return entries

    def _offset_due(self, entry: Entry) -> int | None:
        """Return the offset that should follow the batch before `entry` (which another page may have shown)."""
        if (match := _BATCH.fullmatch(entry.key)) is None:
            return None
        before = "SELECT next_offset FROM objects WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT 1"
        row = self._db.execute(before, (match[1], entry.key)).fetchone()
        return row[0] if row else None

    def _moment(self) -> float:
        """Return now, but later than every moment before: the broker takes the latest object for the newest."""
        self._last_modified = max(self.now(), self._last_modified + 1e-6)
        return self._last_modified

    def _retain(self, key: str) -> None:
        if (match := _BATCH.fullmatch(key)) is None:
            return
        records = match[1]
        self._batches[records] = self._batches.get(records, self.keep) + 1  # not counted yet: count now
        if self._batches[records] <= self.keep:
            return
        span = (records, records + _AFTER_ALL)
        (count,) = self._db.execute("SELECT count(*) FROM objects WHERE key >= ? AND key < ?", span).fetchone()
        if count > self.keep:
            # A twentieth more than needed, so that not every write deletes.
            count -= self._db.execute(_FORGET_OLDEST, (*span, count - self.keep + self.keep // 20)).rowcount
        self._batches[records] = count


def _offsets(key: str, body: bytes) -> tuple[int | None, int | None]:
    match = _BATCH.fullmatch(key)
    if match is None or len(body) < _LAST_OFFSET_DELTA.size:
        return None, None
    first = int(match[2])
    return first, first + int(_LAST_OFFSET_DELTA.unpack_from(body)[0]) + 1


def _common(key: str, prefix: str, delimiter: str) -> str | None:
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]
