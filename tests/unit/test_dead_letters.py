"""Dead letters: told from what they hold, and sent again as they came, in their order, once."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from relay.control.dead_letters import DeadLetters
from relay.domain.dead_letters import OURS, dead_letter_headers
from relay.domain.errors import Unavailable, UserError
from relay.domain.messages import Incoming, MessageRefused, Reason
from relay.domain.redrives import Letter, Wanted, again, in_order, read_letter, redrive_named
from tests.fakes import START, Broker, run

HOUR = timedelta(hours=1)


def headers_of(offset=1, reason=Reason.UNREADABLE, topic="commands", original=()):
    return dead_letter_headers(original, reason=reason, detail="why", topic=topic, partition=2, offset=offset)


def letter(offset=1, reason=Reason.UNREADABLE, *, topic="commands", value=b"v", original=(), at=START):
    headers = headers_of(offset, reason, topic, original)
    return read_letter(Incoming("dead", 0, 7, b"key", value, headers), at)


@dataclass
class Desk:
    """Letters in memory."""

    found: list
    broker: Broker = field(default_factory=Broker)
    saved: dict = field(default_factory=dict)

    async def letters(self):
        for each in self.found:
            yield each

    async def save(self, redrives):
        self.saved |= {each.id: each for each in redrives}

    async def known(self, ids):
        return {each: self.saved[each] for each in ids if each in self.saved}

    def redrive(self, **how):
        letters = DeadLetters(self, self.broker, self, lambda: START)
        return run(letters.redrive(Wanted(), **{"expires_in": None, **how}))

    def listed(self, wanted=None, most=10):
        return run(DeadLetters(self, self.broker, self).listed(wanted or Wanted(), most))


def test_a_letter_tells_where_it_came_from_and_its_own_headers_are_those_that_came():
    found = letter(5, Reason.WRONG_KEY, original=[("mine", b"\xff"), ("relay-redriven", b"rdv_old"), ("mine", None)])
    came = found.message
    assert (came.topic, came.partition, came.offset, came.key, came.value) == ("commands", 2, 5, b"key", b"v")
    assert came.headers == (("mine", b"\xff"), ("mine", None))
    assert (found.reason, found.detail) == ("wrong_key", "why")


def test_our_headers_are_known_by_their_names():
    assert tuple(name for name, _ in headers_of()) == OURS


def test_what_others_wrote_to_the_topic_is_shown_and_stays():
    found = read_letter(Incoming("dead", 0, 7, None, b"x", ()), START)
    assert (found.reason, found.can_go) == ("?", False)


@pytest.mark.parametrize("stays", [letter(-1), letter(value=None)])
def test_what_never_was_in_a_topic_or_lost_its_bytes_stays(stays):
    told = Desk([stays, letter(3)]).redrive()
    assert (told.redriven, told.stay) == (1, 1)


def test_letters_go_again_in_the_order_in_which_they_came_each_once():
    some = [letter(n, original=[("n", b"%d" % n)], value=b"%d" % n) for n in (12, 3, 100)]
    desk = Desk([*some, some[0]])
    told = desk.redrive()
    assert (told.redriven, told.by_reason, told.dry_run) == (3, {"unreadable": 3}, False)
    assert [dict(each.headers)["n"] for each in desk.broker.taken] == [b"3", b"12", b"100"]
    first = desk.broker.taken[0]
    assert (first.topic, first.key, first.value) == ("commands", b"key", b"3")
    assert redrive_named(first.headers) in desk.saved
    assert [each.message.offset for each in in_order(some)] == [3, 12, 100]


def test_a_dry_run_counts_and_sends_nothing():
    desk = Desk([letter(1), letter(2, Reason.EXPIRED)])
    told = desk.redrive(dry_run=True)
    assert (told.redriven, told.by_reason, told.dry_run) == (2, {"expired": 1, "unreadable": 1}, True)
    assert (desk.broker.taken, desk.saved) == ([], {})


def test_expired_commands_need_a_new_time_and_only_they_get_it():
    desk = Desk([letter(1), letter(2, Reason.EXPIRED)])
    with pytest.raises(UserError, match="1 of these 2 are commands that had expired"):
        desk.redrive()
    assert desk.broker.taken == []
    desk.redrive(expires_in=HOUR)
    assert [each.expires_at for each in desk.saved.values()] == [None, START + HOUR]


def test_what_was_sent_again_stays_unless_it_is_asked_for():
    desk = Desk([letter(1)])
    assert desk.redrive().redriven == 1
    told = desk.redrive()
    assert (told.redriven, told.before, len(desk.broker.taken)) == (0, 1, 1)
    assert desk.redrive(repeat=True).redriven == 1
    assert [each.redriven for each in desk.listed()] == [True]


def test_letters_are_chosen_by_reason_topic_and_time():
    desk = Desk([letter(1, at=START - HOUR), letter(2, Reason.EXPIRED, topic="changes")])

    def chosen(**how):
        return [each.offset for each in desk.listed(Wanted(**how))]

    assert chosen() == [2, 1]
    assert chosen(reasons=frozenset(["expired"])) == [2]
    assert chosen(topic="commands") == [1]
    assert chosen(since=START) == [2]
    assert chosen(until=START) == [1]
    assert [each.offset for each in desk.listed(most=1)] == [2]


def test_a_list_shows_no_bytes_and_whatever_the_key_is():
    lost = replace(letter(), message=replace(letter().message, key=b"\xff", value=None))
    [shown] = Desk([lost]).listed()
    assert (shown.key, shown.bytes, shown.redriven) == ("\ufffd", None, False)
    assert Desk([letter()]).listed()[0].bytes == 1


def test_a_broker_that_is_away_or_refuses_is_told():
    away = Broker(breaks=[(1, Unavailable("no broker"))])
    with pytest.raises(Unavailable, match="1 of 2 are sent"):
        Desk([letter(1), letter(2)], away).redrive()
    refused = Broker(breaks=[(0, MessageRefused(Reason.TOO_LARGE, 0, "too large"))])
    with pytest.raises(UserError, match="too large"):
        Desk([letter(1)], refused).redrive()


def test_the_same_letter_has_the_same_redrive_and_others_have_others():
    names = {letter(1).id, letter(1, at=START + HOUR).id, letter(2).id, letter(1, value=b"w").id}
    assert len(names) == 3
    assert again(Letter(Incoming("t", 0, 1, None, None, ()), "expired", "", START)).key == b""


@pytest.mark.parametrize("headers", [(), (("relay-redriven", None),), (("other", b"x"),)])
def test_most_messages_are_of_no_redrive(headers):
    assert redrive_named(headers) is None
