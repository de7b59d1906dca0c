"""The control API: every router of it, on one core."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI

from relay.api.core import Core
from relay.api.operators import audit_router, me_router, operators_router

ROUTERS: tuple[Callable[[Core], APIRouter], ...] = (
    me_router,
    operators_router,
    audit_router,
)


def add_control(app: FastAPI, core: Core) -> None:
    """Add the control API to an application."""
    for router in ROUTERS:
        app.include_router(router(core))
