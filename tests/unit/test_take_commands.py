"""Commands are taken once each: told as accepted, over at once, or a dead letter as they came."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from relay.domain.commands import command_key
from relay.domain.connections import ConnectionState
from relay.domain.dead_letters import original
from relay.domain.ed25519_keys import new_private_key, parse_private_key
from relay.domain.errors import AlreadyThere, NotFound, Unavailable
from relay.domain.messages import Incoming, Reason
from relay.domain.redrives import Letter, again, redrives
from relay.domain.signing import sign
from relay.ports import Kept, Overdue, Standing
from relay.stages.admit_command import CommandAdmission, InvalidCommand, Limits
from relay.stages.expire import MOST, Expire
from relay.stages.letters import Letters
from relay.stages.take_commands import TakeCommands
from tests.fakes import START, Broker, clock, run, until

LIMITS = Limits(10_000, timedelta(days=1))
PRIVATE = parse_private_key(new_private_key(b"s" * 32))
PUBLIC = PRIVATE.public.text()
CANCEL = {"type": "cancel", "command_id": "c1", "connection_id": "con_1", "remote_id": "p1"}


@dataclass
class Box:
    """An Intake in memory."""

    standing: dict = field(default_factory=lambda: {"con_1": Standing("acme", ConnectionState.ACTIVE)})
    rows: dict = field(default_factory=dict)
    late: list = field(default_factory=list)
    redriven: dict = field(default_factory=dict)
    gone: bool = False
    away: bool = False

    async def standings(self, connection_ids):
        if self.away:
            raise Unavailable("no database")
        return {each: self.standing[each] for each in connection_ids if each in self.standing}

    async def redrives(self, ids):
        return {each: self.redriven[each] for each in ids if each in self.redriven}

    async def keep(self, commands):
        if self.gone:
            return {}
        new = {each.id: each for each in commands if each.id not in self.rows}
        self.rows |= new
        return {each.id: Kept(each.id in new, self.rows[each.id].digest) for each in commands}

    async def overdue(self, most):
        return self.late[:most]

    async def save_overdue(self, expired):
        self.late = [each for each in self.late if each not in [one for one, _ in expired]]
        self.told = [entry for _, entries in expired for entry in entries]
        return len(expired)


@dataclass
class Line:
    """The stage with all that it stands on."""

    box: Box = field(default_factory=Box)
    broker: Broker = field(default_factory=Broker)
    signed: bool = False

    def take(self, *batch):
        stage = TakeCommands(self.box, Letters(self.broker, "dead"), LIMITS, clock, signed=self.signed)
        return run(stage.run_once(batch))

    def admit(self, tree, **how):
        body = tree if isinstance(tree, bytes) else orjson.dumps(tree)
        return run(CommandAdmission(self.box, LIMITS, clock).admit_one(body, "key_1", **how))

    def results(self):
        return [orjson.loads(entry.body) for each in self.box.rows.values() for entry in each.entries[:1]]

    def reasons(self):
        return [dict(each.headers)["relay-reason"].decode() for each in self.broker.taken]


def message(changed=None, *, key=None, headers=(), offset=0):
    value = changed if isinstance(changed, bytes) else orjson.dumps(CANCEL | (changed or {}))
    return Incoming("commands", 2, offset, key, value, tuple(headers))


def signed(changed=None, *, at=0, by=PRIVATE, name="c1"):
    made = message(changed)
    seconds = int(START.timestamp()) + at
    headers = {
        "mine": "x",
        "webhook-id": name,
        "Webhook-Timestamp": str(seconds),
        "webhook-signature": sign([by], name, seconds, made.value),
    }
    return message(changed, headers=[(header, value.encode()) for header, value in headers.items()])


def test_a_command_is_kept_as_it_came_and_told_as_accepted():
    line, came = Line(), message(headers=[("mine", b"\xff")], key=b"con_1|p1", offset=5)
    with capture_logs() as logs:
        assert line.take(came) == 1
    (kept,) = line.box.rows.values()
    assert (kept.source, kept.caller, kept.lane, kept.remote_id) == ("topic", "kafka", "p1", "p1")
    assert original(kept.origin, kept.raw) == came
    (entry,) = kept.entries
    assert (entry.stream, entry.remote_id, entry.sequence) == ("command-results", command_key("con_1", "c1"), 1)
    (told,) = line.results()
    assert (told["type"], told["data"]["command_id"]) == ("purchase_order.command_accepted", "c1")
    assert (told["data"]["customer_id"], told["data"]["type"]) == ("acme", "cancel")
    assert logs[-1] == {
        "event": "commands.taken",
        "log_level": "info",
        "accepted": 1,
        "rejected": 0,
        "expired": 0,
        "repeated": 0,
        "dead": 0,
    }


def test_what_is_kept_says_only_what_was_given():
    line = Line()
    line.take(message({"type": "create", "order": {"notes": None}, "lines": [{"quantity": "1.50"}], "remote_id": None}))
    line.take(message({"command_id": "c2", "type": "update", "order": {"notes": None}}))
    bodies = [orjson.loads(each.body) for each in line.box.rows.values()]
    assert bodies[-1]["order"] == {"notes": None}


def test_the_same_command_again_changes_nothing():
    line = Line()
    assert line.take(message(), message()) == 1
    with capture_logs() as logs:
        assert line.take(message()) == 0
    assert (len(line.box.rows), line.broker.taken) == (1, [])
    assert logs[-1]["repeated"] == 1


def test_another_command_under_the_same_id_is_a_dead_letter():
    line = Line()
    assert line.take(message(), message({"reason": "other"}, offset=1)) == 1
    line.take(message({"remote_id": "p2"}, offset=2))
    assert line.reasons() == ["reused_id", "reused_id"]
    assert [each.value for each in line.broker.taken] == [
        message({"reason": "other"}).value,
        message({"remote_id": "p2"}).value,
    ]


def test_junk_of_every_kind_is_a_dead_letter_byte_for_byte_in_its_order():
    line = Line()
    batch = [
        message(b"\xff\x00"),
        message({"connection_id": "con_none"}, key=b"k"),
        message({"command_id": ""}),
        message({}, key=b"wrong", headers=[("a", None)]),
        message(b" " * 10_001),
        message({}, headers=[("ce_id", b"1")]),
    ]
    line.take(batch[0], message(), *batch[1:])
    assert line.reasons() == [
        "unreadable",
        "unknown_connection",
        "no_command_id",
        "wrong_key",
        "too_large",
        "not_a_cloudevent",
    ]
    assert [(each.topic, each.key, each.value) for each in line.broker.taken] == [
        ("dead", each.key or b"", each.value) for each in batch
    ]
    assert line.broker.taken[3].headers[0] == ("a", None)
    assert len(line.box.rows) == 1


def test_invalid_content_is_told_with_its_field_and_waits_for_nobody():
    line = Line()
    line.take(message({"type": "create"}))
    (kept,) = line.box.rows.values()
    (told,) = line.results()
    assert (kept.outcome, kept.type, kept.lane) == ("rejected", "create", kept.id)
    assert told["data"]["refusals"][0]["reason"] == "validation"
    assert orjson.loads(kept.body)["remote_id"] == "p1"


def test_a_late_command_is_told_and_a_dead_letter_of_the_same_transaction():
    line, came = Line(), message({"expires_at": "2020-01-01T00:00:00Z"}, key=b"con_1|c1", offset=9)
    line.take(came)
    (kept,) = line.box.rows.values()
    result, letter = kept.entries
    assert (kept.outcome, result.type) == ("expired", "purchase_order.command_expired")
    assert (letter.stream, letter.type, original(letter.origin, letter.body)) == ("dead-letters", "expired", came)
    assert line.broker.taken == []


def test_a_connection_that_was_removed_meanwhile_is_unknown():
    line = Line(Box(gone=True))
    assert line.take(message()) == 0
    assert line.reasons() == ["unknown_connection"]


def test_a_store_that_is_away_makes_the_batch_come_again():
    line = Line(Box(away=True))
    with pytest.raises(Unavailable):
        line.take(message(), message(b"junk"))
    assert line.broker.taken == []


def test_a_broker_that_is_away_makes_the_batch_come_again():
    line = Line(broker=Broker(breaks=[(0, Unavailable("no broker"))]))
    with pytest.raises(Unavailable, match="dead letters"):
        line.take(message(), message(b"junk"))
    assert line.take(message(), message(b"junk")) == 0
    assert (len(line.box.rows), line.reasons()) == (1, ["unreadable"])


# Signed


def with_key(key=PUBLIC):
    return Line(Box({"con_1": Standing("acme", ConnectionState.ACTIVE, key)}), signed=True)


def test_a_signed_command_is_taken_in_the_name_of_its_key():
    line = with_key()
    assert line.take(signed()) == 1
    assert [each.caller for each in line.box.rows.values()] == [PUBLIC]


@pytest.mark.parametrize(
    "came",
    [
        message(),
        signed(at=-301),
        signed(at=301),
        signed(name="c2"),
        signed(by=parse_private_key(new_private_key(b"o" * 32))),
        message(headers=[*signed().headers, ("webhook-id", b"c1")]),
        message({"reason": "other"}, headers=signed().headers),
        message(headers=[(name, None) for name, _ in signed().headers]),
        message(headers=[(name, b"\xff") for name, _ in signed().headers]),
    ],
)
def test_what_is_not_signed_by_the_key_is_unauthorised(came):
    line = with_key()
    assert line.take(came) == 0
    assert line.reasons() == ["unauthorised"]
    assert line.broker.taken[0].value == came.value


def test_a_connection_without_a_key_takes_nothing_where_signatures_are_required():
    line = with_key(None)
    line.take(signed())
    assert line.reasons() == ["unauthorised"]
    assert b"no command key" in dict(line.broker.taken[0].headers)["relay-detail"]


def test_where_signatures_are_not_required_they_are_not_looked_at():
    assert Line().take(signed(at=-9999)) == 1


# Sent again


def sent_again(came, reason, expires_in=None):
    """(what is written down, the message as it goes to its topic again)"""
    letter = Letter(came, reason, "", START)
    [redrive] = redrives([letter], expires_in and START + expires_in)
    message = again(letter)
    return {redrive.id: redrive}, Incoming(message.topic, 2, 99, message.key, message.value, message.headers)


def test_a_signed_command_that_is_sent_again_may_be_old():
    line = with_key()
    line.box.redriven, message = sent_again(signed(at=-9999), Reason.UNAUTHORISED)
    assert line.take(message) == 1
    assert [each.command_id for each in line.box.rows.values()] == ["c1"]


def test_an_expired_command_that_is_sent_again_is_a_new_one_with_its_new_time_once():
    line, late = Line(), message({"expires_at": "2020-01-01T00:00:00Z"}, key=b"con_1|p1")
    line.take(late)
    line.box.redriven, twice = sent_again(late, Reason.EXPIRED, timedelta(hours=1))
    assert line.take(twice, twice) == 1
    assert line.take(twice) == 0
    first, second = line.box.rows.values()
    [name] = line.box.redriven
    assert (first.command_id, first.outcome) == ("c1", "expired")
    assert (second.command_id, second.outcome) == (f"c1~{name[4:12]}", "accepted")
    assert second.expires_at == START + timedelta(hours=1)
    assert line.broker.taken == []


def test_a_header_alone_gives_no_right():
    line = with_key()
    line.box.redriven, message = sent_again(signed(at=-9999), Reason.UNAUTHORISED)
    other = replace(message, value=message.value.replace(b"p1", b"p2"))
    unknown = replace(message, headers=(*message.headers[:-1], ("relay-redriven", b"rdv_unknown")))
    assert line.take(other, unknown) == 0
    assert line.reasons() == ["unauthorised", "unauthorised"]


# By a call


def test_a_call_has_a_row_first_and_no_dead_letter():
    line = Line()
    name = line.admit(CANCEL, connection_id="con_1")
    (kept,) = line.box.rows.values()
    assert (name, kept.source, kept.caller, kept.raw, kept.origin) == (kept.id, "api", "key_1", None, None)
    assert line.admit(CANCEL) == name
    late = line.admit(CANCEL | {"command_id": "c2", "expires_at": "2020-01-01T00:00:00Z"})
    assert [entry.stream for entry in line.box.rows[late].entries] == ["command-results"]
    assert line.take(message()) == 0


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        (b"junk", None),
        (CANCEL | {"command_id": 1}, "command_id"),
        (CANCEL | {"connection_id": None}, "connection_id"),
        (CANCEL | {"remote_id": None}, "remote_id"),
    ],
)
def test_a_call_that_cannot_be_used_is_told_at_once_and_nothing_is_kept(tree, field):
    line = Line()
    with pytest.raises(InvalidCommand) as caught:
        line.admit(tree)
    assert (caught.value.field, line.box.rows) == (field, {})


def test_a_call_for_a_connection_that_is_not_there_finds_none():
    for line, tree, only in (
        (Line(), CANCEL | {"connection_id": "con_2"}, None),
        (Line(), CANCEL, "con_2"),
        (Line(Box(gone=True)), CANCEL, None),
    ):
        with pytest.raises(NotFound, match="there is no connection"):
            line.admit(tree, connection_id=only)


def test_a_call_with_the_id_of_another_command_is_told_so():
    line = Line()
    line.admit(CANCEL)
    with pytest.raises(AlreadyThere, match="another command"):
        line.admit(CANCEL | {"reason": "other"})


# Out of time


def test_overdue_commands_are_told_and_their_messages_are_dead_letters():
    def late(name, **more):
        body = orjson.dumps(CANCEL | {"command_id": name, "external_reference": "po-7"})
        return Overdue(command_key("con_1", name), "acme", "con_1", body, 2, **more)

    line = Line(Box(late=[late("c1", raw=b"raw", origin=b"origin"), late("c2")]))
    assert run(Expire(line.box, clock).run_once()) == 2
    assert [(entry.stream, entry.sequence) for entry in line.box.told] == [
        ("command-results", 2),
        ("dead-letters", 0),
        ("command-results", 2),
    ]
    data = orjson.loads(line.box.told[0].body)["data"]
    assert (data["outcome"], data["attempts"], data["external_reference"], data["remote_id"]) == (
        "expired",
        2,
        "po-7",
        "p1",
    )
    assert run(Expire(line.box, clock).run_once()) == 0


def test_the_sweep_goes_on_when_the_store_was_away():
    @dataclass
    class Flaky(Box):
        calls: int = 0

        async def overdue(self, most):
            self.calls += 1
            if self.calls == 1:
                raise Unavailable("no database")
            return await super().overdue(most)

    body = orjson.dumps(CANCEL)
    box = Flaky(late=[Overdue(f"cmd_{n}", "acme", "con_1", body, 0) for n in range(MOST + 1)])

    async def swept():
        task = asyncio.create_task(Expire(box, clock).run())
        await until(lambda: not box.late)
        task.cancel()
        await asyncio.wait([task])

    with capture_logs() as logs:
        run(swept())
    assert logs[0]["event"] == "commands.unseen"
    assert [line["commands"] for line in logs[1:]] == [MOST, 1]
