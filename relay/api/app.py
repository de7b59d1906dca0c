"""The HTTP side of a process: health, metrics, the event catalogue, and what receivers ask for.

/health/live   the process answers            /metrics                        Prometheus
/health/ready  what it stands on answers      /v1/catalogue                   JSON Schemas of every event
                                              /v1/endpoints/{id}/keys         public keys
                                              /v1/endpoints/{id}/events       its log; the only path with a token
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from relay import __version__
from relay.api.keys import keys_router
from relay.api.problems import answer_with_problems
from relay.api.pull import pull_router
from relay.api.reading import Reading
from relay.domain.errors import RelayError, UserError
from relay.domain.events import EVENT_TYPES, ChangeEvent
from relay.domain.orders import OrderDocument
from relay.store.log import LogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Check = Callable[[], Awaitable[None]]
"""Returns when a part answers; raises a RelayError that says why it does not."""

PATIENCE = 3.0
"""Seconds for a part to answer a check."""
GRACE = 1
"""Seconds for requests that are under way when the process stops."""


def application(checks: Mapping[str, Check], log: LogStore | None = None, *, patience: float = PATIENCE) -> FastAPI:
    """The HTTP application of a process that stands on the checked parts; without a log there is nothing to pull."""
    app = FastAPI(title="relay", version=__version__, description="What receivers ask for, and what operators watch.")
    answer_with_problems(app)
    if log is not None:
        reading = Reading()
        app.include_router(pull_router(log, reading))
        app.include_router(keys_router(log, reading))

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

    @app.get("/v1/catalogue", summary="Every event type, and the JSON Schemas of what is sent")
    async def catalogue() -> dict[str, Any]:
        return {
            "event_types": EVENT_TYPES,
            "schemas": {
                "change-event.v1": ChangeEvent.model_json_schema(mode="serialization"),
                "purchase-order.v1": OrderDocument.model_json_schema(mode="serialization"),
            },
        }

    return app


async def _state(check: Check, patience: float) -> str:
    try:
        async with asyncio.timeout(patience):
            await check()
    except RelayError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {patience:g} s"
    return "ok"


@asynccontextmanager
async def served(app: FastAPI, host: str, port: int) -> "AsyncIterator[str]":
    """Serve until the block ends; yields the address, with the port that was taken for port 0.

    Raises:
        UserError: the address cannot be listened on.
    """
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE)
    )
    # Not `serve`: signals belong to the command, which drains before it stops.
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    try:
        await server.startup()
    except SystemExit as ended:
        raise _unusable(host, port, ended.__context__) from None
    taken = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{host}:{taken}"
    finally:
        server.should_exit = True
        await server.shutdown()


def _unusable(host: str, port: int, error: BaseException | None) -> UserError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return UserError(f"port {port} on {host} is taken: stop what holds it or set RELAY_HTTP__PORT")
    return UserError(f"cannot listen on port {port} of {host}: {error}. Set RELAY_HTTP__HOST and RELAY_HTTP__PORT")
