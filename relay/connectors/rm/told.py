"""Which records the overlap of two polls has shown before: told once, they are not told again."""

import hashlib
from collections.abc import Iterable
from typing import Any

from relay.connectors.rm.assembly import raw_bytes
from relay.connectors.rm.walk import Id, Movement


class Told:
    """The records of the last poll, by their digests."""

    def __init__(self) -> None:
        self._digests: dict[Id, bytes] = {}

    def note(self, movements: Iterable[Movement]) -> None:
        """Remember records whose page is stored."""
        self._digests |= {each.id: _digest(each.record) for each in movements if each.id and each.record is not None}

    def knows(self, each: Movement) -> bool:
        """Whether this very record was told."""
        known = self._digests.get(each.id) if each.id else None
        return known is not None and each.record is not None and known == _digest(each.record)

    def keep(self, movements: Iterable[Movement]) -> None:
        """Forget all others."""
        met = {each.id for each in movements}
        self._digests = {each: digest for each, digest in self._digests.items() if each in met}


def _digest(record: Any) -> bytes:
    return hashlib.blake2b(raw_bytes(record), digest_size=16).digest()
