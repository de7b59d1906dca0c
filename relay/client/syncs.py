"""Syncs, as `relay.control` has them, over HTTP."""

from datetime import timedelta

from relay.client.calls import Calls, segment
from relay.control.sync import MOST, SyncView
from relay.domain.syncs import Announce


class SyncCalls(Calls):
    """What people do to have orders read. A name is an id, a name, or customer/name."""

    async def poll_now(self, name: str, *, wait: timedelta) -> SyncView:
        """Have what changed read now; answers when that is done, or after `wait` as it is then."""
        return await self._post(SyncView, f"{await self._of(name)}/sync", {"wait": wait})

    async def resync(self, name: str, *, history: timedelta | None, announce: Announce) -> SyncView:
        """Begin to read all orders again, or those of the last `history`, beside the polls."""
        wanted = {"history": history, "announce": announce}
        return await self._post(SyncView, f"{await self._of(name)}/resyncs", wanted)

    async def syncs(self, name: str | None = None) -> list[SyncView]:
        """The latest syncs, newest first."""
        path = "/v1/syncs" if name is None else f"{await self._of(name)}/syncs"
        return await self._list(SyncView, path, MOST)

    async def sync(self, sync_id: str) -> SyncView:
        """One sync."""
        return await self._get(SyncView, f"/v1/syncs/{segment(sync_id)}")

    async def cancel_sync(self, sync_id: str) -> SyncView:
        """End a sync; what it told stays told."""
        return await self._post(SyncView, f"/v1/syncs/{segment(sync_id)}/cancel")

    async def _of(self, name: str) -> str:
        return f"/v1/connections/{await self._id('connection', name)}"
