"""Data keys that a KMS unwrapped, remembered for a while: so a worker that starts thousands of runners asks once each.

In this process's memory only, at most so many, and each only for so long; asked for by several at once, it is fetched
once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from relay.domain.keys import CustomerKey

MOST = 1000


class Remembered:
    """Data keys by what they are wrapped as."""

    def __init__(self, span: timedelta, most: int = MOST) -> None:
        self._span, self._most = span.total_seconds(), most
        self._keys: dict[CustomerKey, bytes] = {}
        self._ends: dict[CustomerKey, asyncio.TimerHandle] = {}
        self._asking: dict[CustomerKey, asyncio.Lock] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Remembered({len(self)} keys)"

    async def get(self, key: CustomerKey, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        """The data key; `fetch` is asked when it is not remembered, and raises what it raises."""
        if (found := self._keys.get(key)) is not None:
            return found
        async with self._asking.setdefault(key, asyncio.Lock()):
            try:
                if (found := self._keys.get(key)) is None:
                    found = await fetch()
                    self._remember(key, found)
                return found
            finally:
                self._asking.pop(key, None)

    def forget(self) -> None:
        """All of them."""
        for key in list(self._keys):
            self._drop(key)

    def _remember(self, key: CustomerKey, data_key: bytes) -> None:
        if self._span <= 0:
            return
        while len(self._keys) >= self._most:
            self._drop(next(iter(self._keys)))
        self._keys[key] = data_key
        self._ends[key] = asyncio.get_running_loop().call_later(self._span, self._drop, key)

    def _drop(self, key: CustomerKey) -> None:
        self._keys.pop(key, None)
        if end := self._ends.pop(key, None):
            end.cancel()
