"""Orders: as they were last told, with their histories; and each connection's events as one log to be pulled.

Nothing here asks an ERP: that happens in the connection's runner, within its budget.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import orjson
from pydantic import Field

from relay.control.views import View
from relay.domain.errors import UserError
from relay.store.order_book import BookedOrder, LogPage, OrderBook

LATEST = (datetime.max.replace(tzinfo=UTC), "")
"""Before the first order of a list."""
EVER = datetime.min.replace(tzinfo=UTC)
NEWEST = 2**31 - 1
"""A sequence that no order reaches."""


class OrderView(View):
    """A purchase order as its last event told of it."""

    id: str = Field(description="Stable for ever, `po_...`: derived from the connection and the remote id.")
    connection_id: str
    customer: str
    remote_id: str
    number: str | None
    status: str
    sequence: int = Field(description="Number of the order's last event, without gaps from 1.")
    content_hash: str
    deleted: bool
    first_seen_at: datetime
    changed_at: datetime
    order: dict[str, Any] = Field(
        description="The order: purchase-order.v1 of the catalogue. In lists without what may move by itself "
        "(`remote_updated_at`, `remote_version`, `field_presence`, `raw`)."
    )

    @classmethod
    def of(cls, booked: BookedOrder) -> Self:
        """The view of what the order book holds."""
        return cls(
            id=booked.id,
            connection_id=booked.connection_id,
            customer=booked.customer_id,
            remote_id=booked.remote_id,
            number=booked.tree.get("number"),
            status=booked.tree["status"],
            sequence=booked.sequence,
            content_hash=booked.hash,
            deleted=booked.deleted,
            first_seen_at=booked.first_seen_at,
            changed_at=booked.changed_at,
            order=booked.tree,
        )


@dataclass(frozen=True, slots=True)
class Orders:
    """What people read of purchase orders. Connections are named by their ids."""

    book: OrderBook

    async def orders(  # noqa: PLR0913 - one per filter
        self,
        connection_id: str,
        *,
        before: tuple[datetime, str] = LATEST,
        since: datetime | None = None,
        remote_id: str | None = None,
        number: str | None = None,
        deleted: bool = False,
        most: int = 50,
    ) -> list[OrderView]:
        """Orders of a connection, the latest change first. Raises NotFound, and UserError for a time without a zone."""
        if since is not None and since.tzinfo is None:
            raise UserError("changed_since names no time zone: end it with Z for UTC, or with one like +02:00")
        found = await self.book.orders(
            connection_id,
            before=before,
            since=since or EVER,
            deleted=deleted,
            most=most,
            remote_id=remote_id,
            number=number,
        )
        return [OrderView.of(each) for each in found]

    async def order(self, connection_id: str, order_id: str) -> OrderView:
        """One order, whole: as its last event holds it, as long as that is kept. Raises NotFound."""
        booked = await self.book.order(connection_id, order_id)
        view = OrderView.of(booked)
        for sequence, event in await self.book.history(booked, NEWEST, 1):
            if sequence == booked.sequence:
                return view.model_copy(update={"order": orjson.loads(event)["data"]["order"]})
        return view

    async def history(self, connection_id: str, order_id: str, *, before: int = NEWEST, most: int = 50) -> list[bytes]:
        """The events of an order, newest first, each as it was told; those that are kept. Raises NotFound."""
        booked = await self.book.order(connection_id, order_id)
        return [event for _, event in await self.book.history(booked, before, most)]

    async def log(self, connection_id: str, after: int | None, most: int) -> LogPage:
        """A connection's events after a position. Raises NotFound, and UserError when that is ahead of the log."""
        page = await self.book.page(connection_id, after, most)
        if after is not None and after > page.last:
            raise UserError("the cursor is ahead of this log, as after a restored backup: begin anew without a cursor")
        return page
