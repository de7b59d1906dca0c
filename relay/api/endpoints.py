"""Endpoints: where a customer's events go, and what webhooks are signed with."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, Core
from relay.api.lists import After, Limit, Listed, listed
from relay.api.reading import EndpointId
from relay.api.times import Duration, Moment
from relay.control import EndpointAdded, EndpointTested, EndpointView, KeyView, SecretRotated
from relay.control.pull import PullToken, PullTokens
from relay.control.signing import OVERLAP
from relay.domain.paging import page_key
from relay.domain.rotation import Signing

Options = Annotated[dict[str, Any], Field(description="Values of the options that are not the default.")]
ACCESS = "What the receiver asks for beside the signature; sealed, and never shown."


class EndpointWanted(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    customer: str = Field(description="Whose it is; made when it is new.")
    name: str
    url: str = Field(max_length=2000, description="https, unless this relay allows http.")
    event_types: tuple[str, ...] = Field((), max_length=100, description="Only these; empty: all.")
    connections: tuple[str, ...] = Field((), max_length=1000, description="Only these, by id or name; empty: all.")
    at_once: int | None = Field(None, description="Most attempts in flight; null: as this relay is set.")
    deadline: Duration | None = Field(None, description="For one attempt, whole; null: as this relay is set.")
    signing: Signing = Signing.HMAC
    options: Options = {}
    access: dict[str, Any] = Field({}, description=ACCESS, repr=False)


class EndpointChanges(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str | None = Field(None, max_length=2000)
    event_types: tuple[str, ...] | None = Field(None, max_length=100)
    connections: tuple[str, ...] | None = Field(None, max_length=1000)
    at_once: int | None = None
    deadline: Duration | None = None
    options: Options = {}
    defaults: tuple[str, ...] = Field((), max_length=100, description="Options that are the default from now on.")
    access: dict[str, Any] | None = Field(
        None, description=f"{ACCESS} Takes the place of all of it; {{}} ends it.", repr=False
    )


class SamplesWanted(BaseModel):
    """Which samples to send."""

    model_config = ConfigDict(extra="forbid")

    types: tuple[str, ...] = Field((), max_length=100, description="A sample of each of these; empty: of one.")
    every: bool = Field(False, description="A sample of every type that the endpoint wants.")


class RotationWanted(BaseModel):
    """A new signing secret."""

    model_config = ConfigDict(extra="forbid")

    overlap: Duration = Field(OVERLAP, description="How long the older secrets sign, too.")
    begin: Moment | None = Field(None, description="When the new one begins to sign; null: now.")
    signing: Signing | None = Field(None, description="Sign with this from then on; null: as before.")


Samples = Annotated[SamplesWanted, Body(default_factory=SamplesWanted)]
Rotation = Annotated[RotationWanted, Body(default_factory=RotationWanted)]


def endpoints_router(core: Core) -> APIRouter:
    """Endpoints, one by one and as a list."""
    router, control = core.router("/v1/endpoints", "endpoints"), core.control

    @router.post("", summary="Add an endpoint; its signing secret is shown once", status_code=201)
    async def add_endpoint(wanted: EndpointWanted, call: CallNow) -> EndpointAdded:
        added = await control.add_endpoint(**_values(wanted))
        call.about(added.endpoint.id, added.endpoint.customer)
        return added

    @router.get("", summary="Endpoints, by customer and name")
    async def list_endpoints(
        limit: Limit = 50,
        after: After = None,
        customer: Annotated[str | None, Query(max_length=80, description="Only this customer's.")] = None,
        name: Annotated[
            str | None, Query(max_length=200, description="Only what is called so: an id, a name, or customer/name.")
        ] = None,
    ) -> Listed[EndpointView]:
        key = page_key("endpoints", after, str, str)
        begin = ("", "") if key is None else (str(key[0]), str(key[1]))
        found = await control.endpoint_page(begin, limit + 1, customer=customer, name=name)
        return listed("endpoints", found, limit, view=lambda each: each, key=lambda each: (each.customer, each.name))

    @router.get("/{endpoint_id}", summary="One endpoint, with counts")
    async def show_endpoint(endpoint_id: EndpointId) -> EndpointView:
        return await control.endpoint(endpoint_id)

    @router.patch("/{endpoint_id}", summary="Change what is given, and nothing else")
    async def change_endpoint(endpoint_id: EndpointId, changes: EndpointChanges) -> EndpointView:
        return await control.change_endpoint(endpoint_id, **_values(changes))

    @router.delete("/{endpoint_id}", summary="Remove an endpoint with its deliveries; what it was")
    async def remove_endpoint(endpoint_id: EndpointId) -> EndpointView:
        return await control.remove_endpoint(endpoint_id)

    @router.post("/{endpoint_id}/enable", summary="Send again, what waited first")
    async def enable_endpoint(endpoint_id: EndpointId) -> EndpointView:
        return await control.enable_endpoint(endpoint_id)

    @router.post("/{endpoint_id}/disable", summary="Send nothing more; deliveries wait")
    async def disable_endpoint(endpoint_id: EndpointId) -> EndpointView:
        return await control.disable_endpoint(endpoint_id)

    @router.post("/{endpoint_id}/test", summary="Send signed samples now, and say what came back")
    async def test_endpoint(endpoint_id: EndpointId, wanted: Samples) -> EndpointTested:
        return await control.test_endpoint(endpoint_id, wanted.types, every=wanted.every)

    _add_secrets(router, core)
    return router


def _add_secrets(router: APIRouter, core: Core) -> None:
    control = core.control

    @router.get("/{endpoint_id}/secrets", summary="What webhooks are signed with: when each begins and ends")
    async def list_secrets(endpoint_id: EndpointId) -> tuple[KeyView, ...]:
        return tuple(await control.endpoint_keys(endpoint_id))

    @router.post("/{endpoint_id}/secrets", summary="A new signing secret, shown once; the older ones end after a while")
    async def rotate_secret(endpoint_id: EndpointId, wanted: Rotation) -> SecretRotated:
        return await control.rotate_secret(
            endpoint_id, overlap=wanted.overlap, signing=wanted.signing, begin=wanted.begin
        )

    @router.post("/{endpoint_id}/pull-token", summary="A new pull token, shown once; the one before it ends now")
    async def issue_pull_token(endpoint_id: EndpointId) -> PullToken:
        return await PullTokens(control.registry).issue(endpoint_id)

    @router.delete("/{endpoint_id}/pull-token", summary="No pull token is good any more")
    async def revoke_pull_token(endpoint_id: EndpointId) -> EndpointView:
        return await PullTokens(control.registry).revoke(endpoint_id)


def _values(given: BaseModel) -> dict[str, Any]:
    """What was given, as the operations take it."""
    values = {name: getattr(given, name) for name in given.model_fields_set}
    return {name: value for name, value in values.items() if value is not None}
