"""The publish stage: the outbox in order, marked only as far as the broker took it, never stuck."""

from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.cloudevents import read_cloudevent
from relay.domain.commands import CommandType
from relay.domain.dead_letters import origin_of
from relay.domain.errors import LeaseLost, Unavailable
from relay.domain.messages import Incoming, MessageRefused, Reason
from relay.domain.results import Outcome, ResultData
from relay.ports import OutboxEntry, Rejected, expired_letter
from relay.stages.poll import Patience, Poll
from relay.stages.publish import Destinations, Publish
from relay.stages.take import Take
from relay.stages.tell import told as told_result
from tests.fakes import LEASE, START, Broker, Erp, World, clock, connection, endpoint, order, page, run

TOPICS = Destinations("changes", "state", "dead", "results")
AWAY = Unavailable("no broker answers")
PATIENCE = Patience(timedelta(seconds=5), timedelta(minutes=15))


def told(*orders, rejected=()):
    """A world whose outbox tells of these orders."""
    world = World(endpoints=[endpoint()])
    pages = [page(*orders, rejected=rejected)]
    of = connection(synced=True)
    run(Poll(of, LEASE, Erp([pages]), world, Take(of, world, clock, lambda: None), clock, float, PATIENCE).run_once())
    return world


def published(world, broker, times=1):
    stage = Publish(LEASE, world, broker, world, TOPICS)
    return [run(stage.run_once()) for _ in range(times)]


def states(world):
    return [world.states[row.event_id] for row in world.outbox]


def refused(reason=Reason.TOO_LARGE):
    return MessageRefused(reason, 0, "the topic takes no message as large as this one")


def test_the_outbox_goes_to_its_topics_in_order_and_is_marked():
    world, broker = told(order("1"), order("2"), order("1", quantity=5)), Broker()
    assert published(world, broker, times=2) == [3, 0]
    assert broker.ids("changes") == [row.event_id for row in world.outbox]
    assert broker.ids("state") == [row.event_id for row in world.outbox[1:]], (
        "only an order's last event tells its state"
    )
    assert [message.value for message in broker.taken if message.topic == "changes"] == [
        row.body for row in world.outbox
    ]
    assert states(world) == ["published"] * 3
    assert broker.calls == 1


def test_a_message_is_a_cloudevent_with_key_and_sequence():
    world, broker = told(order("1")), Broker()
    published(world, broker)
    [row] = world.outbox
    change, state = (read_cloudevent(each.key, each.value, each.headers) for each in broker.taken)
    body = orjson.loads(row.body)
    assert (change.id, change.type, change.source) == (row.event_id, row.type, "/relay/connections/con_1")
    assert (change.key, change.time, change.data) == (b"con_1|1", row.occurred_at, row.body)
    assert change.subject == body["data"]["order_id"]
    assert change.extensions == {"sequence": "1", "partitionkey": "con_1|1"}
    assert orjson.loads(state.data) == body["data"]["order"]


def test_the_state_of_a_deleted_order_is_a_tombstone():
    broker = Broker()
    published(told(order("1"), order("2"), order("1").deleted()), broker)
    states = {message.key: message.value for message in broker.taken if message.topic == "state"}
    assert states[b"con_1|1"] is None
    assert states[b"con_1|2"] is not None


def test_an_event_that_is_told_again_after_a_later_one_does_not_turn_the_state_back():
    world, broker = told(order("1"), order("1", quantity=2)), Broker()
    published(world, broker)
    first, second = (row.event_id for row in world.outbox)
    world.states[first] = "stale"
    published(world, broker)
    assert broker.ids("changes") == [first, second, first]
    assert broker.ids("state") == [second]


@given(st.integers(0, 6))
def test_only_events_whose_both_messages_are_taken_are_marked(taken):
    world, broker = told(order("1"), order("2"), order("3")), Broker(breaks=[(taken, AWAY)])
    with pytest.raises(Unavailable, match="no broker"):
        published(world, broker)
    assert states(world) == ["published"] * (taken // 2) + ["pending"] * (3 - taken // 2)
    assert published(world, broker, times=2) == [3 - taken // 2, 0]
    assert states(world) == ["published"] * 3


def test_what_did_not_come_back_is_published_again_with_the_same_id():
    world, broker = told(order("1")), Broker()
    published(world, broker)
    world.grow_stale()
    published(world, broker)
    assert broker.ids("changes") == [world.outbox[0].event_id] * 2


def test_a_lost_lease_marks_nothing():
    world = told(order("1"))
    world.lost = True
    with pytest.raises(LeaseLost):
        published(world, Broker())
    assert states(world) == ["pending"]


@pytest.mark.parametrize("topic", ["changes", "state"])
def test_a_refused_message_goes_straight_to_the_endpoints_and_the_outbox_goes_on_behind_it(topic):
    world = told(order("1"), order("2"), order("3"))
    broker = Broker(refuses={(topic, b"con_1|2"): refused()})
    assert published(world, broker, times=3) == [2, 2, 0]
    assert states(world)[:3] == ["published", "relayed", "published"]
    assert [each["event_id"] for each in world.deliveries.values()] == [world.outbox[1].event_id]
    [letter] = [message for message in broker.taken if message.topic == "dead"]
    headers = dict(letter.headers)
    assert (headers["relay-reason"], letter.key) == (b"too_large", b"con_1|2")
    assert orjson.loads(letter.value)["event_id"] == world.outbox[1].event_id


def test_a_refused_message_at_the_front_counts_as_progress():
    world = told(order("1"), order("2"))
    assert published(world, Broker(refuses={("changes", b"con_1|1"): refused()}), times=3) == [1, 2, 0]


def test_a_refused_event_whose_predecessor_is_not_admitted_waits_and_holds_nobody_up():
    world = told(order("1"), order("1", quantity=2), order("3"))
    first, second, _ = (row.event_id for row in world.outbox)
    broker = Broker(breaks=[(1, refused())])
    published(world, broker, times=2)
    assert states(world) == ["published", "published", "published", "relayed"]
    run(world.admit([first]))
    world.grow_stale()
    broker.breaks.append((0, refused()))
    published(world, broker)
    assert world.states[second] == "relayed"
    assert [row.stream for row in world.outbox].count("dead-letters") == 1


def test_a_rejected_record_goes_to_the_dead_letters_with_its_reason():
    world, broker = told(rejected=(Rejected("77", "C7_QUANT", "not a number", b"junk"),)), Broker()
    assert published(world, broker, times=2) == [1, 0]
    [letter] = broker.taken
    headers = dict(letter.headers)
    assert (letter.topic, letter.value, letter.key) == ("dead", b"junk", b"con_1|77")
    assert (headers["relay-reason"], headers["relay-detail"]) == (b"rejected_record", b"C7_QUANT: not a number")
    assert states(world) == ["relayed"]


def test_a_letter_too_large_for_its_topic_is_replaced_by_a_note_once():
    world = told(rejected=(Rejected("77", "C7_QUANT", "not a number", b"x" * 1000),))
    broker = Broker(breaks=[(0, refused())])
    assert published(world, broker, times=2) == [1, 1]
    world.grow_stale()
    assert published(world, broker) == [0]
    [note] = broker.taken
    assert orjson.loads(note.value)["bytes"] == 1000
    assert world.calls["admit"] == 0


def test_a_broker_that_refuses_everything_gets_no_letters_about_letters():
    world = told(order("1"))
    broker = Broker(breaks=[(0, refused(Reason.REFUSED_BY_BROKER))] * 9)
    assert published(world, broker, times=4) == [1, 1, 0, 0]
    assert states(world) == ["relayed", "relayed"]


def outbox_of(*entries):
    world = World(endpoints=[endpoint()])
    run(world.save_page(LEASE, connection(), [], entries, None))
    return world


def result_of_a_command(kind=CommandType.CANCEL, remote_id="4500", number=1, outcome=Outcome.ACCEPTED, **more):
    data = ResultData(
        id="cmd_1",
        command_id="c1",
        type=kind,
        customer_id="acme",
        connection_id="con_1",
        remote_id=remote_id,
        outcome=outcome,
        **more,
    )
    return told_result(data, number, START)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (result_of_a_command(), b"con_1|4500"),
        (result_of_a_command(CommandType.CREATE), b"con_1|c1"),
        (result_of_a_command(CommandType.UPDATE, None), b"con_1|c1"),
        (result_of_a_command(None, None), b"con_1|c1"),
    ],
)
def test_a_result_goes_to_its_topic_under_the_key_of_its_order_or_command(entry, key):
    world, broker = outbox_of(entry), Broker()
    assert published(world, broker) == [1]
    (message,) = broker.taken
    event = read_cloudevent(message.key, message.value, message.headers)
    assert (message.topic, message.key, message.value) == ("results", key, entry.body)
    assert (event.id, event.type, event.subject) == (entry.event_id, "purchase_order.command_accepted", "cmd_1")
    assert event.extensions == {"sequence": "1", "partitionkey": key.decode(), "commandid": "c1"}
    assert states(world) == ["published"]


def test_a_result_is_about_its_order_when_that_is_known():
    broker = Broker()
    published(outbox_of(result_of_a_command(order_id="po_1")), broker)
    assert dict(broker.taken[0].headers)["ce_subject"] == b"po_1"


def test_a_result_that_the_broker_never_takes_reaches_endpoints_all_the_same():
    world, broker = outbox_of(result_of_a_command()), Broker(breaks=[(0, refused())])
    assert published(world, broker, times=2) == [1, 1]
    assert len(world.deliveries) == 1
    assert states(world) == ["relayed", "relayed"]


def test_a_dead_letter_of_a_message_is_that_message_byte_for_byte():
    came = Incoming("commands", 2, 17, b"\xffkey", b"\xff\x00", (("mine", b"\xfe"), ("mine", None)))
    letter = expired_letter("cmd_1", came.value, origin_of(came), START)
    broker = Broker()
    world = outbox_of(letter)
    published(world, broker)
    (message,) = broker.taken
    assert (message.topic, message.key, message.value, message.headers[:2]) == (
        "dead",
        came.key,
        came.value,
        came.headers,
    )
    headers = dict(message.headers)
    assert (headers["relay-reason"], headers["relay-original-topic"]) == (b"expired", b"commands")
    assert (headers["relay-original-partition"], headers["relay-original-offset"]) == (b"2", b"17")
    assert states(world) == ["relayed"]


def notice(number):
    """A connection's notice in the outbox, where it is of no order."""
    return OutboxEntry(f"ntc_{number}", "notices", "", number, "connection.needs_reconnect", START, b"{}")


def test_endpoints_hear_of_their_connection_though_no_broker_is_there():
    world, broker = outbox_of(notice(1), notice(2)), Broker(breaks=[(0, AWAY)])
    assert published(world, broker, times=2) == [2, 0]
    assert [each["event_id"] for each in world.deliveries.values()] == ["ntc_1", "ntc_2"]
    assert (states(world), broker.taken) == (["relayed"] * 2, [])


def test_a_notice_between_changes_leaves_them_as_they_are():
    world, broker = told(order("1")), Broker()
    run(world.save_page(LEASE, connection(), [], [notice(1)], None))
    assert published(world, broker, times=2) == [2, 0]
    assert states(world) == ["published", "relayed"]
    assert len(broker.taken) == 2
