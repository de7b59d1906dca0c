"""The HTTP side of a process: health, metrics, the event catalogue, what receivers ask for, and the control API.

/health/live   the process answers            /metrics                        Prometheus
/health/ready  what it stands on answers      /v1/catalogue                   JSON Schemas of events and commands
                                              /v1/endpoints/{id}/keys         public keys
                                              /v1/endpoints/{id}/events       its log, with a pull token
                                              /v1/...                         the control API: relay.api.control
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from relay import __version__
from relay.api.commands import command_components
from relay.api.control import add_control
from relay.api.core import Core
from relay.api.keys import keys_router
from relay.api.problems import Problem, answer_with_problems
from relay.api.pull import pull_router
from relay.api.reading import Reading
from relay.api.requests import Requests
from relay.api.serving import served
from relay.domain.command_schemas import command_schema, schema_name
from relay.domain.commands import CommandType
from relay.domain.errors import RelayError
from relay.domain.events import EVENT_TYPES, ChangeEvent
from relay.domain.notices import CONNECTION_TYPES, NoticeEvent
from relay.domain.orders import OrderDocument
from relay.domain.results import RESULT_TYPES, CommandResult
from relay.store.log import LogStore

__all__ = ["Check", "application", "served"]

Check = Callable[[], Awaitable[None]]
"""Returns when a part answers; raises a RelayError that says why it does not."""

PATIENCE = 3.0
"""Seconds for a part to answer a check."""


def application(
    checks: Mapping[str, Check], log: LogStore | None = None, core: Core | None = None, *, patience: float = PATIENCE
) -> FastAPI:
    """The HTTP application of a process that stands on the checked parts; without log or core it has less to say."""
    app = _Described(
        title="relay", version=__version__, description="What receivers ask for, and what operators watch and do."
    )
    app.add_middleware(Requests)
    answer_with_problems(app)
    if log is not None:
        reading = Reading()
        app.include_router(pull_router(log, reading))
        app.include_router(keys_router(log, reading))
    if core is not None:
        add_control(app, core)

    @app.get("/health/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live", "version": __version__}

    @app.get("/health/ready", summary="What the process stands on answers", responses={503: {"description": "Not yet"}})
    async def ready(response: Response) -> dict[str, Any]:
        states = await asyncio.gather(*(_state(check, patience) for check in checks.values()))
        parts = dict(zip(checks, states, strict=True))
        well = all(state == "ok" for state in parts.values())
        response.status_code = 200 if well else 503
        return {"status": "ready" if well else "waiting", "parts": parts}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/catalogue", summary="Every type of event, command and result, and their JSON Schemas")
    async def catalogue() -> dict[str, Any]:
        return {
            "event_types": EVENT_TYPES,
            "command_types": tuple(CommandType),
            "result_types": RESULT_TYPES,
            "notice_types": CONNECTION_TYPES,
            "schemas": {
                "change-event.v1": ChangeEvent.model_json_schema(mode="serialization"),
                "purchase-order.v1": OrderDocument.model_json_schema(mode="serialization"),
                "command-result.v1": CommandResult.model_json_schema(mode="serialization"),
                "notice.v1": NoticeEvent.model_json_schema(mode="serialization"),
                **{schema_name(kind): command_schema(kind) for kind in CommandType},
            },
        }

    return app


class _Described(FastAPI):
    """An application whose description holds the problem that every refusal refers to."""

    def openapi(self) -> dict[str, Any]:
        """The API as OpenAPI 3.1."""
        described = super().openapi()
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        schemas |= command_components()
        return described


async def _state(check: Check, patience: float) -> str:
    try:
        async with asyncio.timeout(patience):
            await check()
    except RelayError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {patience:g} s"
    return "ok"
