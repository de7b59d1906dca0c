"""Connections: added after a first look at the ERP, changed, paused, given new credentials, disconnected, removed."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from relay.api.core import CallNow, ConnectionPath, Core, needs, of_operators
from relay.api.lists import After, Limit, Listed, listed
from relay.api.times import Duration
from relay.control import ConnectionAdded, ConnectionView, FirstLook
from relay.control.connection_views import ConnectionToken
from relay.control.connections import POLL_EVERY, RECONCILE_EVERY
from relay.control.export import Export
from relay.control.schedules import HISTORY
from relay.domain.callers import Scope
from relay.domain.paging import page_key
from relay.domain.schedules import Schedule
from relay.domain.syncs import Announce
from relay.store.order_book import OrderBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHECK = "Read the first page of orders before anything is stored."
Credentials = Annotated[
    dict[str, Any],
    Field(description="As the connector's form says. Sealed, and never shown.", repr=False, max_length=50),
]
Settings = Annotated[dict[str, Any], Field(description="As the connector's form says.", max_length=100)]


class ConnectionWanted(BaseModel):
    """A new connection."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    customer: str = Field(description="Whose it is; made when it is new.")
    connector: str = Field(description="Which ERP: see `GET /v1/connectors`.")
    name: str | None = Field(None, description="What to call it; null: as the connector is called.")
    settings: Settings = {}
    credentials: Credentials = {}
    mapping: dict[str, Any] = Field({}, max_length=100, description="Codes and columns of one's own: see the mapping.")
    poll_every: Duration = Field(POLL_EVERY, description="How often to look for changes.")
    reconcile_every: Duration = Field(RECONCILE_EVERY, description="How often to compare all ids, for deletes.")
    schedule: Schedule | None = Field(None, description="How polling adapts, and when the ERP may be asked.")
    history: Duration | None = Field(HISTORY, description="How far back orders are read at first; null: all.")
    announce: Announce = Field(Announce.SNAPSHOT, description="What is told of these: snapshot or silent.")
    check: bool = Field(True, description=CHECK)


class ConnectionChanges(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = None
    settings: Settings | None = Field(
        None,
        description="All settings anew; the address stays.",
    )
    poll_every: Duration | None = None
    reconcile_every: Duration | None = None
    schedule: Schedule | None = Field(None, description="What is given of it changes.")
    check: bool = Field(True, description="Read the first page of orders with new settings before they are stored.")


class NewCredentials(BaseModel):
    """Other credentials."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    credentials: Credentials
    settings: Settings | None = Field(None, description="All settings anew, when the ERP is reached in another way.")
    check: bool = Field(True, description=CHECK)


def connections_router(core: Core) -> APIRouter:  # noqa: C901 - one function per call
    """Connections, one by one and as a list."""
    router, control = core.router("/v1/connections", "connections"), core.control

    @router.post("", summary="Add a connection after a first look; its token is shown once", status_code=201)
    async def add_connection(wanted: ConnectionWanted, call: CallNow) -> ConnectionAdded:
        added = await control.add_connection(
            customer=wanted.customer,
            kind=wanted.connector,
            name=wanted.name or wanted.connector,
            settings=wanted.settings,
            credentials=wanted.credentials,
            mapping=wanted.mapping,
            poll_every=wanted.poll_every,
            reconcile_every=wanted.reconcile_every,
            schedule=_given(wanted.schedule),
            history=wanted.history,
            announce=wanted.announce,
            check=wanted.check,
        )
        call.about(added.connection.id, added.connection.customer)
        return added

    @router.get("", summary="Connections, by customer and name", **needs(Scope.READ, narrowed=True))
    async def list_connections(
        call: CallNow,
        limit: Limit = 50,
        after: After = None,
        customer: Annotated[str | None, Query(max_length=80, description="Only this customer's.")] = None,
        name: Annotated[
            str | None, Query(max_length=200, description="Only what is called so: an id, a name, or customer/name.")
        ] = None,
    ) -> Listed[ConnectionView]:
        key = page_key("connections", after, str, str)
        begin = ("", "") if key is None else (str(key[0]), str(key[1]))
        own = call.caller.connection_id
        found = await control.connection_page(begin, limit + 1, customer=customer, name=own or name)
        return listed(
            "connections",
            [each for each in found if own in {None, each.id}],
            limit,
            view=lambda each: each,
            key=lambda each: (each.customer, each.name),
        )

    @router.get("/{connection_id}", summary="One connection, with counts")
    async def show_connection(connection_id: ConnectionPath) -> ConnectionView:
        return await control.connection(connection_id)

    @router.patch("/{connection_id}", summary="Change what is given, and nothing else", **of_operators(Scope.WRITE))
    async def change_connection(connection_id: ConnectionPath, changes: ConnectionChanges) -> ConnectionView:
        return await control.change_connection(
            connection_id,
            new_name=changes.name,
            settings=changes.settings,
            poll_every=changes.poll_every,
            reconcile_every=changes.reconcile_every,
            schedule=_given(changes.schedule),
            check=changes.check,
        )

    @router.post("/{connection_id}/check", summary="Look at the ERP again with what is stored; nothing is changed")
    async def check_connection(connection_id: ConnectionPath) -> FirstLook:
        return await control.check_connection(connection_id)

    @router.post("/{connection_id}/pause", summary="Poll no more; what was read is still delivered")
    async def pause_connection(connection_id: ConnectionPath) -> ConnectionView:
        return await control.pause_connection(connection_id)

    @router.post("/{connection_id}/resume", summary="Poll again, from where it stopped")
    async def resume_connection(connection_id: ConnectionPath) -> ConnectionView:
        return await control.resume_connection(connection_id)

    @router.post(
        "/{connection_id}/reconnect",
        summary="Give new credentials, after a look; a new token is shown once",
        **of_operators(Scope.WRITE),
    )
    async def reconnect_connection(connection_id: ConnectionPath, given: NewCredentials) -> ConnectionAdded:
        return await control.reconnect(connection_id, given.credentials, settings=given.settings, check=given.check)

    @router.post("/{connection_id}/token", summary="A new token, shown once; the one before it is good no more")
    async def rotate_connection_token(connection_id: ConnectionPath) -> ConnectionToken:
        return await control.rotate_token(connection_id)

    @router.post("/{connection_id}/disconnect", summary="Erase credentials and token; what was told is kept")
    async def disconnect_connection(connection_id: ConnectionPath) -> ConnectionView:
        return await control.disconnect(connection_id)

    @router.get(
        "/{connection_id}/export",
        summary="All that is known of a connection, as lines of JSON",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    )
    async def export_connection(connection_id: ConnectionPath) -> StreamingResponse:
        seen = await control.connection(connection_id)
        lines: AsyncIterator[bytes] = Export(OrderBook(core.database)).lines(seen)
        name = f'attachment; filename="{seen.id}.ndjson"'
        headers = {"cache-control": "no-store", "content-disposition": name}
        return StreamingResponse(lines, 200, headers, "application/x-ndjson")

    @router.delete(
        "/{connection_id}",
        summary="Remove a connection with its orders, events and deliveries: export it before",
        **of_operators(Scope.ADMIN),
    )
    async def remove_connection(connection_id: ConnectionPath) -> ConnectionView:
        return await control.remove_connection(connection_id)

    return router


def _given(schedule: Schedule | None) -> dict[str, Any]:
    """What was given of a schedule, and nothing of what is the default."""
    return {} if schedule is None else schedule.model_dump(exclude_unset=True)
