"""Connections, as `relay.control` has them, over HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from relay.client.calls import Calls
from relay.control.connection_views import ConnectionAdded, ConnectionToken, ConnectionView, FirstLook


class ConnectionCalls(Calls):
    """What people do with connections. A name is an id, a name, or customer/name."""

    async def add_connection(self, **wanted: Any) -> ConnectionAdded:
        """Add a connection after a first look: what the API's ConnectionWanted has."""
        return await self._post(ConnectionAdded, "/v1/connections", wanted)

    async def connections(self) -> list[ConnectionView]:
        """All connections, by customer and name."""
        return await self._list(ConnectionView, "/v1/connections")

    async def connection(self, name: str) -> ConnectionView:
        """One connection with counts."""
        return await self._get(ConnectionView, await self._connection(name))

    async def change_connection(self, name: str, **changes: Any) -> ConnectionView:
        """Change what is given and nothing else: what the API's ConnectionChanges has."""
        given = {key: value for key, value in changes.items() if value is not None}
        return await self._patch(ConnectionView, await self._connection(name), given)

    async def check_connection(self, name: str) -> FirstLook:
        """Read the first page of orders once more, with what is stored; nothing is changed."""
        return await self._post(FirstLook, f"{await self._connection(name)}/check")

    async def pause_connection(self, name: str) -> ConnectionView:
        """Poll no more until it is resumed; what was read is still published and delivered."""
        return await self._post(ConnectionView, f"{await self._connection(name)}/pause")

    async def resume_connection(self, name: str) -> ConnectionView:
        """Poll again, at once and from where it stopped."""
        return await self._post(ConnectionView, f"{await self._connection(name)}/resume")

    async def reconnect(self, name: str, credentials: Mapping[str, Any], *, check: bool = True) -> ConnectionAdded:
        """Give a connection new credentials and resume it where it stopped."""
        given = {"credentials": dict(credentials), "check": check}
        return await self._post(ConnectionAdded, f"{await self._connection(name)}/reconnect", given)

    async def rotate_token(self, name: str) -> ConnectionToken:
        """A new token; the one before it is good no more."""
        return await self._post(ConnectionToken, f"{await self._connection(name)}/token")

    async def disconnect(self, name: str) -> ConnectionView:
        """Erase credentials and token now; what was told is kept."""
        return await self._post(ConnectionView, f"{await self._connection(name)}/disconnect")

    async def remove_connection(self, name: str) -> ConnectionView:
        """Remove a connection with its snapshots, events and deliveries; what it was."""
        return await self._delete(ConnectionView, await self._connection(name))

    @asynccontextmanager
    async def exported(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """All that is known of a connection, as pieces of lines of JSON."""
        async with self._stream(f"{await self._connection(name)}/export") as pieces:
            yield pieces

    async def _connection(self, name: str) -> str:
        return f"/v1/connections/{await self._id('connection', name)}"
