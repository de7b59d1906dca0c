"""Export: all that is known of a connection, as lines of JSON, to be kept before it is removed.

    {"connection": {...}}                             one
    {"order": {...}}                                  each order as it was last told, deleted ones too
    {"event": {...}}                                  each event that is kept, in order

Read page by page: an export costs little memory, however much there is.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from relay.control.connection_views import ConnectionView
from relay.control.orders import EVER, LATEST, OrderView
from relay.store.order_book import OrderBook

ORDERS, EVENTS = 200, 200
"""Of each in a bite; a bite of events is limited in bytes, too."""


@dataclass(frozen=True, slots=True)
class Export:
    """The export of connections."""

    book: OrderBook

    async def lines(self, connection: ConnectionView) -> AsyncIterator[bytes]:
        """The lines, each with its end. Raises NotFound when the connection is removed meanwhile."""
        yield b'{"connection":' + connection.model_dump_json().encode() + b"}\n"
        before = LATEST
        while found := await self.book.orders(connection.id, before=before, since=EVER, deleted=True, most=ORDERS):
            for each in found:
                yield b'{"order":' + OrderView.of(each).model_dump_json().encode() + b"}\n"
            before = (found[-1].changed_at, found[-1].remote_id)
        after: int | None = None
        while (page := await self.book.page(connection.id, after, EVENTS)).entries or page.forgotten is not None:
            for entry in page.entries:
                # The event's own bytes: it was written on one line.
                yield b'{"event":' + entry.body + b"}\n"
            after = page.until
