"""Mappings, as `relay.control` has them, over HTTP."""

from collections.abc import Mapping
from typing import Any

from relay.client.calls import Calls
from relay.control.mapping_views import MappingChecked, MappingSaved, MappingVersionView, MappingView
from relay.domain.capabilities import Capabilities
from relay.domain.mapping import Retold


class MappingCalls(Calls):
    """What people do with a connection's mapping. A name is an id, a name, or customer/name."""

    async def mapping(self, name: str, *, sample: bool = False) -> MappingView:
        """The field mapping; with `sample` the ERP is asked for some orders and what else they hold."""
        return await self._get(MappingView, await self._mapping(name), sample=sample)

    async def capabilities(self, name: str, *, sample: bool = False) -> Capabilities:
        """What the system gives and takes; with `sample` the ERP is asked first."""
        path = f"/v1/connections/{await self._id('connection', name)}/capabilities"
        return await self._get(Capabilities, path, sample=sample)

    async def check_mapping(self, name: str, overrides: Mapping[str, Any]) -> MappingChecked:
        """What these overrides in the place of those that stand would do to live orders."""
        return await self._post(MappingChecked, f"{await self._mapping(name)}/check", {"overrides": overrides})

    async def set_mapping(
        self, name: str, overrides: Mapping[str, Any], *, retold: Retold, force: bool, base: int
    ) -> MappingSaved:
        """Put these overrides in the place of those of version `base`, after trying them; all orders are read again."""
        wanted = {"overrides": overrides, "retold": retold, "force": force, "base": base}
        return await self._put(MappingSaved, await self._mapping(name), wanted)

    async def mapping_versions(self, name: str) -> list[MappingVersionView]:
        """All versions of the overrides, newest first."""
        return await self._get(list[MappingVersionView], f"{await self._mapping(name)}/versions")

    async def revert_mapping(self, name: str, number: int, *, retold: Retold, force: bool) -> MappingSaved:
        """Bring an older version back as a new one; 0 is none at all."""
        wanted = {"version": number, "retold": retold, "force": force}
        return await self._post(MappingSaved, f"{await self._mapping(name)}/revert", wanted)

    async def _mapping(self, name: str) -> str:
        return f"/v1/connections/{await self._id('connection', name)}/mapping"
