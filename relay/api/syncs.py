"""Syncs of one connection: what changed read now, all orders read again, and how far that is."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import ConnectionPath, Core
from relay.api.lists import After, Limit, Listed, listed
from relay.api.times import Duration
from relay.control import SyncView
from relay.domain.errors import NotFound, UserError
from relay.domain.paging import page_key
from relay.domain.syncs import Announce

SyncPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,120}$", description="The sync's id, `syn_...`.")]


class SyncWanted(BaseModel):
    """That what changed is read now."""

    model_config = ConfigDict(extra="forbid")

    wait: Duration = Field(timedelta(0), description="How long to wait for what it finds; at most 60 s.")


class ResyncWanted(BaseModel):
    """That orders are read again."""

    model_config = ConfigDict(extra="forbid")

    history: Duration | None = Field(None, description="Those issued, made or changed in the last so long; null: all.")
    announce: Announce = Field(Announce.CHANGES, description="What is told of them.")


Wanted = Annotated[SyncWanted, Body(default_factory=SyncWanted)]
Again = Annotated[ResyncWanted, Body(default_factory=ResyncWanted)]


def syncs_router(core: Core) -> APIRouter:
    """What is read of one connection's orders beside the polls."""
    router, control = core.router("/v1/connections/{connection_id}", "syncs"), core.control

    async def own(connection_id: str, sync_id: str) -> SyncView:
        seen = await control.sync(sync_id)
        if seen.connection_id != connection_id:
            raise NotFound(f"connection {connection_id} has no sync {sync_id!r}")
        return seen

    @router.post("/sync", summary="Read what changed now; answers with what was found, after `wait` at the latest")
    async def sync_connection(connection_id: ConnectionPath, wanted: Wanted) -> SyncView:
        return await control.poll_now(connection_id, wait=wanted.wait)

    @router.post("/resyncs", summary="Read all orders again, beside the polls", status_code=201)
    async def start_resync(connection_id: ConnectionPath, wanted: Again) -> SyncView:
        return await control.resync(connection_id, history=wanted.history, announce=wanted.announce)

    @router.get("/syncs", summary="What was read, the latest first")
    async def list_syncs(connection_id: ConnectionPath, limit: Limit = 50, after: After = None) -> Listed[SyncView]:
        return _page(await control.syncs(connection_id, after=_begin(after), most=limit + 1), limit)

    @router.get("/syncs/{sync_id}", summary="How far one is")
    async def show_sync(connection_id: ConnectionPath, sync_id: SyncPath) -> SyncView:
        return await own(connection_id, sync_id)

    @router.post("/syncs/{sync_id}/cancel", summary="End it; what it told stays told")
    async def cancel_sync(connection_id: ConnectionPath, sync_id: SyncPath) -> SyncView:
        return await control.cancel_sync((await own(connection_id, sync_id)).id)

    return router


def all_syncs_router(core: Core) -> APIRouter:
    """What is read of all connections' orders."""
    router, control = core.router("/v1/syncs", "syncs"), core.control

    @router.get("", summary="What was read, of any connection, the latest first")
    async def list_all_syncs(limit: Limit = 50, after: After = None) -> Listed[SyncView]:
        return _page(await control.syncs(after=_begin(after), most=limit + 1), limit)

    @router.get("/{sync_id}", summary="How far one is, whosever it is")
    async def show_any_sync(sync_id: SyncPath) -> SyncView:
        return await control.sync(sync_id)

    @router.post("/{sync_id}/cancel", summary="End it, whosever it is; what it told stays told")
    async def cancel_any_sync(sync_id: SyncPath) -> SyncView:
        return await control.cancel_sync(sync_id)

    return router


def _page(found: list[SyncView], limit: int) -> Listed[SyncView]:
    return listed(
        "syncs", found, limit, view=lambda each: each, key=lambda each: (each.created_at.isoformat(), each.id)
    )


def _begin(after: str | None) -> tuple[datetime, str] | None:
    key = page_key("syncs", after, str, str)
    if key is None:
        return None
    try:
        return datetime.fromisoformat(str(key[0])), str(key[1])
    except ValueError:
        raise UserError("after: the cursor cannot be read: give `next` exactly as it came") from None
