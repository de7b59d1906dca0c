"""Customers, and the connectors that their connections can have."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, Core, needs
from relay.api.lists import After, Limit, Listed, listed
from relay.control import ConnectorForm, connector_form, connector_named
from relay.control.customers import CustomerView
from relay.control.systems import system_of
from relay.domain.callers import Scope
from relay.domain.capabilities import Capabilities
from relay.domain.paging import page_key

CustomerPath = Annotated[str, Path(min_length=1, max_length=80, description="The customer.")]
ConnectorPath = Annotated[str, Path(min_length=1, max_length=80, description="The connector: `protheus`, `rm`, ...")]


class CustomerWanted(BaseModel):
    """A new customer."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="What to call it: 1 to 80 letters, digits, blanks or . _ - @.")


def customers_router(core: Core) -> APIRouter:
    """Customers."""
    router, control = core.router("/v1/customers", "customers"), core.control

    @router.post("", summary="Add a customer; a new connection or endpoint does so, too", status_code=201)
    async def add_customer(wanted: CustomerWanted, call: CallNow) -> CustomerView:
        call.about(wanted.id[:80], wanted.id[:80])
        return await control.add_customer(wanted.id)

    @router.get("", summary="Customers, by id")
    async def list_customers(limit: Limit = 50, after: After = None) -> Listed[CustomerView]:
        key = page_key("customers", after, str)
        found = await control.customer_page(str(key[0]) if key else "", limit + 1)
        return listed("customers", found, limit, view=lambda each: each, key=lambda each: (each.id,))

    @router.get("/{customer}", summary="One customer")
    async def show_customer(customer: CustomerPath) -> CustomerView:
        return await control.customer(customer)

    @router.delete("/{customer}", summary="Remove a customer that has nothing left", **needs(Scope.ADMIN))
    async def remove_customer(customer: CustomerPath) -> CustomerView:
        return await control.remove_customer(customer)

    return router


def connectors_router(core: Core) -> APIRouter:
    """Connectors and their forms."""
    router, control = core.router("/v1/connectors", "connectors"), core.control

    @router.get("", summary="Connectors, and what a connection of each needs")
    async def list_connectors() -> Listed[ConnectorForm]:
        return Listed(items=tuple(connector_form(control.kinds[name]) for name in sorted(control.kinds)), next=None)

    @router.get("/{connector}", summary="What a connection needs: the fields of its settings and credentials")
    async def show_connector(connector: ConnectorPath) -> ConnectorForm:
        return connector_form(connector_named(control.kinds, connector))

    @router.get("/{connector}/capabilities", summary="What such a system gives and takes, as it comes")
    async def show_system(connector: ConnectorPath) -> Capabilities:
        return await system_of(connector_named(control.kinds, connector))

    return router
