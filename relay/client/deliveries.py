"""Deliveries, replays and explanations, as `relay.control` has them, over HTTP."""

from typing import TYPE_CHECKING, Any

from relay.client.calls import Calls, segment
from relay.control.delivery_views import DeliveryView
from relay.control.explain import Explanation
from relay.control.replay import Asked, ReplayFound, ReplayView

if TYPE_CHECKING:
    from collections.abc import Iterable


class DeliveryCalls(Calls):
    """What people do with events on their way."""

    async def deliveries(
        self, *, most: int = 50, event_types: "Iterable[str]" = (), **query: Any
    ) -> list[DeliveryView]:
        """The latest deliveries, newest first; `endpoint`, `state`, `order`, `since` and `until` narrow them."""
        return await self._list(DeliveryView, "/v1/deliveries", most, type=list(event_types), **query)

    async def delivery(self, delivery_id: str) -> DeliveryView:
        """One delivery with its attempts."""
        return await self._get(DeliveryView, f"/v1/deliveries/{segment(delivery_id)}")

    async def retry_delivery(self, delivery_id: str) -> DeliveryView:
        """Send a delivery now."""
        return await self._post(DeliveryView, f"/v1/deliveries/{segment(delivery_id)}/retry")

    async def explain(self, order: str, connection: str | None = None) -> Explanation:
        """Where an order's change is now, and why."""
        return await self._get(Explanation, "/v1/explain", order=order, connection=connection)

    async def count_replay(self, endpoint: str, asked: Asked) -> ReplayFound:
        """How many events a replay would send now, the first and the last."""
        return await self._post(ReplayFound, "/v1/replays/count", _wanted(endpoint, asked))

    async def start_replay(self, endpoint: str, asked: Asked, per_second: float) -> ReplayView:
        """Begin to send again, beside what is new."""
        return await self._post(ReplayView, "/v1/replays", {**_wanted(endpoint, asked), "per_second": per_second})

    async def replays(self, endpoint: str | None = None) -> list[ReplayView]:
        """The latest replays, newest first."""
        return await self._get(list[ReplayView], "/v1/replays", endpoint=endpoint)

    async def replay(self, replay_id: str) -> ReplayView:
        """One replay."""
        return await self._get(ReplayView, f"/v1/replays/{segment(replay_id)}")

    async def pause_replay(self, replay_id: str) -> ReplayView:
        """Put nothing more in line until it is resumed."""
        return await self._post(ReplayView, f"/v1/replays/{segment(replay_id)}/pause")

    async def resume_replay(self, replay_id: str) -> ReplayView:
        """Go on where it was paused."""
        return await self._post(ReplayView, f"/v1/replays/{segment(replay_id)}/resume")

    async def cancel_replay(self, replay_id: str) -> ReplayView:
        """End it; what is in line and not being sent becomes what it was before."""
        return await self._post(ReplayView, f"/v1/replays/{segment(replay_id)}/cancel")


def _wanted(endpoint: str, asked: Asked) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "since": asked.since,
        "until": asked.until,
        "order": asked.order,
        "event_types": list(asked.event_types),
        "connection": asked.connection,
        "statuses": list(asked.statuses),
    }
