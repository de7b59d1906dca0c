"""Purchase orders of a connection, their histories, and all of the connection's events to be pulled with a cursor.

    GET /v1/connections/{id}/events?after=<cursor>&limit=100&wait=20s

    {"events": [
    {"cursor": ..., "event_id": ..., "body": {the event}},
    ...
    ], "next": <cursor>, "more": false}

Each event stands on a line of its own with its body last: the frozen bytes of the event, never read and written again.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from relay.api.arrivals import Arrivals
from relay.api.core import ConnectionPath, Core
from relay.api.lists import After, Limit, Listed, listed
from relay.api.problems import documented, problem
from relay.api.pull import LogAfter, LogLimit, LogWait, wait_seconds
from relay.api.reading import Reading
from relay.api.times import Moment
from relay.control.orders import LATEST, NEWEST, Orders, OrderView
from relay.domain.cursors import cursor_of, read_cursor
from relay.domain.events import ChangeEvent
from relay.domain.paging import page_cursor, page_key
from relay.store.order_book import LogPage, OrderBook

OrderPath = Annotated[str, Path(pattern="^po_[0-9a-f]{32}$", description="The order's id in relay, `po_...`.")]


class LoggedEvent(BaseModel):
    """One event of a connection."""

    cursor: str = Field(description="Everything of this connection up to this event.")
    event_id: str = Field(description="The webhook's `webhook-id`, and `ce_id` on the topic.")
    body: ChangeEvent = Field(description="The event, byte for byte as on the topic.")


class ConnectionLog(BaseModel):
    """A piece of a connection's log."""

    events: tuple[LoggedEvent, ...]
    next: str = Field(description="The cursor to go on with.")
    more: bool = Field(description="Whether there are later events now.")


class History(BaseModel):
    """Events of an order, newest first."""

    items: tuple[ChangeEvent, ...]
    next: str | None = Field(description="`after` of the next page; null: this is the last.")


def orders_router(core: Core) -> APIRouter:
    """Orders, histories, events."""
    router = core.router("/v1/connections/{connection_id}", "orders")
    book, reading = OrderBook(core.database), Reading()
    orders, arrivals = Orders(book), Arrivals(book.reached)

    @router.get("/orders", summary="Purchase orders, the latest change first")
    async def list_orders(  # noqa: PLR0913 - one per parameter of the request
        *,
        connection_id: ConnectionPath,
        limit: Limit = 50,
        after: After = None,
        changed_since: Annotated[
            Moment | None, Query(description="Only those that changed at this time or later; with its zone.")
        ] = None,
        remote_id: Annotated[str | None, Query(max_length=200, description="Only the one of this remote id.")] = None,
        number: Annotated[str | None, Query(max_length=200, description="Only those of this number.")] = None,
        deleted: Annotated[bool, Query(description="Those that were deleted, too.")] = False,
    ) -> Listed[OrderView]:
        key = page_key("orders", after, str, str)
        before = LATEST if key is None else (datetime.fromisoformat(str(key[0])), str(key[1]))
        async with reading.turn():
            found = await orders.orders(
                connection_id,
                before=before,
                since=changed_since,
                remote_id=remote_id,
                number=number,
                deleted=deleted,
                most=limit + 1,
            )
        return listed(
            "orders", found, limit, view=lambda each: each, key=lambda o: (o.changed_at.isoformat(), o.remote_id)
        )

    @router.get("/orders/{order_id}", summary="One purchase order, with its raw records when the connection keeps them")
    async def show_order(connection_id: ConnectionPath, order_id: OrderPath) -> OrderView:
        return await orders.order(connection_id, order_id)

    @router.get(
        "/orders/{order_id}/events",
        summary="The events of a purchase order, newest first",
        response_class=Response,
        responses={200: {"model": History}},
    )
    async def list_order_events(
        connection_id: ConnectionPath, order_id: OrderPath, limit: Limit = 50, after: After = None
    ) -> Response:
        key = page_key("history", after, int)
        before = NEWEST if key is None else int(key[0])
        async with reading.turn():
            found = await orders.history(connection_id, order_id, before=before, most=limit + 1)
        return _history(found, limit)

    @router.get(
        "/events",
        summary="The events of all orders of a connection, in the order in which they were made",
        response_class=Response,
        responses={200: {"model": ConnectionLog}, **documented(HTTPStatus.GONE)},
    )
    async def pull_events(
        connection_id: ConnectionPath,
        after: LogAfter = None,
        limit: LogLimit = 100,
        wait: LogWait = "0s",
    ) -> Response:
        seconds, position = wait_seconds(wait), None if after is None else read_cursor(connection_id, after)
        async with reading.turn():
            page = await orders.log(connection_id, position, limit)
        if not page.entries and seconds and page.forgotten is None:
            await arrivals.beyond(connection_id, page.until, seconds)
            async with reading.turn():
                page = await orders.log(connection_id, page.until, limit)
        return _gone(connection_id, page) if page.forgotten is not None else _log(connection_id, page)

    return router


def _history(found: list[bytes], limit: int) -> Response:
    shown = found[:limit]
    more = len(found) > limit
    last: Any = orjson.loads(shown[-1])["data"]["sequence"] if more else None
    cursor = orjson.dumps(None if last is None else page_cursor("history", [last]))
    return _json(b'{"items":[' + b",".join(b"\n" + each for each in shown) + b'\n],"next":' + cursor + b"}")


def _log(connection_id: str, page: LogPage) -> Response:
    lines = []
    for each in page.entries:
        head = {"cursor": cursor_of(connection_id, each.position), "event_id": each.event_id}
        lines.append(b"\n" + orjson.dumps(head)[:-1] + b',"body":' + each.body + b"}")
    ending = {"next": cursor_of(connection_id, page.until), "more": page.until < page.last}
    return _json(b'{"events":[' + b",".join(lines) + b"\n]," + orjson.dumps(ending)[1:])


def _gone(connection_id: str, page: LogPage) -> Response:
    detail = (
        "events after this cursor are no longer kept: read the orders as they are now, and go on with `oldest` "
        "for what follows"
    )
    return problem(HTTPStatus.GONE, detail, oldest=cursor_of(connection_id, page.until))


def _json(content: bytes) -> Response:
    return Response(content, 200, {"cache-control": "no-store"}, "application/json")
