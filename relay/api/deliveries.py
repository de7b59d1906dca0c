"""Deliveries with their attempts, replays, and where an order's change is now."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, Core, needs
from relay.api.lists import After, Limit, Listed, listed
from relay.api.times import Moment
from relay.control import Asked, DeliveryView, Explanation, ReplayFound, ReplayView
from relay.control.findings import Examination
from relay.control.replay import PER_SECOND
from relay.domain.callers import Scope
from relay.domain.deliveries import DeliveryState
from relay.domain.paging import page_key
from relay.domain.replays import Past
from relay.store.delivery_list import NEWEST

DeliveryPath = Annotated[str, Path(pattern="^[A-Za-z0-9_.-]{1,120}$", description="The delivery's id, `dlv_...`.")]
ReplayPath = Annotated[str, Path(pattern="^[A-Za-z0-9_.-]{1,80}$", description="The replay's id, `rpl_...`.")]


class ReplayWanted(BaseModel):
    """Which events are sent again to an endpoint; what is not given narrows nothing. Times are those of the change."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(max_length=200, description="Its id, name, or customer/name.")
    since: Moment | None = None
    until: Moment | None = Field(None, description="Before this time.")
    order: str | None = Field(None, max_length=200, description="An order's remote id, number or id in relay.")
    event_types: tuple[str, ...] = Field((), max_length=100)
    connection: str | None = Field(None, max_length=200, description="Id or name of a connection.")
    statuses: tuple[Past, ...] = Field((), description="What became of them there before; empty: anything.")
    per_second: float = Field(PER_SECOND, description="Events put in line per second.")

    def asked(self) -> Asked:
        """In the words of the operations."""
        return Asked(self.since, self.until, self.order, self.event_types, self.connection, self.statuses)


def deliveries_router(core: Core) -> APIRouter:
    """Deliveries."""
    router, control = core.router("/v1/deliveries", "deliveries"), core.control

    @router.get("", summary="Deliveries, the latest first")
    async def list_deliveries(  # noqa: PLR0913 - one per filter
        *,
        limit: Limit = 50,
        after: After = None,
        endpoint: Annotated[str | None, Query(max_length=200, description="Only of this one: id or name.")] = None,
        state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
        order: Annotated[str | None, Query(max_length=200, description="Only of this remote id.")] = None,
        type_: Annotated[
            tuple[str, ...], Query(alias="type", max_length=100, description="Only of this event type; again for more.")
        ] = (),
        since: Annotated[Moment | None, Query(description="Only those made from this time on.")] = None,
        until: Annotated[Moment | None, Query(description="Only those made before this time.")] = None,
    ) -> Listed[DeliveryView]:
        key = page_key("deliveries", after, int, str)
        found = await control.deliveries(
            before=NEWEST if key is None else (int(key[0]), str(key[1])),
            most=limit + 1,
            endpoint=endpoint,
            state=state,
            order=order,
            event_types=type_,
            since=since,
            until=until,
        )
        return listed("deliveries", found, limit, view=lambda each: each, key=lambda each: (each.position, each.id))

    @router.get("/{delivery_id}", summary="One delivery with all its attempts")
    async def show_delivery(delivery_id: DeliveryPath) -> DeliveryView:
        return await control.delivery(delivery_id)

    @router.post("/{delivery_id}/retry", summary="Send a delivery now, whatever became of it")
    async def retry_delivery(delivery_id: DeliveryPath) -> DeliveryView:
        return await control.retry_delivery(delivery_id)

    return router


def replays_router(core: Core) -> APIRouter:
    """Replays."""
    router, control = core.router("/v1/replays", "replays"), core.control

    @router.post("", summary="Send events again to one endpoint, beside what is new", status_code=201)
    async def start_replay(wanted: ReplayWanted, call: CallNow) -> ReplayView:
        begun = await control.replaying.start(wanted.endpoint, wanted.asked(), wanted.per_second)
        call.about(begun.id, begun.customer)
        return begun

    @router.post(
        "/count", summary="What would be sent again: how many events, the first and the last", **needs(Scope.READ)
    )
    async def count_replay(wanted: ReplayWanted) -> ReplayFound:
        return await control.replaying.found(wanted.endpoint, wanted.asked())

    @router.get("", summary="The latest replays, newest first")
    async def list_replays(
        endpoint: Annotated[str | None, Query(max_length=200, description="Only to this one: id or name.")] = None,
    ) -> tuple[ReplayView, ...]:
        return tuple(await control.replaying.replays(endpoint))

    @router.get("/{replay_id}", summary="How far a replay is")
    async def show_replay(replay_id: ReplayPath) -> ReplayView:
        return await control.replaying.replay(replay_id)

    @router.post("/{replay_id}/pause", summary="Put nothing more in line; what is in line is sent")
    async def pause_replay(replay_id: ReplayPath) -> ReplayView:
        return await control.replaying.pause(replay_id)

    @router.post("/{replay_id}/resume", summary="Go on where it was paused")
    async def resume_replay(replay_id: ReplayPath) -> ReplayView:
        return await control.replaying.resume(replay_id)

    @router.post("/{replay_id}/cancel", summary="End it; what is in line and not being sent becomes what it was")
    async def cancel_replay(replay_id: ReplayPath) -> ReplayView:
        return await control.replaying.cancel(replay_id)

    return router


def doctor_router(core: Core) -> APIRouter:
    """How everything is."""
    router, control = core.router("/v1/doctor", "operations"), core.control

    @router.get("", summary="What relay stands on and works for: how each is, and what to do about what is not well")
    async def examine() -> Examination:
        return await control.examine()

    return router


def explain_router(core: Core) -> APIRouter:
    """Where an order is."""
    router, control = core.router("/v1/explain", "orders"), core.control

    @router.get("", summary="Where an order's change is now and why, from the ERP's poll to each receiver's answer")
    async def explain(
        order: Annotated[
            str, Query(min_length=1, max_length=200, description="Remote id, number, id in relay, or an event's id.")
        ],
        connection: Annotated[
            str | None, Query(max_length=200, description="Where it comes from, when several have such an order.")
        ] = None,
    ) -> Explanation:
        return await control.explain(order, connection)

    return router
