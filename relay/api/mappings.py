"""Field mappings: where each field of a connection's orders comes from, and what its customer has mapped otherwise."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, ConnectionPath, Core
from relay.control.mapping_views import MappingChecked, MappingSaved, MappingVersionView, MappingView
from relay.domain.capabilities import Capabilities
from relay.domain.mapping import MappingOverrides, Retold

Sampled = Annotated[
    bool, Query(description="Ask the ERP for some orders, and show what else they hold: fields that no rule reads.")
]

Asked = Annotated[bool, Query(description="Ask the ERP first: some know more of what this user may do.")]


class Terms(BaseModel):
    """How a mapping is saved."""

    model_config = ConfigDict(extra="forbid")

    retold: Retold = Field(
        Retold.MAPPING_CHANGED,
        description="Orders that only the mapping shows otherwise: told as `purchase_order.mapping_changed`, or not.",
    )
    force: bool = Field(
        False, description="Save what loses orders, names missing columns, or could not be tried on live orders."
    )


class MappingWanted(Terms):
    """A mapping to put in the place of the one that stands."""

    overrides: MappingOverrides
    base: int | None = Field(
        None, ge=0, description="The version that it was made from; when another stands by now, nothing is saved."
    )


class MappingTried(BaseModel):
    """A mapping to be tried on live orders."""

    model_config = ConfigDict(extra="forbid")

    overrides: MappingOverrides


class Reverted(Terms):
    """Which version to bring back."""

    version: int = Field(ge=0, le=2**31 - 1, description="0: no overrides at all.")


def mappings_router(core: Core) -> APIRouter:
    """A connection's mapping and its versions."""
    router, control = core.router("/v1/connections", "mappings"), core.control

    @router.get("/{connection_id}/mapping", summary="Where each field of the connection's orders comes from")
    async def show_mapping(connection_id: ConnectionPath, *, sample: Sampled = False) -> MappingView:
        return await control.mapping(connection_id, sample=sample)

    @router.get("/{connection_id}/capabilities", summary="What the connection's system gives and takes, field by field")
    async def show_capabilities(connection_id: ConnectionPath, *, sample: Asked = False) -> Capabilities:
        return await control.capabilities(connection_id, sample=sample)

    @router.get("/{connection_id}/mapping/versions", summary="All versions of the overrides, newest first")
    async def list_mapping_versions(connection_id: ConnectionPath) -> tuple[MappingVersionView, ...]:
        return tuple(await control.mapping_versions(connection_id))

    @router.post("/{connection_id}/mapping/check", summary="Try a mapping on live orders; nothing is saved")
    async def check_mapping(connection_id: ConnectionPath, tried: MappingTried) -> MappingChecked:
        return await control.check_mapping(connection_id, tried.overrides.told())

    @router.put("/{connection_id}/mapping", summary="Save a mapping that works, and read all orders again with it")
    async def set_mapping(connection_id: ConnectionPath, wanted: MappingWanted, call: CallNow) -> MappingSaved:
        return await control.set_mapping(
            connection_id,
            wanted.overrides.told(),
            retold=wanted.retold,
            force=wanted.force,
            base=wanted.base,
            by=call.caller.name,
        )

    @router.post("/{connection_id}/mapping/revert", summary="Bring an older version back, as a new one")
    async def revert_mapping(connection_id: ConnectionPath, wanted: Reverted, call: CallNow) -> MappingSaved:
        return await control.revert_mapping(
            connection_id, wanted.version, retold=wanted.retold, force=wanted.force, by=call.caller.name
        )

    return router
