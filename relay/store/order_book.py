"""The order book: orders as they were last told, their histories, and each connection's events as one log. Reads only.

Events of a connection are written by one worker at a time, under its lease: whoever has read up to a position has seen
everything up to it, and nothing comes in later before it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from relay.domain.errors import NotFound
from relay.domain.orders import Tree, order_id
from relay.store.database import Database
from relay.store.log import PAGE_BYTES
from relay.store.orders import called

CONNECTION = "SELECT id, customer_id FROM connections WHERE id = $1"
# Down from the latest change, after the last one of the page before.
ORDERS = """
    SELECT remote_id, tree, hash, sequence, deleted, first_seen_at, changed_at FROM snapshots
    WHERE connection_id = $1 AND (changed_at, remote_id) < ($2, $3) AND changed_at >= $4 AND (NOT deleted OR $5)
    ORDER BY changed_at DESC, remote_id DESC LIMIT $6
"""
# Those few are found first: the planner might rather walk all orders of a connection, the latest first, to meet them.
NAMED = """
    WITH named AS MATERIALIZED (SELECT * FROM snapshots WHERE connection_id = $1 AND {called})
    SELECT remote_id, tree, hash, sequence, deleted, first_seen_at, changed_at FROM named
    WHERE (changed_at, remote_id) < ($2, $3) AND changed_at >= $4 AND (NOT deleted OR $5)
    ORDER BY changed_at DESC, remote_id DESC LIMIT $6
"""
BY_REMOTE_ID = NAMED.format(called="remote_id = $7 AND ($8::text IS NULL OR number = $8)")
BY_NUMBER = NAMED.format(called="number = $7")
ORDER = """
    SELECT remote_id, tree, hash, sequence, deleted, first_seen_at, changed_at FROM snapshots
    WHERE connection_id = $1 AND relay_order_id(connection_id, remote_id) = $2
"""
HISTORY = """
    SELECT sequence, body FROM outbox
    WHERE connection_id = $1 AND remote_id = $2 AND stream = 'changes' AND sequence < $3
    ORDER BY sequence DESC LIMIT $4
"""
FORGOTTEN = "SELECT position FROM forgotten WHERE connection_id = $1"
# Ranges of (connection, position), and not `connection = ...`: otherwise the planner may walk all positions, of all
# connections, to find the few of a quiet one. Sizes are known without reading the bodies, and only those that the page
# has room for are read; the first always is.
LOG = """
    SELECT position, event_id, body FROM (
        SELECT o.position, o.event_id, o.body,
               sum(octet_length(o.body)) OVER (ORDER BY o.position) - octet_length(o.body) AS bytes_before
        FROM (SELECT position FROM outbox
              WHERE stream = 'changes' AND (connection_id, position) > ($1, $2)
                AND (connection_id, position) <= ($1, 9223372036854775807)
              ORDER BY connection_id, position LIMIT $3) AS next JOIN outbox AS o USING (position)
    ) AS sized WHERE bytes_before < $4 ORDER BY position
"""
LAST = """
    SELECT id, coalesce((
        SELECT position FROM outbox
        WHERE stream = 'changes' AND (connection_id, position) >= (id, 0)
          AND (connection_id, position) <= (id, 9223372036854775807)
        ORDER BY connection_id DESC, position DESC LIMIT 1), 0) AS last
    FROM unnest($1::text[]) AS asked(id)
"""


@dataclass(frozen=True, slots=True)
class BookedOrder:
    """An order as events have last told of it."""

    connection_id: str
    customer_id: str
    remote_id: str
    tree: Tree
    hash: str
    sequence: int
    deleted: bool
    first_seen_at: datetime
    changed_at: datetime

    @property
    def id(self) -> str:
        """Its id in relay."""
        return order_id(self.connection_id, self.remote_id)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of a connection. `body` is the event's frozen bytes."""

    position: int
    event_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class LogPage:
    """A piece of a connection's log, which goes on after `until`; `last` is the newest position there is.

    `forgotten` is a position when events after the reader's cursor are no longer kept, and nothing else was read then.
    """

    entries: tuple[LogEntry, ...]
    until: int
    last: int
    forgotten: int | None = None


class OrderBook:
    """The orders and events of all connections."""

    def __init__(self, database: Database, page_bytes: int = PAGE_BYTES) -> None:
        self._database, self._page_bytes = database, page_bytes

    async def orders(  # noqa: PLR0913 - one per filter
        self,
        connection_id: str,
        *,
        before: tuple[datetime, str],
        since: datetime,
        deleted: bool,
        most: int,
        remote_id: str | None = None,
        number: str | None = None,
    ) -> list[BookedOrder]:
        """Up to `most` orders, the latest change first: those before (changed at, remote id), changed `since`.

        Raises:
            NotFound: there is no such connection.
        """
        async with self._database.session() as connection:
            customer_id = await _customer(connection, connection_id)
            asked = (connection_id, *before, since, deleted, most)
            if remote_id is not None:
                rows = await connection.fetch(BY_REMOTE_ID, *asked, remote_id, called(number))
            elif number is not None:
                rows = await connection.fetch(BY_NUMBER, *asked, called(number))
            else:
                rows = await connection.fetch(ORDERS, *asked)
        return [_booked(connection_id, customer_id, row) for row in rows]

    async def order(self, connection_id: str, id_: str) -> BookedOrder:
        """One order by its id in relay. Raises NotFound."""
        async with self._database.session() as connection:
            customer_id = await _customer(connection, connection_id)
            row = await connection.fetchrow(ORDER, connection_id, id_)
        if row is None:
            raise NotFound(f"there is no order {id_!r} of this connection: see its orders")
        return _booked(connection_id, customer_id, row)

    async def history(self, order: BookedOrder, before: int, most: int) -> list[tuple[int, bytes]]:
        """(sequence, event) of an order, newest first, those before a sequence. Forgotten ones are not there."""
        async with self._database.session() as connection:
            rows = await connection.fetch(HISTORY, order.connection_id, order.remote_id, before, most)
        return [(row["sequence"], row["body"]) for row in rows]

    async def page(self, connection_id: str, after: int | None, most: int) -> LogPage:
        """Up to `most` events after a position, or from the oldest one that is kept. Raises NotFound."""
        async with self._database.session() as connection:
            await _customer(connection, connection_id)
            # In this order: what is forgotten in between is missed by nobody who was told of a later place.
            (last,) = await connection.fetch(LAST, [connection_id])
            rows = await connection.fetch(LOG, connection_id, after or 0, most, self._page_bytes)
            forgotten = await connection.fetchval(FORGOTTEN, connection_id) or 0
        newest = max(last["last"], forgotten)
        if after is not None and after < forgotten:
            return LogPage((), forgotten, newest, forgotten)
        entries = tuple(LogEntry(**row) for row in rows)
        until = entries[-1].position if entries else newest if after is None else after
        return LogPage(entries, until, max(newest, until if entries else 0))

    async def reached(self, connection_ids: Collection[str]) -> dict[str, int]:
        """The newest position of each of these connections."""
        async with self._database.session() as connection:
            return {row["id"]: row["last"] for row in await connection.fetch(LAST, list(connection_ids))}


async def _customer(connection: Any, connection_id: str) -> str:
    row = await connection.fetchrow(CONNECTION, connection_id)
    if row is None:
        raise NotFound("there is no such connection")
    return str(row["customer_id"])


def _booked(connection_id: str, customer_id: str, row: Any) -> BookedOrder:
    return BookedOrder(connection_id, customer_id, **{**row, "tree": orjson.loads(row["tree"])})
