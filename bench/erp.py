"""An ERP in memory: orders that change when they are told to, and the connector that reads them.

Its orders are whole and ready, so that what is measured is relay, not a parser.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
from pydantic import BaseModel

from relay.domain.capabilities import Capabilities
from relay.domain.connections import Cursor
from relay.domain.orders import Item, Line, Named, PaymentTerms, PurchaseOrder, Status, Vendor
from relay.ports import ConnectorKind, Found, Mappings, Pace, Page, Sample

PAGE = 200
NAME = "memory"

Source = Callable[[], AsyncIterator[PurchaseOrder]]
"""What one poll reads."""


class Nothing(BaseModel):
    """Settings and credentials of a system that needs none."""


class Memory:
    """The connector: every poll reads `source`, in pages of up to `page` orders."""

    def __init__(self, source: Source, page: int = PAGE) -> None:
        self._source, self._page = source, page
        self._ids: dict[str, None] = {}

    async def changed_since(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        page: list[PurchaseOrder] = []
        async for order in self._source():
            page.append(order)
            self._ids[order.remote_id] = None
            if len(page) == self._page:
                yield Page(tuple(page), cursor or Cursor("here"))
                page = []
        if page:
            yield Page(tuple(page), cursor or Cursor("here"))

    async def walk(self, cursor: Cursor | None, _begin: date | None) -> AsyncIterator[Page]:
        async for page in self.changed_since(cursor):
            yield page

    async def count(self, _begin: date | None) -> int | None:
        return None

    async def remote_ids(self) -> AsyncIterator[tuple[str, ...]]:
        yield tuple(self._ids)

    async def read(self, remote_id: str) -> PurchaseOrder | None:
        raise AssertionError(f"{remote_id} never vanishes")

    async def sample(self, most: int) -> Sample:
        raise AssertionError(f"nobody looks at {most} orders")

    async def found(self) -> Found:
        return Found()

    def capabilities(self) -> Capabilities:
        return Capabilities(connector=NAME, fields=())

    def writer(self) -> None:
        """Nothing is written."""


def kind(connector: Memory) -> ConnectorKind:
    """The registry's line for a connector that is there already."""

    def build(_settings: Any, _credentials: Any, _client: httpx.AsyncClient, _mappings: Mappings) -> Memory:
        return connector

    return ConnectorKind(NAME, "Memory", Nothing, Nothing, Pace(1000, 1000, 4), build)


def order(number: int, revision: int = 0) -> PurchaseOrder:
    """One order; each revision receives a little more of its line. Its event has about 2 KB."""
    line = Line(
        remote_id="0001",
        item=Item(code=f"PRD{number % 97:06}", description="Parafuso sextavado M8 x 30 zincado"),
        quantity=Decimal(1000),
        unit="H87",
        unit_raw="UN",
        unit_price=Decimal("12.50"),
        amount=Decimal("12500.00"),
        required_date=date(2026, 12, 1),
        received_quantity=Decimal(revision),
    )
    return PurchaseOrder(
        remote_id=f"01|{number:06}",
        number=f"{number:06}",
        status=Status.APPROVED,
        branch=Named(remote_id="01", name="Matriz"),
        vendor=Vendor(remote_id=f"F{number % 50:05}", name="Metalúrgica São João Ltda"),
        currency="BRL",
        order_date=date(2026, 11, 1),
        payment_terms=PaymentTerms(remote_id="001", description="30/60/90 dias"),
        total=Decimal("12500.00"),
        lines=(line,),
        remote_updated_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
    )


def history(orders: int, events: int) -> Iterator[PurchaseOrder]:
    """So many events, told order by order and then again, each order's revisions one after the other."""
    for count in range(events):
        yield order(count % orders, count // orders)


def once(orders: Iterator[PurchaseOrder]) -> Source:
    """A poll that reads these, and the next one nothing."""

    async def source() -> AsyncIterator[PurchaseOrder]:
        for each in orders:
            yield each

    return source


async def never() -> AsyncIterator[PurchaseOrder]:
    """A poll that waits for a system with nothing to say."""
    await asyncio.Event().wait()
    yield order(0)


def paced(orders: Iterator[PurchaseOrder], per_second: float) -> Source:
    """A poll that goes on, an order at a time, evenly; a late one does not delay those after it."""

    async def source() -> AsyncIterator[PurchaseOrder]:
        loop = asyncio.get_running_loop()
        at = loop.time()
        for each in orders:
            await asyncio.sleep(max(0.0, at - loop.time()))
            yield each
            at += 1 / per_second
        await asyncio.Event().wait()

    return source
