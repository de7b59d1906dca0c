"""Sentences about where something stands: each says what is, why, and what is next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.control import telling
from relay.control.explain import explained
from relay.store.explain import ConnectionFacts, DeliveryFacts, EndpointFacts, EventFacts, OrderFacts, SnapshotFacts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def before(**span):
    return NOW - timedelta(**span)


CONNECTION = ConnectionFacts(
    id="con_1",
    customer_id="acme",
    name="erp",
    connector="protheus",
    state="active",
    problem=None,
    failures=0,
    poll_every=timedelta(minutes=5),
    due_at=NOW + timedelta(minutes=3),
    polled_at=before(minutes=2),
    synced_at=before(days=3),
    reconcile_due_at=NOW,
    held=True,
    now=NOW,
)
SNAPSHOT = SnapshotFacts({"number": "4711", "status": "approved"}, "h", 3, False, 0, before(days=9), before(hours=3))
EVENT = EventFacts(
    position=7,
    event_id="evt_1",
    stream="changes",
    state="relayed",
    sequence=3,
    type="purchase_order.approved",
    occurred_at=NOW,
    problem=None,
    published_at=before(minutes=3),
    publishes=1,
    created_at=before(minutes=4),
)
ENDPOINT = EndpointFacts(
    id="end_1",
    customer_id="acme",
    name="hook",
    state="active",
    problem=None,
    event_types=[],
    connections=[],
    options={},
    url="https://x.example",
    proof="",
    failing_since=None,
    suspended_at=None,
    created_at=before(days=1),
    held=True,
)
DELIVERY = DeliveryFacts("dlv_1", "end_1", 7, "waiting", NOW, 0, None, None, None, None)


def order(*, event=EVENT, endpoints=(ENDPOINT,), deliveries=(), snapshot=SNAPSHOT, connection=CONNECTION, admitted=3):
    return OrderFacts(
        remote_id="01|4711",
        connection=connection,
        snapshot=snapshot,
        admitted=admitted,
        events=(event,) if event else (),
        endpoints=endpoints,
        deliveries={(each.endpoint_id, each.position): each for each in deliveries},
        heads={each.endpoint_id: each for each in deliveries if each.state == "waiting"},
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 d")],
)
def test_spans_are_told_in_the_unit_that_people_would_use(seconds, told):
    assert telling.span(seconds) == told


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "acme/erp is read every 5 min: last read 2 min ago, next poll in 3 min."),
        ({"problem": "a full pass misses too many."}, "next poll in 3 min. Problem: a full pass misses too many."),
        ({"due_at": NOW}, "next poll now."),
        ({"polled_at": None}, "it was never read well yet, next poll in 3 min."),
        ({"held": False}, "acme/erp should be read every 5 min, but no worker works on it: is `relay worker` running?"),
        ({"failures": 1, "problem": "no route"}, "acme/erp: 1 poll in a row failed: no route; last read 2 min ago"),
        ({"failures": 4}, "acme/erp: 4 polls in a row failed: unknown;"),
        ({"state": "needs_reconnect"}, "Nothing is read from acme/erp: the ERP refused the login."),
    ],
)
def test_a_connection_tells_how_it_is_read(changed, says):
    assert says in telling.connection(replace(CONNECTION, **changed)).sentence


@pytest.mark.parametrize(
    ("changed", "state", "says"),
    [
        ({}, "known", "Status approved, sequence 3, changed 3 h ago, seen first 9 d ago."),
        ({"deleted": True}, "deleted", "Deleted in the ERP: sequence 3, changed 3 h ago, seen first 9 d ago."),
        ({"missing_passes": 1}, "missing", "missing in the last 1 full pass: it is told as deleted if it stays away."),
        ({"missing_passes": 2}, "missing", "missing in the last 2 full passes"),
    ],
)
def test_a_snapshot_tells_what_is_known(changed, state, says):
    told = telling.snapshot(replace(SNAPSHOT, **changed), NOW)
    assert told.state == state
    assert says in told.sentence


@pytest.mark.parametrize(
    ("changed", "admitted", "says"),
    [
        ({"state": "pending", "published_at": None}, 2, "Stored 4 min ago, not yet published: a worker publishes it"),
        ({"state": "published", "publishes": 1}, 2, "Published 3 min ago; not back from Kafka yet"),
        ({"state": "published", "publishes": 3}, 2, "Published 3 times, last 3 min ago; not back from Kafka yet"),
        ({"state": "published", "publishes": 2}, 1, "Published twice, last 3 min ago; it waits for sequence 2, which"),
        ({"problem": "too large."}, 3, "and back from Kafka. The broker refused it: too large."),
        (
            {"stream": "dead-letters", "state": "pending", "problem": "no id"},
            3,
            "no id; about to be told as a dead letter",
        ),
    ],
)
def test_an_event_tells_how_far_it_is(changed, admitted, says):
    event = replace(EVENT, **changed)
    assert says in telling.event(event, order(event=event, admitted=admitted)).sentence


def test_an_event_that_nobody_publishes_asks_for_a_worker():
    event = replace(EVENT, state="pending", published_at=None)
    facts = order(event=event, connection=replace(CONNECTION, held=False))
    assert telling.event(event, facts).sentence.endswith("is `relay worker` running.")


@pytest.mark.parametrize(
    ("changed", "state", "says"),
    [
        (
            {"state": "delivered", "attempts": 2, "last_status": 204, "done_at": NOW},
            "delivered",
            "delivered just now on",
        ),
        (
            {"state": "dead", "attempts": 1, "last_error": "tls"},
            "dead",
            "given up after 1 attempt (tls): `relay deliveries",
        ),
        ({"state": "superseded"}, "superseded", "left out: a newer event of this order went instead"),
        ({"replay_id": "rpl_1"}, "waiting", "sent again by a replay: was not tried yet; next attempt now"),
        ({"attempts": 2, "last_status": 500}, "waiting", "was refused twice (500); next attempt now"),
    ],
)
def test_a_delivery_tells_where_it_stands(changed, state, says):
    told = telling.delivery(EVENT, ENDPOINT, order(deliveries=[replace(DELIVERY, **changed)]))
    assert (told.state, told.sentence[: len(says)]) == (state, says)


def test_a_delivery_that_is_long_due_is_said_to_be_held_back():
    told = telling.delivery(EVENT, ENDPOINT, order(deliveries=[replace(DELIVERY, due_at=before(minutes=5))]))
    assert told.sentence.startswith("was not tried yet; due for 5 min: held back by the endpoint's limits")


def test_a_waiting_delivery_without_a_head_is_no_reason_to_fail():
    found = order(deliveries=[replace(DELIVERY, due_at=None)])
    assert "next attempt unknown" in telling.delivery(EVENT, ENDPOINT, replace(found, heads={})).sentence


def test_a_problem_of_the_endpoint_is_given_with_the_next_attempt():
    told = telling.delivery(EVENT, replace(ENDPOINT, problem="its circuit is open."), order(deliveries=[DELIVERY]))
    assert told.sentence == "was not tried yet; next attempt now (its circuit is open)"


def test_the_summary_counts_the_endpoints_that_want_the_last_event():
    other = replace(ENDPOINT, id="end_2", name="other")
    done = replace(DELIVERY, state="delivered", attempts=1, last_status=200)
    two = replace(done, endpoint_id="end_2")
    name = "Its last event, sequence 3 (approved),"
    assert explained(order(deliveries=[done])).says == f"{name} was delivered to hook."
    both = explained(order(endpoints=(ENDPOINT, other), deliveries=[done, two]))
    assert both.says == f"{name} was delivered to all 2 endpoints that want it."
    half = explained(order(endpoints=(ENDPOINT, other), deliveries=[done, replace(two, state="waiting")]))
    assert half.says == f"{name} is with 1 of 2 endpoints; other: was refused once (200); next attempt now."
    assert explained(order(event=None)).says.startswith("No event of it is stored any more")
    early = replace(EVENT, state="published")
    assert explained(order(event=early, admitted=2)).says.startswith(f"{name} is not yet with any endpoint. Published")


def test_an_order_without_a_snapshot_has_no_number():
    found = explained(order(snapshot=None))
    assert (found.number, found.snapshot.sequence) == (None, None)
