"""Deliveries: looked at, sent again one by one or as a replay, and explained."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from relay.control import given
from relay.control.at_hand import AtHand
from relay.control.delivery_views import DeliveryView
from relay.control.explain import Explaining, Explanation
from relay.control.replay import Replaying
from relay.domain.deliveries import DeliveryState
from relay.domain.errors import UserError
from relay.store.delivery_list import NEWEST
from relay.store.explain import ExplainStore
from relay.store.replays import ReplayList


@dataclass(frozen=True, slots=True)
class DeliveryOperations(AtHand):
    """What people do with events on their way."""

    async def deliveries(  # noqa: PLR0913 - one per filter
        self,
        *,
        endpoint: str | None = None,
        state: str | None = None,
        order: str | None = None,
        event_types: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 50,
        before: tuple[int, str] = NEWEST,
    ) -> list[DeliveryView]:
        """The latest deliveries, newest first. `order` is a purchase order's remote id. Raises NotFound, UserError.

        `since` and `until` are about when a delivery was made; its event is a little older. `before` is the place of
        the last one of the page before.
        """
        if state is not None and state not in set(DeliveryState):
            raise UserError(f"unknown state {state!r}: the known ones are {', '.join(DeliveryState)}")
        endpoint_id = (await self.registry.endpoint(endpoint)).subject.id if endpoint else None
        rows = await self.registry.deliveries(
            endpoint=endpoint_id,
            state=state,
            order=order,
            event_types=given.event_types_given(event_types),
            since=since,
            until=until,
            most=most,
            before=before,
        )
        return [DeliveryView.of(row) for row in rows]

    async def delivery(self, delivery_id: str) -> DeliveryView:
        """One delivery with its attempts. Raises NotFound."""
        return DeliveryView.of(await self.registry.delivery(delivery_id))

    async def retry_delivery(self, delivery_id: str) -> DeliveryView:
        """Send a delivery now. Raises NotFound, and UserError when it waits behind another of its order."""
        await self.registry.retry(delivery_id)
        return await self.delivery(delivery_id)

    async def explain(self, order: str, connection: str | None = None) -> Explanation:
        """Where an order's change is now, and why. Raises NotFound, and UserError when several are called so."""
        return await Explaining(self.registry, ExplainStore(self.registry.database)).order(order, connection)

    @property
    def replaying(self) -> Replaying:
        """Sending events again."""
        database = self.registry.database
        return Replaying(self.registry, ReplayList(database), ExplainStore(database))
