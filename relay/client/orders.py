"""Purchase orders and their histories, as `relay.control` has them, over HTTP."""

import re
from datetime import datetime

from relay.client.calls import Calls
from relay.control.explain import Explanation
from relay.control.orders import OrderView
from relay.domain.events import ChangeEvent

_ID = re.compile(r"po_[0-9a-f]{32}")


class OrderCalls(Calls):
    """What people read of orders. An order is named by its remote id, its number, or its id in relay."""

    async def orders(
        self, connection: str, *, most: int = 50, changed_since: datetime | None = None, deleted: bool = False
    ) -> list[OrderView]:
        """The orders of a connection, the latest change first."""
        path = f"{await self._of_connection(connection)}/orders"
        return await self._list(OrderView, path, most, changed_since=changed_since, deleted=deleted)

    async def order(self, connection: str, order: str) -> OrderView:
        """One order, whole, as its last event told of it."""
        return await self._get(OrderView, await self._order(connection, order))

    async def order_history(self, connection: str, order: str, *, most: int = 50) -> list[ChangeEvent]:
        """The events of an order, newest first."""
        return await self._list(ChangeEvent, f"{await self._order(connection, order)}/events", most)

    async def _of_connection(self, name: str) -> str:
        return f"/v1/connections/{await self._id('connection', name)}"

    async def _order(self, connection: str, order: str) -> str:
        path = await self._of_connection(connection)
        if not _ID.fullmatch(order):
            # The orders' own paths take ids only; what explains an order finds it by whatever people call it.
            known = await self._get(Explanation, "/v1/explain", order=order, connection=path.rpartition("/")[2])
            order = known.order_id
        return f"{path}/orders/{order}"
