"""Where is my order: told from a real PostgreSQL, from the ERP's poll to each receiver's answer."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from relay.control.explain import Explaining
from relay.domain.connections import ConnectionState, Polled
from relay.domain.deliveries import Answer, Outcome
from relay.domain.endpoints import EndpointOptions, EndpointState
from relay.domain.errors import NotFound, UserError
from relay.domain.orders import PurchaseOrder, order_id
from relay.store.explain import ExplainStore
from tests.fixtures.store import attempt, observed

pytestmark = pytest.mark.usefixtures("world")

REFUSED = Answer(status=503)


@pytest.fixture
def explain(world):
    return Explaining(world.registry, ExplainStore(world.database)).order


async def polled(world, erp, remote_id="01|4711", number="4711"):
    """A good poll that found this order."""
    snapshot, entry = observed(erp.subject, PurchaseOrder(remote_id=remote_id, number=number, status="approved"))
    await world.orders.save_page(erp.lease, erp.subject, [snapshot], [entry], None)
    soon = datetime.now(UTC) + timedelta(seconds=50)
    await world.orders.save_polled(erp.lease, Polled(ConnectionState.ACTIVE, soon))
    return entry


async def published(world, erp):
    rows = await world.outbox.to_publish(erp.lease, 100)
    await world.outbox.save_published(erp.lease, [row.position for row in rows])
    return [row.event_id for row in rows]


def by_endpoint(event):
    return {each.endpoint: each for each in event.deliveries}


async def test_an_order_is_found_by_remote_id_number_relays_own_id_and_event(world, explain):
    erp = await world.connection()
    entry = await polled(world, erp)
    await polled(world, erp, "01|0815", "0815")
    for name in ("01|4711", "4711", order_id(erp.lease.subject, "01|4711"), entry.event_id):
        found = await explain(name)
        assert (found.order, found.number, found.connection.name) == ("01|4711", "4711", "erp")


async def test_an_order_is_found_by_the_number_that_it_has_now_however_long(world, explain):
    erp, long = await world.connection(), "n" * 20_000
    await polled(world, erp, number=long)
    assert (await explain(long)).order == "01|4711"
    await polled(world, erp, number="4712")
    assert (await explain("4712")).order == "01|4711"
    with pytest.raises(NotFound):
        await explain(long)


async def test_a_change_that_a_command_asked_for_names_it(world, explain):
    erp = await world.connection()
    entry = await polled(world, erp)
    assert (await explain("4711")).events[0].caused_by == ()
    body = orjson.loads(entry.body)
    body["data"]["caused_by"] = ["c-1"]
    async with world.database.session() as connection:
        await connection.execute("UPDATE outbox SET body = $1", orjson.dumps(body))
    assert (await explain("4711")).events[0].caused_by == ("c-1",)


@pytest.mark.parametrize("name", ["471", "po_471", "4711\x00", "\ud800"])
async def test_an_order_that_was_never_read_is_said_to_be_so(world, explain, name):
    await polled(world, await world.connection())
    with pytest.raises(NotFound, match="relay has not read an order"):
        await explain(name)


async def test_orders_of_one_name_are_asked_back_and_told_apart_by_connection(world, explain):
    one, two = await world.connection("one"), await world.connection("two", "umbrella")
    await polled(world, one)
    await polled(world, two)
    with pytest.raises(UserError, match=r"say which: '01\|4711' --connection acme/one, .* umbrella/two"):
        await explain("4711")
    assert (await explain("4711", "umbrella/two")).connection.name == "two"
    with pytest.raises(NotFound, match="there is no connection 'three'"):
        await explain("4711", "three")


async def test_the_whole_way_is_told_step_by_step(world, explain):
    erp, hook = await world.connection(), await world.endpoint()
    await polled(world, erp)
    found = await explain("4711")
    assert found.connection.says == "acme/erp is read every 60 s: last read just now, next poll in 49 s."
    assert found.snapshot.sequence == 1
    assert (
        found.events[0].says
        == "Stored just now, not yet published: a worker publishes it as soon as the broker takes it."
    )
    assert found.events[0].deliveries[0].says == "not yet: the event is on its way through Kafka"

    told = await published(world, erp)
    (event,) = (await explain("4711")).events
    assert (event.state, event.publishes) == ("published", 1)
    assert event.says == "Published just now; not back from Kafka yet, else it is published again."

    await world.admissions.admit(told)
    found = await explain("4711")
    assert found.events[0].says == "Published just now, and back from Kafka."
    assert found.events[0].deliveries[0].says == "was not tried yet; next attempt now"

    await world.record(hook.lease, [attempt(*await world.heads(hook))])
    found = await explain("4711")
    assert found.events[0].deliveries[0].says == "delivered just now on attempt 1 (200)"
    assert found.says == "Its last event, sequence 1 (created), was delivered to hook."


async def test_an_event_behind_a_refused_one_names_what_it_waits_for(world, explain):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit([*await world.tell(erp, "p1"), *await world.tell(erp, "p1")])
    later = datetime.now(UTC) + timedelta(minutes=5, seconds=30)
    (head,) = await world.heads(hook)
    await world.record(hook.lease, [attempt(head, Outcome.RETRY, due_at=later, answer=REFUSED)])
    second, first = (await explain("p1")).events
    assert first.deliveries[0].says == "was refused once (503); next attempt in 5 min"
    assert second.deliveries[0].state == "blocked"
    assert second.deliveries[0].next_at == later
    assert (
        second.deliveries[0].says
        == "waits behind sequence 1 of this order, which was refused once (503); next attempt in 5 min"
    )


async def test_why_an_endpoint_did_not_get_an_event_is_said(world, explain):
    erp = await world.connection()
    await world.endpoint("types", event_types=("purchase_order.approved",))
    await world.endpoint("others", connections=("con_other",))
    await world.endpoint("picky", options=EndpointOptions(where="false"))
    await world.endpoint("gone")
    told = await world.tell(erp, "p1")
    await world.admissions.admit(told)
    await world.sql("DELETE FROM deliveries WHERE endpoint_id = ANY($1)", ["end_acme_gone", "end_acme_picky"])
    await world.endpoint("late")
    says = {name: each.says for name, each in by_endpoint((await explain("p1")).events[0]).items()}
    assert says == {
        "types": "not wanted: it takes only purchase_order.approved",
        "others": "not wanted: it takes only other connections",
        "picky": "not wanted: its condition does not hold: false",
        "gone": "not wanted when the event came: the endpoint's filters have changed since",
        "late": "not sent: the endpoint was added later; `relay replay start` sends older events",
    }
    assert (await explain("p1")).says.endswith("is wanted by no endpoint.")


async def test_a_connection_that_is_paused_or_refused_says_what_to_do(world, explain):
    erp = await world.connection()
    await polled(world, erp)
    await world.registry.set_connection(erp.lease.subject, ConnectionState.PAUSED)
    assert "`relay connections resume acme/erp` goes on" in (await explain("4711")).connection.says
    await world.sql("UPDATE connections SET state = 'needs_reconnect', problem = 'HTTP 401.'")
    assert (await explain("4711")).connection.says == (
        "Nothing is read from acme/erp: HTTP 401. `relay connections reconnect acme/erp` with good credentials goes on."
    )


async def test_an_endpoint_that_is_disabled_suspended_unverified_or_without_a_worker_is_named_as_the_reason(
    world, explain
):
    erp, hook = await world.connection(), await world.endpoint()
    await world.admissions.admit(await world.tell(erp, "p1"))

    async def says():
        return (await explain("p1")).events[0].deliveries[0].says

    await world.deliveries.disable(hook.lease, hook.subject.url, "it answered 410")
    assert await says() == (
        "was not tried yet; the endpoint is disabled (it answered 410): `relay endpoints enable acme/hook`"
    )
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.SUSPENDED)
    await world.sql("UPDATE endpoints SET failing_since = now() - interval '3 days 1 minute'")
    assert await says() == "was not tried yet; the endpoint fails since 3 d and is only probed now and then"
    await world.registry.set_endpoint(hook.lease.subject, EndpointState.ACTIVE)
    await world.sql('UPDATE endpoints SET options = \'{"verification": "challenge"}\'')
    assert await says() == (
        "was not tried yet; the endpoint has not yet proved that it wants webhooks, and is asked again: "
        "`relay endpoints show acme/hook` says what is wrong"
    )
    await world.sql("UPDATE endpoints SET options = '{}'")
    await world.expire("endpoints", hook.lease.subject)
    assert await says() == "was not tried yet; no worker works on it: is `relay worker` running?"


async def test_a_record_that_could_not_be_read_is_told(world, explain):
    erp = await world.connection()
    await world.sql(
        "INSERT INTO outbox (event_id, stream, state, customer_id, connection_id, remote_id, sequence, type,"
        " occurred_at, body, problem) VALUES ('evt_x', 'dead-letters', 'relayed', 'acme', $1, 'p9', 0, 'record',"
        " now(), '', 'total: not a number')",
        erp.lease.subject,
    )
    found = await explain("p9")
    assert found.snapshot.state == "unknown"
    assert found.says == (
        "Its last record could not be read."
        " The ERP's record could not be used: total: not a number; told as a dead letter."
    )
    assert found.events[0].deliveries == ()


async def test_an_order_whose_connection_goes_while_it_is_explained_is_not_found(world):
    assert await ExplainStore(world.database).facts("con_gone", "p1") is None
