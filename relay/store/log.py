"""The log: an endpoint's events as its receiver pulls them, and what it needs for that: its token and public keys."""

from collections.abc import Collection

from relay.domain.errors import NotFound
from relay.domain.pulling import Forgotten, Logged, Page, page_of
from relay.store.database import Database

TOKEN = "SELECT pull_token FROM endpoints WHERE id = $1"  # noqa: S105 - a statement
PUBLIC_KEYS = """
    SELECT ARRAY(
        SELECT key FROM unnest(public_keys, public_keys_until) WITH ORDINALITY AS listed (key, until, place)
        WHERE until IS NULL OR until > now() ORDER BY place
    ) FROM endpoints WHERE id = $1
"""
LAST = "SELECT last FROM endpoint_numbers WHERE endpoint_id = $1"
REACHED = "SELECT endpoint_id, last FROM endpoint_numbers WHERE endpoint_id = ANY($1::text[])"
# Walks deliveries_number from the cursor on. Sizes are known without reading the bodies, and only those that the page
# has room for are read; the first always is, or a large one would hold up its log for ever.
PAGE = """
    SELECT number, event_id, delivery_id, state, body FROM (
        SELECT d.number, o.event_id, d.id AS delivery_id, d.state, o.body,
               sum(octet_length(o.body)) OVER (ORDER BY d.number) - octet_length(o.body) AS bytes_before
        FROM (SELECT number, id, state, position FROM deliveries
              WHERE endpoint_id = $1 AND number > $2 ORDER BY number LIMIT $3) AS d
             JOIN outbox AS o USING (position)
    ) AS sized WHERE bytes_before < $4 ORDER BY number
"""
PAGE_BYTES = 4 * 1024 * 1024
"""Bodies in a page: a reader of fat events must not cost the memory that delivering needs."""


class LogStore:
    """The logs of all endpoints."""

    def __init__(self, database: Database, page_bytes: int = PAGE_BYTES) -> None:
        self._database, self._page_bytes = database, page_bytes

    async def token(self, endpoint_id: str) -> bytes | None:
        """The digest of an endpoint's pull token; None when it has none, or there is no such endpoint."""
        async with self._database.session() as connection:
            found: bytes | None = await connection.fetchval(TOKEN, endpoint_id)
        return found

    async def public_keys(self, endpoint_id: str) -> tuple[str, ...]:
        """The public keys `whpk_...` that an endpoint's webhooks can be verified with. Raises NotFound."""
        async with self._database.session() as connection:
            found = await connection.fetchval(PUBLIC_KEYS, endpoint_id)
        if found is None:
            raise NotFound("there is no such endpoint")
        return tuple(found)

    async def page(self, endpoint_id: str, after: int | None, most: int) -> Page | Forgotten:
        """Up to `most` events after a number, or from the oldest one on, without a gap.

        Raises:
            UserError: `after` is ahead of the log.
        """
        async with self._database.session() as connection:
            # In this order: a number up to `last` that is not found after this was removed, not late.
            last = await connection.fetchval(LAST, endpoint_id)
            rows = await connection.fetch(PAGE, endpoint_id, after or 0, most, self._page_bytes)
        return page_of(after, last or 0, [Logged(**row) for row in rows])

    async def reached(self, endpoint_ids: Collection[str]) -> dict[str, int]:
        """The newest number of each of these endpoints."""
        async with self._database.session() as connection:
            return {row["endpoint_id"]: row["last"] for row in await connection.fetch(REACHED, list(endpoint_ids))}
