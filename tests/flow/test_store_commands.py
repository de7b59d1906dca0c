"""Commands on a real PostgreSQL: each kept once, done in the order of its lane, over once."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from relay.domain.commands import command_key, lane, read_command
from relay.domain.errors import LeaseLost, NotFound
from relay.domain.messages import Incoming
from relay.domain.results import Outcome
from relay.ports import Ended, NewCommand, OutboxEntry
from relay.stages.admit_command import Limits
from relay.stages.letters import Letters
from relay.stages.take_commands import TakeCommands
from relay.store.command_admission import CommandIntake
from relay.store.command_list import CommandList, Wanted
from relay.store.commands import CommandStore
from relay.store.retention import RetentionStore
from tests.fakes import Broker
from tests.fixtures.store import NOW, entry, observed
from tests.flow.test_store_outbox import ORDER

LONG = timedelta(days=400)


@pytest.fixture
async def erp(world):
    return await world.connection()


@pytest.fixture
def intake(world):
    return CommandIntake(world.database)


@pytest.fixture
def commands(world):
    return CommandStore(world.database)


def result(key, number, outcome) -> OutboxEntry:
    return OutboxEntry(
        f"res_{key}_{number}", "command-results", key, number, f"purchase_order.command_{outcome}", NOW, b"{}"
    )


def new(erp, command_id, remote_id="p1", *, outcome=Outcome.ACCEPTED, digest=b"d", expires_in=LONG, **more):
    body = {"type": "cancel", "command_id": command_id, "connection_id": erp.lease.subject, "remote_id": remote_id}
    if remote_id is None:
        del body["remote_id"]
        body |= {"type": "create", "order": {}, "lines": [{"quantity": "1.250"}]}
    command = read_command(body)
    key = command_key(command.connection_id, command.command_id)
    values = {"raw": b"raw", "origin": b"origin", "source": "topic", "caller": "kafka"} | more
    return NewCommand(
        id=key,
        connection_id=command.connection_id,
        command_id=command_id,
        type=command.type,
        remote_id=remote_id,
        lane=lane(command),
        dry_run=False,
        body=command.model_dump_json(exclude_unset=True).encode(),
        digest=digest,
        outcome=outcome,
        expires_at=NOW + expires_in,
        entries=[result(key, 1, outcome)],
        **values,
    )


def ended(command, outcome=Outcome.APPLIED, entries=(), snapshots=(), remote_id=None) -> Ended:
    return Ended(command.id, outcome, [result(command.id, 2, outcome), *entries], snapshots, remote_id)


async def heads(commands, erp, most=100):
    return [each.command.command_id for each in await commands.heads(erp.lease.subject, most)]


async def test_a_command_is_kept_with_its_result_and_read_back_as_it_was_given(world, erp, intake, commands):
    command = new(erp, "c1", None)
    assert (await intake.keep([command]))[command.id].new
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    assert (row.stream, row.remote_id, row.sequence) == ("command-results", command.id, 1)
    (head,) = await commands.heads(erp.lease.subject, 10)
    assert head.command.model_dump_json(exclude_unset=True).encode() == command.body
    assert head.command.lines[0].model_fields_set == {"quantity"}
    assert (head.id, head.attempts, head.sent_at, head.before, head.caller) == (command.id, 0, None, None, "kafka")


async def test_the_same_command_again_changes_nothing_and_says_what_is_known(world, erp, intake):
    first = new(erp, "c1", digest=b"one")
    await intake.keep([first])
    before = await world.everything(), await world.one("SELECT count(*) FROM commands")
    known = await intake.keep([new(erp, "c1", digest=b"other")])
    assert (known[first.id].new, known[first.id].digest) == (False, b"one")
    assert before == (await world.everything(), await world.one("SELECT count(*) FROM commands"))


async def test_a_command_from_kafka_is_in_the_audit_log_once_and_one_by_the_api_is_not(world, erp, intake):
    for _ in range(2):
        await intake.keep([new(erp, "c1", caller="whpk_1"), new(erp, "c2", source="api", raw=None, origin=None)])
    (row,) = await world.sql("SELECT * FROM audit JOIN audit_outcomes USING (position)")
    assert (row["caller_kind"], row["caller_id"], row["action"]) == ("kafka", "whpk_1", "command cancel")
    assert (row["request_id"], row["status"]) == (new(erp, "c1").id, 202)


async def test_a_command_of_a_connection_that_is_gone_is_not_known(erp, intake):
    gone = replace(new(erp, "c1"), connection_id="con_gone")
    assert await intake.keep([gone]) == {}
    assert await intake.keep([]) == {}


async def test_of_each_lane_only_the_first_is_a_head_and_the_next_is_when_it_is_over(erp, intake, commands):
    batch = [new(erp, "a1", "p1"), new(erp, "b1", "p2"), new(erp, "a2", "p1"), new(erp, "n1", None)]
    await intake.keep(batch)
    await intake.keep([new(erp, "a3", "p1"), new(erp, "b2", "p2")])
    assert await heads(commands, erp) == ["a1", "b1", "n1"]
    assert await heads(commands, erp, 2) == ["a1", "b1"]
    await commands.save_ended(erp.lease, erp.subject, ended(batch[0]))
    assert await heads(commands, erp) == ["b1", "n1", "a2"]
    await commands.save_ended(erp.lease, erp.subject, ended(batch[2]))
    assert await heads(commands, erp) == ["b1", "n1", "a3"]


async def test_those_in_doubt_come_first_and_those_that_are_not_due_last(world, erp, intake, commands):
    batch = [new(erp, name, name) for name in ("p1", "p2", "p3", "p4")]
    await intake.keep(batch)
    now = await world.one("SELECT now()")
    await commands.save_waiting(erp.lease, batch[0].id, now + timedelta(hours=1), "the ERP is down", doubt=False)
    await commands.save_sending(erp.lease, batch[2].id, now, {"remote_id": "p3"})
    assert await heads(commands, erp) == ["p3", "p2", "p4", "p1"]
    assert await heads(commands, erp, 3) == ["p3", "p2", "p4"]
    first = (await commands.heads(erp.lease.subject, 1))[0]
    assert (first.attempts, first.sent_at, first.before) == (1, now, {"remote_id": "p3"})
    await commands.save_waiting(erp.lease, batch[2].id, now, "it did not answer", doubt=True)
    assert (await commands.heads(erp.lease.subject, 1))[0].sent_at == now
    await commands.save_waiting(erp.lease, batch[2].id, now, "it was not done", doubt=False)
    again = next(each for each in await commands.heads(erp.lease.subject, 9) if each.id == batch[2].id)
    assert (again.attempts, again.sent_at, again.before) == (1, None, None)


async def test_what_is_in_doubt_is_known_before_anything_is_read_and_so_is_what_was_written(
    world, erp, intake, commands
):
    batch = [new(erp, "c1", None), new(erp, "c2", "p2"), new(erp, "c3", "p3")]
    await intake.keep(batch)
    assert await commands.in_doubt(erp.lease.subject) == []
    later = await world.one("SELECT now() + interval '1 hour'")
    for each in batch[:2]:
        await commands.save_sending(erp.lease, each.id, NOW, {"notes": "before"})
    await commands.save_waiting(erp.lease, batch[1].id, later, "upstream_down: reset", doubt=True)
    await commands.save_written(erp.lease, batch[0].id, "p9", later)
    written, doubted = await commands.in_doubt(erp.lease.subject)
    assert (written.written, written.sent_at, written.before) == ("p9", NOW, {"notes": "before"})
    assert (doubted.written, doubted.problem) == (None, "upstream_down: reset")
    assert await heads(commands, erp) == ["c3", "c1", "c2"]
    assert (await CommandList(world.database).command(batch[0].id))["remote_id"] == "p9"
    assert written.accepted_at <= later


async def test_the_end_keeps_result_snapshot_and_change_event_together(world, erp, intake, commands):
    command = new(erp, "c1", None)
    await intake.keep([command])
    snapshot, event = observed(erp.subject, ORDER)
    await commands.save_sending(erp.lease, command.id, NOW, None)
    await commands.save_ended(
        erp.lease, erp.subject, ended(command, entries=[event], snapshots=[snapshot], remote_id="p1")
    )
    streams = [row.stream for row in await world.outbox.to_publish(erp.lease, 10)]
    assert streams == ["command-results", "command-results", "changes"]
    assert await world.orders.snapshots(erp.lease.subject, ["p1"]) == {"p1": snapshot}
    row = await CommandList(world.database).command(command.id)
    assert (row["state"], row["outcome"], row["remote_id"], row["result"]) == ("done", "applied", "p1", b"{}")
    assert await heads(commands, erp) == []


async def test_what_is_over_is_not_sent_and_keeps_its_result(world, erp, intake, commands):
    command = new(erp, "c1")
    await intake.keep([command])
    await commands.save_ended(erp.lease, erp.subject, ended(command, Outcome.REJECTED))
    with pytest.raises(LeaseLost):
        await commands.save_sending(erp.lease, command.id, NOW, None)
    await commands.save_waiting(erp.lease, command.id, NOW, "later", doubt=True)
    _, event = observed(erp.subject, ORDER)
    await commands.save_ended(erp.lease, erp.subject, ended(command, Outcome.APPLIED, [event]))
    assert (await CommandList(world.database).command(command.id))["outcome"] == "rejected"
    told = [(row.stream, row.type) for row in await world.outbox.to_publish(erp.lease, 10)]
    assert told == [
        ("command-results", "purchase_order.command_accepted"),
        ("command-results", "purchase_order.command_rejected"),
        ("changes", "purchase_order.created"),
    ]


async def test_a_worker_that_lost_its_lease_changes_no_command(world, erp, intake, commands):
    command = new(erp, "c1")
    await intake.keep([command])
    await world.taken_over("connections", erp.lease)
    before = await world.sql("SELECT * FROM commands")
    for write in (
        commands.save_sending(erp.lease, command.id, NOW, None),
        commands.save_waiting(erp.lease, command.id, NOW, "x", doubt=False),
        commands.save_written(erp.lease, command.id, "p1", NOW),
        commands.save_ended(erp.lease, erp.subject, ended(command)),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert before == await world.sql("SELECT * FROM commands")


async def test_a_runner_cannot_touch_the_commands_of_another_connection(world, erp, intake, commands):
    other = await world.connection("other")
    command = new(other, "c1")
    await intake.keep([command])
    with pytest.raises(LeaseLost):
        await commands.save_sending(erp.lease, command.id, NOW, None)
    await commands.save_ended(erp.lease, erp.subject, ended(command))
    assert await heads(commands, other) == ["c1"]


async def test_one_that_its_runner_expires_is_a_dead_letter_as_it_came(world, erp, intake, commands):
    batch = [new(erp, "c1"), new(erp, "c2", "p2", source="api", raw=None, origin=None)]
    await intake.keep(batch)
    for each in batch:
        await commands.save_ended(erp.lease, erp.subject, ended(each, Outcome.EXPIRED))
    letters = [row for row in await world.outbox.to_publish(erp.lease, 10) if row.stream == "dead-letters"]
    assert [(row.type, row.body, row.origin, row.remote_id) for row in letters] == [
        ("expired", b"raw", b"origin", batch[0].id)
    ]


async def test_what_is_over_on_arrival_waits_for_nobody(world, erp, intake, commands):
    refused = new(erp, "c1", outcome=Outcome.REJECTED)
    await intake.keep([refused, new(erp, "c2")])
    assert await heads(commands, erp) == ["c2"]
    row = await CommandList(world.database).command("c1", erp.lease.subject)
    assert (row["id"], row["state"], row["outcome"], row["result"]) == (refused.id, "done", "rejected", b"{}")


async def test_a_batch_that_is_taken_twice_changes_nothing(world, erp, intake):
    broker = Broker()
    take = TakeCommands(intake, Letters(broker, "dead"), Limits(10_000, timedelta(days=1)), lambda: NOW)
    body = new(erp, "c1").body
    late = body.replace(b'"c1"', b'"c2", "expires_at": "2020-01-01T00:00:00Z"')
    batch = [
        Incoming("t", 0, n, None, value, ()) for n, value in enumerate((body, late, b'{"command_id": "c3"}', body))
    ]
    assert await take.run_once(batch) == 2
    before = await world.everything(), await world.sql("SELECT * FROM commands"), await world.sql("SELECT * FROM audit")
    assert await take.run_once(batch) == 0
    assert before == (
        await world.everything(),
        await world.sql("SELECT * FROM commands"),
        await world.sql("SELECT * FROM audit"),
    )
    told = [(row.stream, row.type.rpartition("_")[2]) for row in await world.outbox.to_publish(erp.lease, 10)]
    assert told == [("command-results", "accepted"), ("command-results", "expired"), ("dead-letters", "expired")]


# Those that nobody does in time


@pytest.mark.parametrize("case", [("paused", 1, True), ("active", 1, False), ("active", 90, True)])
async def test_overdue_commands_are_those_that_no_runner_tells_of(world, erp, intake, case):
    state, ago, expires = case
    await intake.keep([new(erp, "late"), new(erp, "later"), new(erp, "doubt", "p2")])
    await world.sql("UPDATE connections SET state = $1", state)
    await world.sql("UPDATE commands SET state = 'sending' WHERE command_id = 'doubt'")
    await world.sql("UPDATE commands SET expires_at = now() - $1 * interval '1 s' WHERE command_id <> 'later'", ago)
    overdue = await intake.overdue(10)
    assert [orjson.loads(each.body)["command_id"] for each in overdue] == (["late"] if expires else [])


async def test_an_overdue_command_is_over_once_and_the_next_of_its_lane_is_a_head(world, erp, intake, commands):
    batch = [new(erp, name, expires_in=-LONG) for name in ("c1", "c2")] + [new(erp, "c3")]
    await intake.keep(batch)
    overdue = await intake.overdue(10)
    told = [(each, [result(each.id, 2, "expired")]) for each in overdue]
    assert await intake.save_overdue(told) == 2
    assert await intake.save_overdue(told) == 0
    assert await heads(commands, erp) == ["c3"]
    types = [row.type for row in await world.outbox.to_publish(erp.lease, 10)]
    assert types.count("purchase_order.command_expired") == 2


async def test_one_that_was_sent_meanwhile_is_not_expired(world, erp, intake, commands):
    command = new(erp, "c1", expires_in=-LONG)
    await intake.keep([command])
    (overdue,) = await intake.overdue(10)
    await commands.save_sending(erp.lease, command.id, NOW, None)
    assert await intake.save_overdue([(overdue, [result(command.id, 2, "expired")])]) == 0


async def test_admission_ends_and_expiry_at_once_leave_every_lane_with_one_head(world, erp, intake, commands):
    lanes = [f"p{n}" for n in range(3)]

    async def admit(who):
        for number in range(25):
            await intake.keep(
                [new(erp, f"{who}-{number}-{each}", each, expires_in=-LONG if number % 2 else LONG) for each in lanes]
            )

    async def end():
        for _ in range(60):
            for head in await commands.heads(erp.lease.subject, 1):
                await commands.save_ended(erp.lease, erp.subject, Ended(head.id, "applied", []))

    async def expire():
        for _ in range(20):
            some = await intake.overdue(5)
            await intake.save_overdue([(each, [result(each.id, 2, "expired")]) for each in some])

    await asyncio.gather(admit("a"), admit("b"), end(), expire())
    rows = await world.sql("""
        SELECT count(*) FILTER (WHERE due_at IS NOT NULL) AS heads,
               (array_agg(due_at ORDER BY position))[1] IS NOT NULL AS first
        FROM commands WHERE state <> 'done' GROUP BY lane
    """)
    assert {(row["heads"], row["first"]) for row in rows} <= {(1, True)}
    assert await world.one("SELECT count(*) FROM commands WHERE state = 'done' AND due_at IS NOT NULL") == 0


# As people see them, and until they are forgotten


async def test_commands_are_listed_from_the_newest_on_page_by_page_and_narrowed(world, erp, intake):
    batch = [new(erp, f"c{n}", f"p{n % 2}", outcome=[Outcome.ACCEPTED, Outcome.REJECTED][n % 2]) for n in range(6)]
    await intake.keep(batch)
    listed = CommandList(world.database)

    async def ids(**how):
        wanted = Wanted(**{name: how.pop(name) for name in ("state", "outcome", "remote_id") if name in how})
        return [row["command_id"] for row in await listed.commands(erp.lease.subject, wanted, **how)]

    assert await ids(most=4) == ["c5", "c4", "c3", "c2"]
    position = (await listed.command(batch[2].id))["position"]
    assert await ids(before=position) == ["c1", "c0"]
    assert await ids(state="waiting") == ["c4", "c2", "c0"]
    assert await ids(outcome="rejected", remote_id="p1") == ["c5", "c3", "c1"]
    assert await ids(remote_id="p1\x00") == []
    for wrong in (("cmd_x", None), ("c0\x00", erp.lease.subject), (batch[0].id, "con_other")):
        with pytest.raises(NotFound, match="there is no command"):
            await listed.command(*wrong)


async def test_commands_that_are_over_are_forgotten_after_a_while(world, erp, intake):
    await intake.keep(
        [new(erp, "c1", outcome=Outcome.REJECTED), new(erp, "c2", outcome=Outcome.REJECTED), new(erp, "c3")]
    )
    await world.sql("UPDATE commands SET done_at = now() - interval '31 days' WHERE command_id = 'c1'")
    retention = RetentionStore(world.database, timedelta(days=30))
    assert [await retention.forget_commands(), await retention.forget_commands()] == [1, 0]
    left = await world.sql("SELECT command_id FROM commands ORDER BY position")
    assert [row["command_id"] for row in left] == ["c2", "c3"]


async def test_how_connections_stand_is_told_of_those_that_there_are(world, erp, intake):
    await world.sql("UPDATE connections SET state = 'paused', command_key = 'whpk_x'")
    standings = await intake.standings([erp.lease.subject, "con_none", "con_\x00"])
    (standing,) = standings.values()
    assert (standing.customer_id, standing.state, standing.command_key) == ("acme", "paused", "whpk_x")


async def test_dead_letters_keep_where_they_came_from(world, erp):
    letter = replace(entry(erp.lease.subject, "p1", 1, stream="dead-letters"), origin=b"from")
    await world.orders.save_page(erp.lease, erp.subject, [], [letter], None)
    (row,) = await world.outbox.to_publish(erp.lease, 10)
    assert row.origin == b"from"
    await world.outbox.save_published(erp.lease, [row.position])
    assert await world.states("outbox") == ["relayed"]
