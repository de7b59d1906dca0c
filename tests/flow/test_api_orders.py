"""Purchase orders and a connection's events through the control API, as a connection's own token sees them."""

import asyncio
from datetime import timedelta

import pytest

from relay.domain.orders import PurchaseOrder, Status, order_id
from relay.domain.tokens import TokenKind, digest_of, token_of
from relay.store.callers import CallerStore
from relay.store.retention import RetentionStore
from tests.fixtures.store import NOW, observed

ERP = "con_acme_erp"
PATH = f"/v1/connections/{ERP}"


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
async def token(world, erp):
    made = token_of(TokenKind.CONNECTION, b"t" * 32)
    await CallerStore(world.database).set_token(erp.lease.subject, digest_of(made))
    return made


async def tell(world, by, remote_id, before=None, **values):
    order = PurchaseOrder(remote_id=remote_id, **{"status": Status.APPROVED, **values})
    snapshot, entry = observed(by.subject, order, before, NOW)
    await world.orders.save_page(by.lease, by.subject, [snapshot], [entry], None)
    return snapshot, entry.body


async def test_a_connections_token_reads_its_orders_and_no_others(api, world, erp, token):
    other = await world.connection("other")
    for number in range(3):
        await tell(world, erp, f"p{number}", number=f"00{number}")
    await tell(world, other, "secret")
    seen, after = [], {}
    while after is not None:
        page = (await api.get(f"{PATH}/orders", key=token, params={"limit": 2, **after})).json()
        seen += [each["number"] for each in page["items"]]
        after = page["next"] and {"after": page["next"]}
    assert seen == ["002", "001", "000"]
    whole = (await api.get(f"{PATH}/orders/{order_id(ERP, 'p1')}", key=token)).json()
    assert (whole["remote_id"], whole["order"]["status"], whole["order"]["id"]) == ("p1", "approved", whole["id"])
    for path in ("/v1/connections/con_acme_other/orders", "/v1/connections/con_acme_other/events"):
        assert (await api.get(path, key=token)).status_code == 404
    assert (await api.get(f"{PATH}/orders/{order_id('con_acme_other', 'secret')}", key=token)).status_code == 404


async def test_the_history_of_an_order_is_told_as_it_was(api, world, erp, token):
    before, first = await tell(world, erp, "p1", notes="a")
    _, second = await tell(world, erp, "p1", before, notes="b")
    path = f"{PATH}/orders/{order_id(ERP, 'p1')}/events"
    page = await api.get(path, key=token, params={"limit": 1})
    rest = await api.get(path, key=token, params={"limit": 1, "after": page.json()["next"]})
    assert second in page.content
    assert first in rest.content
    assert rest.json()["next"] is None


async def test_events_are_pulled_byte_for_byte_from_the_oldest_on(api, world, erp, token):
    _, first = await tell(world, erp, "p1")
    _, second = await tell(world, erp, "p2")
    page = await api.get(f"{PATH}/events", key=token, params={"limit": 1})
    assert first in page.content
    assert page.json()["more"] is True
    rest = await api.get(f"{PATH}/events", key=token, params={"after": page.json()["next"]})
    assert second in rest.content
    assert rest.json()["more"] is False
    assert (await api.get(f"{PATH}/events", key=token, params={"after": rest.json()["next"]})).json()["events"] == []
    assert (await api.get(f"{PATH}/events", key=token, params={"after": "canary"})).status_code == 400


async def test_who_waits_is_answered_when_an_event_comes(api, world, erp, token):
    begin = (await api.get(f"{PATH}/events", key=token)).json()["next"]
    asked = asyncio.create_task(api.get(f"{PATH}/events", key=token, params={"after": begin, "wait": "30s"}))
    _, body = await tell(world, erp, "p1")
    assert body in (await asked).content


async def test_who_comes_too_late_is_told_where_to_go_on(api, world, erp, token):
    await tell(world, erp, "p1")
    begin = (await api.get(f"{PATH}/events", key=token)).json()["next"]
    await tell(world, erp, "p2")
    await world.sql("UPDATE outbox SET state = 'relayed', created_at = now() - interval '31 days'")
    await RetentionStore(world.database, timedelta(days=30)).forget()
    _, body = await tell(world, erp, "p3")
    gone = await api.get(f"{PATH}/events", key=token, params={"after": begin})
    assert gone.status_code == 410
    assert body in (await api.get(f"{PATH}/events", key=token, params={"after": gone.json()["oldest"]})).content
