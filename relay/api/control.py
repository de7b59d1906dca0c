"""The control API: every router of it, on one core."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI

from relay.api.command_keys import command_keys_router
from relay.api.commands import commands_router
from relay.api.connections import connections_router
from relay.api.core import Core
from relay.api.customers import connectors_router, customers_router
from relay.api.deliveries import deliveries_router, doctor_router, explain_router, replays_router
from relay.api.endpoints import endpoints_router
from relay.api.mappings import mappings_router
from relay.api.master_keys import keys_router
from relay.api.operators import audit_router, me_router, operators_router
from relay.api.orders import orders_router
from relay.api.syncs import all_syncs_router, syncs_router

ROUTERS: tuple[Callable[[Core], APIRouter], ...] = (
    me_router,
    operators_router,
    audit_router,
    customers_router,
    connectors_router,
    connections_router,
    syncs_router,
    all_syncs_router,
    endpoints_router,
    orders_router,
    commands_router,
    command_keys_router,
    mappings_router,
    deliveries_router,
    replays_router,
    explain_router,
    keys_router,
    doctor_router,
)


def add_control(app: FastAPI, core: Core) -> None:
    """Add the control API to an application."""
    for router in ROUTERS:
        app.include_router(router(core))
