"""Master keys and data keys: shown, checked and rotated. No key is in an answer, only ids and counts."""

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, Core, needs
from relay.control.key_views import KeysChecked, KeysRotated, KeysShown
from relay.domain.callers import Scope
from relay.domain.errors import UserError


class RotationWanted(BaseModel):
    """What to rotate."""

    model_config = ConfigDict(extra="forbid")

    data_keys: bool = Field(False, description="Make new data keys, too, and seal everything anew with them.")
    customer: str | None = Field(
        None, max_length=80, description="Only this customer's data key; null: those of all. Goes with `data_keys`."
    )


Wanted = Annotated[RotationWanted, Body(default_factory=RotationWanted)]


def keys_router(core: Core) -> APIRouter:
    """The keys."""
    router = core.router("/v1/keys", "keys")

    @router.get("", summary="Master keys, what each has wrapped, and which are missing", **needs(Scope.ADMIN))
    async def show_keys() -> KeysShown:
        return await core.control.keys.show()

    @router.post("/check", summary="Open every data key and sealed value; what does not", **needs(Scope.ADMIN))
    async def check_keys() -> KeysChecked:
        return await core.control.keys.check()

    @router.post("/rotate", summary="Wrap data keys anew, or replace them; may be asked again", **needs(Scope.ADMIN))
    async def rotate_keys(wanted: Wanted, call: CallNow) -> KeysRotated:
        keys = core.control.keys
        if wanted.data_keys:
            call.about("data_keys", wanted.customer)
            return await keys.renew(wanted.customer)
        if wanted.customer is not None:
            raise UserError("customer goes with data_keys: wrapping anew is done for all customers at once")
        call.about("master_keys")
        return await keys.rewrap()

    return router
