"""Endpoints, as `relay.control` has them, over HTTP."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from relay.client.calls import Calls
from relay.control.endpoint_views import EndpointAdded, EndpointView, KeyView, SecretRotated
from relay.control.pull import PullToken
from relay.control.testing import EndpointTested

if TYPE_CHECKING:
    from collections.abc import Iterable


class EndpointCalls(Calls):
    """What people do with endpoints. A name is an id, a name, or customer/name."""

    async def add_endpoint(self, **wanted: Any) -> EndpointAdded:
        """Add an endpoint: `customer`, `name`, `url` and whatever else the API's EndpointWanted has."""
        return await self._post(EndpointAdded, "/v1/endpoints", {k: v for k, v in wanted.items() if v is not None})

    async def endpoints(self) -> list[EndpointView]:
        """All endpoints, by customer and name."""
        return await self._list(EndpointView, "/v1/endpoints")

    async def endpoint(self, name: str) -> EndpointView:
        """One endpoint with counts."""
        return await self._get(EndpointView, await self._endpoint(name))

    async def change_endpoint(self, name: str, **changes: Any) -> EndpointView:
        """Change what is given and nothing else: what the API's EndpointChanges has."""
        given = {key: value for key, value in changes.items() if value is not None}
        return await self._patch(EndpointView, await self._endpoint(name), given)

    async def enable_endpoint(self, name: str) -> EndpointView:
        """Send again, what waited first."""
        return await self._post(EndpointView, f"{await self._endpoint(name)}/enable")

    async def disable_endpoint(self, name: str) -> EndpointView:
        """Send nothing more; deliveries wait."""
        return await self._post(EndpointView, f"{await self._endpoint(name)}/disable")

    async def remove_endpoint(self, name: str) -> EndpointView:
        """Remove an endpoint with its deliveries; what it was."""
        return await self._delete(EndpointView, await self._endpoint(name))

    async def test_endpoint(self, name: str, types: "Iterable[str]" = (), *, every: bool = False) -> EndpointTested:
        """Send samples to an endpoint and say what came back."""
        wanted = {"types": list(types), "every": every}
        return await self._post(EndpointTested, f"{await self._endpoint(name)}/test", wanted)

    async def endpoint_keys(self, name: str) -> list[KeyView]:
        """An endpoint's live and planned secrets, without the secrets."""
        return await self._get(list[KeyView], f"{await self._endpoint(name)}/secrets")

    async def rotate_secret(
        self, name: str, *, overlap: timedelta, signing: str | None = None, begin: datetime | None = None
    ) -> SecretRotated:
        """A new signing secret; the older ones end `overlap` later."""
        wanted = {"overlap": overlap, "signing": signing, "begin": begin}
        return await self._post(SecretRotated, f"{await self._endpoint(name)}/secrets", wanted)

    async def issue_pull_token(self, name: str) -> PullToken:
        """A new pull token; the one before it ends now."""
        return await self._post(PullToken, f"{await self._endpoint(name)}/pull-token")

    async def revoke_pull_token(self, name: str) -> EndpointView:
        """No pull token is good any more."""
        return await self._delete(EndpointView, f"{await self._endpoint(name)}/pull-token")

    async def _endpoint(self, name: str) -> str:
        return f"/v1/endpoints/{await self._id('endpoint', name)}"
