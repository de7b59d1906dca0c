"""The admit stage: events become deliveries, junk becomes dead letters, and nothing is lost in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.cloudevents import cloudevent_headers
from relay.domain.errors import Unavailable
from relay.domain.messages import Incoming, MessageRefused, Reason
from relay.ports import OutboxEntry
from relay.stages.admit import Admit
from relay.stages.letters import Letters
from tests.fakes import LEASE, START, Broker, World, connection, endpoint, run

TYPE = "purchase_order.created"


def world_of(*names):
    """A world that has told these events, each of its own order."""
    world = World(endpoints=[endpoint()])
    entries = [OutboxEntry(name, "changes", name, 1, TYPE, START, b"{}") for name in names]
    run(world.save_page(LEASE, connection(), [], entries, None))
    return world


def message(name, kind=TYPE, offset=0, value=b"{}"):
    headers = cloudevent_headers(id=name, source="/relay", type=kind, time=START)
    return Incoming("changes", 3, offset, b"key", value, headers)


def admit(world, broker, *batch):
    return run(Admit(world, Letters(broker, "dead")).run_once(batch))


def reasons(broker):
    return [dict(each.headers)["relay-reason"].decode() for each in broker.taken]


def test_events_become_deliveries():
    world, broker = world_of("a", "b"), Broker()
    assert admit(world, broker, message("a"), message("b")) == 2
    assert [each["event_id"] for each in world.deliveries.values()] == ["a", "b"]
    assert (broker.taken, broker.calls) == ([], 0)


def test_an_event_that_comes_twice_is_one_delivery():
    world = world_of("a")
    assert admit(world, Broker(), message("a"), message("a")) == 1
    assert admit(world, Broker(), message("a")) == 0
    assert len(world.deliveries) == 1


def test_an_empty_batch_is_nothing():
    assert admit(world_of(), Broker()) == 0


def test_junk_is_a_dead_letter_with_everything_that_came():
    world, broker = world_of("a"), Broker()
    junk = Incoming("changes", 3, 17, b"\xffkey", b"\xff\x00junk", (("mine", b"\xfe"), ("mine", None)))
    assert admit(world, broker, junk, message("a")) == 1
    [letter] = broker.taken
    assert (letter.topic, letter.key, letter.value) == ("dead", b"\xffkey", b"\xff\x00junk")
    assert letter.headers[:2] == (("mine", b"\xfe"), ("mine", None))
    headers = dict(letter.headers)
    assert headers["relay-reason"] == b"not_a_cloudevent"
    origin = [headers[f"relay-original-{name}"] for name in ("topic", "partition", "offset")]
    assert origin == [b"changes", b"3", b"17"]


def test_results_of_commands_become_deliveries_in_a_lane_of_their_command():
    world = World(endpoints=[endpoint()])
    kinds = ("purchase_order.command_accepted", "purchase_order.command_applied")
    entries = [
        OutboxEntry(f"res_{n}", "command-results", "cmd_1", n, kind, START, b"{}") for n, kind in enumerate(kinds, 1)
    ]
    run(world.save_page(LEASE, connection(), [], entries, None))
    batch = [message(f"res_{n}", kind=kind) for n, kind in enumerate(kinds, 1)]
    assert admit(world, Broker(), *batch) == 2
    assert {each["lane"] for each in world.deliveries.values()} == {"con_1|cmd_1"}


def test_unknown_types_and_events_are_dead_letters():
    broker = Broker()
    admit(world_of("a"), broker, message("a", kind="purchase_order.exploded"), message("stranger"))
    assert reasons(broker) == ["unknown_type", "unknown_event"]


def test_two_messages_of_one_unknown_event_are_two_letters():
    broker = Broker()
    admit(world_of(), broker, message("x", value=b"1"), message("x", value=b"2"))
    assert [letter.value for letter in broker.taken] == [b"1", b"2"]


def test_a_message_without_a_key_keeps_none():
    broker = Broker()
    admit(world_of(), broker, Incoming("changes", 0, 1, None, None, ()))
    assert (broker.taken[0].key, broker.taken[0].value) == (b"", None)


def test_a_store_that_is_away_makes_the_batch_come_again():
    world, broker = world_of("a"), Broker()
    world.away = True
    with pytest.raises(Unavailable):
        admit(world, broker, message("a"), message("stranger"))
    world.away = False
    admit(world, broker, message("a"), message("stranger"))
    assert (len(world.deliveries), reasons(broker)) == (1, ["unknown_event"])


def test_a_broker_that_is_away_makes_the_batch_come_again():
    broker = Broker(breaks=[(1, Unavailable("no broker answers"))])
    with pytest.raises(Unavailable, match="no broker answers"):
        admit(world_of("a"), broker, message("a"), message("x"), message("y"))


def test_junk_too_large_for_a_letter_with_our_headers_leaves_a_letter_without_its_bytes():
    broker = Broker(breaks=[(1, MessageRefused(Reason.TOO_LARGE, 1, "too large"))])
    admit(world_of(), broker, message("x"), message("y", value=b"z" * 9, offset=5), message("z"))
    assert [letter.value for letter in broker.taken] == [b"{}", None, b"{}"]
    assert dict(broker.taken[1].headers)["relay-original-offset"] == b"5"


def test_a_letter_that_the_broker_never_takes_does_not_stop_the_topic():
    refused = MessageRefused(Reason.REFUSED_BY_BROKER, 0, "never")
    broker = Broker(breaks=[(0, refused), (0, refused)])
    admit(world_of(), broker, message("x"), message("y"))
    assert len(broker.taken) == 1


bytes_or_none = st.none() | st.binary(max_size=30)
headers = st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "content-type", "x"]), bytes_or_none), max_size=6)


@given(st.lists(st.builds(Incoming, st.just("t"), st.just(0), st.integers(), bytes_or_none, bytes_or_none, headers)))
def test_whatever_comes_is_admitted_or_buried(batch):
    broker = Broker()
    assert admit(world_of(), broker, *batch) == 0
    assert sorted(str(each.value) for each in broker.taken) == sorted(str(each.value) for each in batch)
