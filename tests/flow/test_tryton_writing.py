"""Tryton written to for real: each command, each refusal, and what is known when an answer is lost."""

from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import pytest

from relay.connectors.tryton import TRYTON, TrytonCredentials, TrytonSettings
from relay.domain.commands import read_command
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import Status
from relay.domain.results import WriteRefused
from relay.ports import Mappings
from relay.wire.erp import PoliteTransport

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(300)]

BOLTS = {"item": {"code": "PAR-M8"}, "quantity": "100", "unit_price": "1.2500"}
PLATE = {"item": {"code": "CHA-A36"}, "quantity": "1", "unit": "KGM", "unit_price": "7.85"}
BEARINGS = {"item": {"code": "ROL-6204"}, "quantity": "4", "unit": "C62", "unit_price": "37.90"}


class Purchasing:
    """A connector and its writer, and what they sent."""

    def __init__(self, connector, requests):
        self.connector = connector
        self.writer = connector.writer()
        self.requests = requests
        self.count = 0

    def command(self, type_, remote_id=None, **given):
        self.count += 1
        order = {"remote_id": remote_id} if remote_id else {}
        return read_command({"type": type_, "command_id": f"c-{self.count}", "connection_id": "erp", **order, **given})

    def creating(self, *lines, **given):
        order = {"vendor": {"code": "F001"}, "ship_to": {"location_code": "WH"}, **given.pop("order", {})}
        return self.command("create", order=order, lines=list(lines) or [BOLTS, BEARINGS], **given)

    async def create(self, *lines, **given):
        return await self.read(await self.send(self.creating(*lines, **given)))

    async def send(self, command, order=None):
        prepared = await self.writer.prepare(command, order)
        return await self.writer.write(prepared)

    async def do(self, type_, order, **given):
        assert await self.send(self.command(type_, order.remote_id, **given), order) == order.remote_id
        return await self.read(order.remote_id)

    async def refusal(self, command, order=None):
        with pytest.raises(WriteRefused) as refused:
            await self.send(command, order)
        (only,) = refused.value.refusals
        return only

    async def refused(self, type_, order, **given):
        return await self.refusal(self.command(type_, order.remote_id, **given), order)

    async def read(self, remote_id):
        return await self.connector.read(remote_id)

    async def ids(self):
        return [each async for batch in self.connector.remote_ids() for each in batch]


@asynccontextmanager
async def purchasing(erp, *, mapping=None, url=None, **settings):
    requests = []

    async def note(request):
        requests.append(request)

    transport = PoliteTransport(httpx.AsyncHTTPTransport(), TRYTON.pace)
    async with httpx.AsyncClient(transport=transport, event_hooks={"request": [note]}) as client:
        chosen = TrytonSettings(**{"url": url or erp.url, "database": erp.database, **settings})
        credentials = TrytonCredentials(username=erp.username, password=erp.password)
        mappings = Mappings(MappingOverrides(**(mapping or {})))
        yield Purchasing(TRYTON.build(chosen, credentials, client, mappings), requests)


@pytest.fixture
async def erp(tryton_erp):
    async with purchasing(tryton_erp) as ready:
        yield ready


# what is written


async def test_a_new_order_is_what_was_asked_for_and_what_tryton_fills_in(erp):
    order = await erp.create(
        {**BOLTS, "promised_date": "2026-12-24", "item": {"code": "PAR-M8", "description": "M8, zincado"}},
        {
            "item": {"code": "CHA-A36"},
            "quantity": "12.3",
            "unit": "KGM",
            "unit_price": "7.85",
            "custom_fields": {"note": "cortar"},
        },
        order={
            "payment_terms": {"remote_id": "4"},
            "currency": "BRL",
            "order_date": "2026-11-27",
            "delivery_date": "2026-12-20",
            "notes": "Entregar na doca 3",
            "custom_fields": {"description": "Peças"},
        },
        external_reference="WEB-77",
    )
    assert (order.status, order.status_raw, order.number) == (Status.DRAFT, "draft", None)
    assert (order.vendor.code, order.ship_to.location_code, order.currency) == ("F001", "WH", "BRL")
    assert (order.payment_terms.description, order.notes) == ("Net 30 days", "Entregar na doca 3")
    assert (str(order.order_date), str(order.delivery_date)) == ("2026-11-27", "2026-12-20")
    assert order.custom_fields == {"reference": "WEB-77", "description": "Peças"}
    bolts, plate = order.lines
    assert (bolts.item.code, bolts.item.description, str(bolts.promised_date)) == (
        "PAR-M8",
        "M8, zincado",
        "2026-12-24",
    )
    assert (bolts.quantity, bolts.unit, str(bolts.unit_price)) == (Decimal(100), "C62", "1.2500")
    assert (plate.quantity, plate.unit, plate.custom_fields) == (Decimal("12.3"), "KGM", {"note": "cortar"})
    # The tax of the product, which Tryton's own screen would have filled in, too.
    assert [str(total) for total in (order.subtotal, order.tax_total)] == ["221.56", "22.16"]
