"""Executing commands: each ends once, none is done twice, whatever the ERP, the store and the worker do in between."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from relay.domain.connections import ConnectionState
from relay.domain.errors import (
    CredentialsRefused,
    LeaseLost,
    RecordRejected,
    Throttled,
    Unavailable,
    UnexpectedReply,
    Unsupported,
    causes,
)
from relay.domain.hours import Hours
from relay.domain.orders import Status
from relay.domain.results import Outcome, Refusal, RefusalReason, WriteRefused
from relay.domain.schedules import Schedule
from relay.stages.carry import GIVEN_UP
from relay.stages.gate import NEW
from relay.stages.poll import Patience
from tests.fake_commands import SETTLE, SYNCED, Books, Work, command
from tests.fakes import clock, order, page, run, until


def refusing(reason=RefusalReason.VALIDATION, said="AJUDA:REGNOIS"):
    return WriteRefused([Refusal(reason=reason, message="no", field="notes")], said=said)


def unsent():
    error = Unavailable("connection refused")
    error.unsent = True
    return error


def worked(given, *, before=(), after=None, seconds=600, **values):
    """One command over orders that are there, until it is over; its result, and everything it was done with."""

    async def work():
        it = Work(**values)
        if before:
            await it.told(*before)
        if after:
            await after(it)
        it.desk.give(given)
        async with it.going():
            await until(lambda: not it.desk.open, seconds)
        return it

    it = run(work())
    (result,) = it.desk.results
    return result, it


def faulty(**faults):
    books = Books()
    for step, errors in faults.items():
        books.faults[step] += errors if isinstance(errors, list) else [errors]
    return books


# What goes well


def test_an_update_is_written_read_back_and_told_in_one_transaction_with_its_cause():
    result, it = worked(command("update"), before=[order()])
    assert (result.outcome, result.remote_id, result.attempts) == (Outcome.APPLIED, "4500", 1)
    assert (result.order.notes, result.order.sequence, result.order_id) == ("changed", 2, result.order.id)
    assert it.events() == [("4500", 1, []), ("4500", 2, ["c1"])]
    assert [row.stream for row in it.desk.world.outbox] == ["changes", "changes", "command-results"]
    assert it.saved


def test_a_new_order_is_told_as_created_by_its_command():
    result, it = worked(command("create", external_reference="REQ-1"))
    assert (result.outcome, result.remote_id, result.external_reference) == (Outcome.APPLIED, "9000", "REQ-1")
    assert it.events() == [("9000", 1, ["c1"])]
    assert it.desk.world.told() == ["created"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (command("add_lines", lines=[{"quantity": "3"}]), "updated"),
        (command("update_lines", lines=[{"remote_id": "1", "quantity": "3"}]), "updated"),
        (command("cancel_lines", lines=["1"]), "updated"),
        (command("cancel"), "cancelled"),
        (command("close"), "closed"),
    ],
)
def test_every_command_ends_with_its_order_as_it_is_then(given, told):
    result, it = worked(given, before=[order()])
    assert result.outcome is Outcome.APPLIED
    assert it.desk.world.told()[-1] == told
    assert it.events()[-1][2] == ["c1"]


def test_what_a_command_finds_done_is_applied_and_no_change():
    result, it = worked(command("update", order={"notes": "as before"}), before=[order(notes="as before")])
    assert (result.outcome, result.order.sequence) == (Outcome.APPLIED, 1)
    assert len(it.events()) == 1


def test_a_dry_run_says_what_would_be_sent_and_writes_nothing():
    result, it = worked(command("update", dry_run=True), before=[order()])
    assert (result.outcome, result.would_send.path, result.dry_run) == (Outcome.CHECKED, "/update", True)
    assert (it.books.steps["write"], result.attempts, it.desk.world.calls["save_sending"]) == (0, 0, 0)


def test_nothing_is_told_of_an_order_before_the_first_sync_has_met_it():
    async def there(it):
        it.books.put(order())

    result, it = worked(command("update"), after=there, synced=False)
    assert (result.outcome, result.order, it.events()) == (Outcome.APPLIED, None, [])


def test_a_new_order_is_told_during_the_first_sync():
    _, it = worked(command("create"), synced=False)
    assert it.events() == [("9000", 1, ["c1"])]


def test_an_order_that_was_noted_in_silence_has_no_number_to_be_told_with():
    async def noted(it):
        it.books.put(order(notes="changed"))
        await it.poll_sees("4500")
        known = it.desk.world.known
        known["4500"] = replace(known["4500"], sequence=0)

    result, _ = worked(command("update"), after=noted)
    assert (result.outcome, result.order) == (Outcome.APPLIED, None)


# Order


def test_commands_of_one_order_are_done_one_after_the_other_as_they_came():
    async def work():
        it = Work(at_once=4)
        await it.told(order("1"), order("2"))
        for number in range(1, 11):
            it.desk.give(command("update", number, remote_id=str(number % 2 + 1), order={"notes": str(number)}))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert [each for each in it.books.journal if each[0] == "1"] == [("1", f"c{each}") for each in range(2, 11, 2)]
    assert [each for each in it.books.journal if each[0] == "2"] == [("2", f"c{each}") for each in range(1, 11, 2)]
    assert it.books.most_at_once == 2


def test_a_few_orders_are_written_at_once_and_no_more():
    async def work():
        it = Work(at_once=3)
        for number in range(250):
            it.desk.give(command("create", number))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert it.books.most_at_once == 3
    assert set(it.books.done.values()) == {1}
    assert len(it.desk.results) == 250


def test_a_command_that_comes_later_is_done_when_somebody_rings():
    async def work():
        it = Work()
        async with it.going():
            await asyncio.sleep(60)
            it.desk.give(command("create"))
            it.execute.ring()
            await until(lambda: it.desk.results, 5)
        return it

    assert run(work()).desk.outcomes() == [Outcome.APPLIED]


# Refusals


def test_what_is_not_permitted_is_refused_before_the_erp_is_asked_to_prepare():
    result, it = worked(command("update", order={"incoterm": "FOB"}), before=[order()])
    assert (result.outcome, result.refusals[0].field) == (Outcome.REJECTED, "incoterm")
    assert (it.books.steps["prepare"], it.books.steps["write"]) == (0, 0)


def test_an_erp_without_a_writer_takes_nothing():
    result, _ = worked(command("create"), books=Books(writable=False))
    assert [each.reason for each in result.refusals] == [RefusalReason.NOT_PERMITTED]


def test_an_order_that_bears_the_mark_already_is_a_conflict_that_names_it():
    async def there(it):
        it.books.marks["REQ-1"] = "77"

    result, it = worked(command("create", external_reference="REQ-1"), after=there)
    assert (result.outcome, result.remote_id, it.books.done) == (Outcome.REJECTED, "77", {})
    assert result.refusals[0] == Refusal(
        reason=RefusalReason.CONFLICT,
        field="external_reference",
        message="order 77 bears the mark REQ-1 already",
        fix="Give an external_reference of its own to each new order, or change that order with update",
    )


@pytest.mark.parametrize("step", ["prepare", "write"])
def test_what_the_erp_refuses_is_told_in_its_own_words(step):
    result, _ = worked(command("update"), before=[order()], books=faulty(**{step: refusing()}))
    assert (result.outcome, result.refusals[0].field, result.said) == (Outcome.REJECTED, "notes", "AJUDA:REGNOIS")


def test_who_names_no_version_does_not_lose_to_somebody_who_was_quicker():
    conflict = refusing(RefusalReason.CONFLICT)
    result, it = worked(command("update"), before=[order()], books=faulty(write=[conflict, conflict]))
    assert (result.outcome, result.attempts, it.books.done) == (Outcome.APPLIED, 3, {"c1": 1})
    result, _ = worked(command("update"), before=[order()], books=faulty(write=[conflict] * 9))
    assert (result.outcome, result.attempts, result.refusals[0].reason) == (Outcome.REJECTED, 5, RefusalReason.CONFLICT)


@pytest.mark.parametrize("given", [command("update", expected_version="1"), command("create")])
def test_who_names_a_version_does_and_so_does_a_new_order(given):
    result, _ = worked(given, before=[order()], books=faulty(write=refusing(RefusalReason.CONFLICT)))
    assert (result.outcome, result.attempts) == (Outcome.REJECTED, 1)


@pytest.mark.parametrize("step", ["prepare", "write"])
def test_what_the_system_cannot_do_is_not_permitted(step):
    result, _ = worked(command("update"), before=[order()], books=faulty(**{step: Unsupported("no route")}))
    assert (result.outcome, result.refusals[0].reason) == (Outcome.REJECTED, RefusalReason.NOT_PERMITTED)


def test_an_order_that_cannot_be_read_is_not_written():
    async def unreadable(it):
        it.books.faults["read"] = [RecordRejected("C7_QUANT: many")]

    result, _ = worked(command("update"), before=[order()], after=unreadable)
    assert result.refusals[0].message == "the order cannot be read: C7_QUANT: many"


# Trouble before anything was written


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("read", Unavailable("503")),
        ("prepare", UnexpectedReply("HTML")),
        ("write", Throttled("429", retry_after=30)),
        ("write", unsent()),
    ],
)
def test_trouble_holds_it_up_and_it_is_done_once_when_it_is_over(step, error):
    result, it = worked(command("update"), before=[order()], after=lambda it: _after(it, step, error))
    assert (result.outcome, it.books.done) == (Outcome.APPLIED, {"c1": 1})
    reason = "rate_limited" if isinstance(error, Throttled) else "upstream_down"
    assert it.desk.problems == [f"{reason}: {error}"]


async def _after(it, step, *errors):
    it.books.faults[step] = list(errors)


def test_a_wish_to_wait_holds_up_all_commands():
    async def work():
        it = Work(at_once=1)
        it.books.faults["write"] = [Throttled("429", retry_after=100)]
        it.desk.give(command("create", 1))
        it.desk.give(command("create", 2))
        async with it.going():
            await asyncio.sleep(99)
            assert it.books.done == {}
            await until(lambda: not it.desk.open)
        return it

    assert run(work()).books.steps["write"] == 3


def test_trouble_that_goes_on_is_met_less_and_less_often():
    async def work():
        it = Work()
        it.books.faults["find"] = [Unavailable("503")] * 1000
        it.desk.give(command("create"))
        async with it.going():
            await asyncio.sleep(3600)
        return it.books.steps["find"]

    assert run(work()) == 11


def test_what_was_under_way_when_the_trouble_began_is_no_further_trouble():
    async def work():
        it = Work(at_once=4)
        it.books.faults["find"] = [Unavailable("503")] * 4
        for number in range(4):
            it.desk.give(command("create", number))
        async with it.going():
            await until(lambda: not it.desk.open, 8)

    run(work())


def test_what_runs_out_of_time_says_what_it_waited_for():
    async def work():
        it = Work()
        it.books.faults["find"] = [Throttled("429", retry_after=50)] * 9
        it.desk.give(command("create", 1), timedelta(seconds=90))
        it.desk.give(command("create", 2), timedelta(seconds=-1))
        async with it.going():
            await until(lambda: not it.desk.open, 91)
        return it

    late, waited = run(work()).desk.results
    assert (late.outcome, late.refusals) == (Outcome.EXPIRED, ())
    assert waited.outcome is Outcome.EXPIRED
    assert [(each.reason, each.message) for each in waited.refusals] == [(RefusalReason.RATE_LIMITED, "429")]


def test_what_runs_out_of_time_while_it_is_prepared_is_not_sent():
    async def work():
        it = Work(books=Books(takes=10))
        it.desk.give(command("create"), timedelta(seconds=15))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert (it.desk.outcomes(), it.books.done) == ([Outcome.EXPIRED], {})


def test_while_the_erp_may_not_be_asked_only_what_ran_out_of_time_is_told():
    hours = Hours(open=("Sun 13:00-14:00",))  # it is twelve on a Sunday

    async def work():
        it = Work(of=replace(SYNCED, schedule=Schedule(hours=hours)))
        it.desk.give(command("create", 1))
        it.desk.give(command("create", 2), timedelta(minutes=10))
        async with it.going():
            await asyncio.sleep(3599)
            assert (it.desk.outcomes(), it.books.steps) == ([Outcome.EXPIRED], {})
            await until(lambda: not it.desk.open, 10)
        return it

    assert run(work()).desk.outcomes() == [Outcome.EXPIRED, Outcome.APPLIED]


def test_an_erp_that_may_never_be_asked_is_not():
    async def work():
        it = Work(of=replace(SYNCED, schedule=Schedule(hours=Hours(closed=("00:00-24:00",)))))
        it.desk.give(command("create"), timedelta(days=30))
        async with it.going():
            await asyncio.sleep(86400 * 3)
        return it

    assert run(work()).books.steps == {}


# Refused logins


@pytest.mark.parametrize("step", ["find", "write"])
def test_a_refused_login_ends_the_work_and_the_connection_needs_a_person(step):
    async def work():
        it = Work(at_once=1)
        it.books.faults[step] = [CredentialsRefused("401")]
        it.desk.give(command("create", 1))
        it.desk.give(command("create", 2))
        async with it.going(reading=True) as task:
            await asyncio.wait([task])
        return it

    it = run(work())
    assert [each.reason for each in it.desk.results[0].refusals] == [RefusalReason.AUTH_REQUIRED]
    assert it.desk.world.polled[-1].state is ConnectionState.NEEDS_RECONNECT
    assert len(it.desk.open) == 1


def test_a_login_that_a_poll_finds_refused_ends_the_commands_too():
    async def work():
        it = Work()
        it.books.polls = [[CredentialsRefused("401")]]
        async with it.going(reading=True) as task:
            await asyncio.wait([task])
        return it

    assert [each.state for each in run(work()).desk.world.polled] == [ConnectionState.NEEDS_RECONNECT]


def test_a_login_that_is_refused_when_the_order_is_read_back_loses_no_result():
    result, _ = worked(command("create"), books=faulty(read=CredentialsRefused("401")))
    assert (result.outcome, result.remote_id, result.order) == (Outcome.APPLIED, "9000", None)


def test_a_login_that_is_refused_while_it_is_open_leaves_it_open():
    async def work():
        it = Work(books=faulty(answer=Unavailable("reset"), find=[None, CredentialsRefused("401")]))
        it.desk.give(command("create"))
        async with it.going() as task:
            refused = await task
        return it, refused

    it, refused = run(work())
    assert str(refused) == "401"
    assert [each.sent_at is not None for each in it.desk.open.values()] == [True]
    assert it.desk.problems[-1] == "auth_required: 401"


# Doubt


@pytest.mark.parametrize("error", [Unavailable("timeout"), UnexpectedReply("HTML")])
def test_a_new_order_whose_answer_was_lost_is_found_and_not_made_twice(error):
    result, it = worked(command("create"), books=faulty(answer=error))
    assert (result.outcome, result.remote_id, it.books.done) == (Outcome.APPLIED, "9000", {"c1": 1})
    assert it.events() == [("9000", 1, ["c1"])]


def test_a_change_whose_answer_was_lost_is_seen_in_its_order():
    result, it = worked(command("update"), before=[order()], books=faulty(answer=Unavailable("timeout")))
    assert (result.outcome, result.order.notes, it.books.done) == (Outcome.APPLIED, "changed", {"c1": 1})
    assert it.events()[-1] == ("4500", 2, ["c1"])


@pytest.mark.parametrize("given", [command("create"), command("update")])
def test_what_never_arrived_is_sent_again_but_only_when_the_erp_must_have_settled(given):
    async def work():
        it = Work(books=faulty(write=Unavailable("reset")))
        await it.told(order())
        it.desk.give(given)
        async with it.going():
            await asyncio.sleep(SETTLE.total_seconds())
            assert (it.books.steps["write"], it.desk.results) == (1, [])
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert (it.desk.results[0].outcome, it.desk.results[0].attempts) == (Outcome.APPLIED, 2)
    assert it.books.done == {"c1": 1}


def test_an_erp_that_is_slow_is_not_asked_twice():
    books = faulty(write=60.0, answer=Unavailable("timeout"))
    result, it = worked(command("create"), books=books)
    assert (result.outcome, result.attempts, it.books.done) == (Outcome.APPLIED, 1, {"c1": 1})


def test_what_is_in_doubt_is_looked_for_at_growing_intervals():
    async def work():
        it = Work(books=faulty(write=Unavailable("reset")))
        it.execute.patience = Patience(timedelta(0), timedelta(0))
        it.desk.give(command("create"))
        async with it.going():
            await asyncio.sleep(119)
            return it.books.steps["find"]

    assert run(work()) == 8


def test_what_never_arrived_and_ran_out_of_time_is_expired():
    async def work():
        it = Work(books=faulty(write=Unavailable("reset")))
        it.desk.give(command("create"), timedelta(seconds=30))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    (result,) = run(work()).desk.results
    assert (result.outcome, result.attempts) == (Outcome.EXPIRED, 1)
    assert result.refusals[0].reason is RefusalReason.UPSTREAM_DOWN


def test_nobody_can_tell_where_no_mark_is_kept():
    result, it = worked(command("create"), books=replace(faulty(answer=Unavailable("timeout")), finds=False))
    assert (result.outcome, result.attempts, it.books.done) == (Outcome.UNKNOWN, 1, {"c1": 1})
    assert result.refusals[0].message == (
        "it was sent at 2026-03-01T12:00:00Z and nobody can tell whether it was done: this system keeps no key by "
        "which a new order could be found"
    )


def test_nobody_can_tell_when_somebody_changed_the_order_in_between():
    async def work():
        it = Work(books=faulty(write=Unavailable("reset")))
        await it.told(order())
        it.desk.give(command("update"))
        async with it.going():
            await asyncio.sleep(10)
            it.books.put(order(buyer="Ana"))
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert (it.desk.outcomes(), it.books.steps["write"]) == ([Outcome.UNKNOWN], 1)
    assert "changed by somebody" in it.desk.results[0].refusals[0].message


@pytest.mark.parametrize("error", [RecordRejected("C7_QUANT: many"), Unsupported("no route")])
def test_nobody_can_tell_when_the_order_cannot_be_read_any_more(error):
    async def work():
        it = Work(books=faulty(answer=Unavailable("timeout")))
        await it.told(order())
        it.books.faults["read"] = [None, *[error] * 99]
        it.desk.give(command("update"))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    assert run(work()).desk.outcomes() == [Outcome.UNKNOWN]


def test_an_erp_that_stays_away_makes_it_unknown_in_the_end():
    async def work():
        it = Work(books=faulty(answer=Unavailable("timeout")))
        it.books.faults["find"] = [None, *[Unavailable("503")] * 9999]
        it.desk.give(command("create"), timedelta(minutes=1))
        async with it.going():
            await asyncio.sleep(GIVEN_UP.total_seconds() - 1000)
            assert it.desk.results == []
            await until(lambda: not it.desk.open, 3000)
        return it

    assert run(work()).desk.outcomes() == [Outcome.UNKNOWN]


def test_a_new_order_that_was_sent_and_is_found_before_it_is_sent_again_was_made():
    async def work():
        it = Work()
        it.books.do(command("create"))
        it.desk.give(command("create"), attempts=1)
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    assert run(work()).desk.outcomes() == [Outcome.APPLIED]


# Reading back


def test_what_was_written_and_cannot_be_read_back_is_applied_once_it_can():
    result, it = worked(command("create"), books=faulty(read=[Unavailable("503"), Throttled("429")]))
    assert (result.outcome, result.order.sequence, it.books.done) == (Outcome.APPLIED, 1, {"c1": 1})


def test_the_poll_that_sees_it_first_tells_its_cause():
    async def work():
        it = Work(books=faulty(read=[None, *[Unavailable("503")] * 3]))
        await it.told(order(), order("1"))
        it.books.steps["read"] = 0
        it.desk.give(command("update"))
        it.desk.give(command("create", 2))
        async with it.going():
            await until(lambda: sum(each.written is not None for each in it.desk.open.values()) == 2)
            it.books.put(order("1", notes="by somebody"))
            await it.poll_sees("4500", "1", "9000")
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert it.events()[2:] == [("4500", 2, ["c1"]), ("1", 2, []), ("9000", 1, ["c2"])]
    assert [each.outcome for each in it.desk.results] == [Outcome.APPLIED] * 2


def test_what_cannot_be_read_back_until_its_time_is_over_is_applied_without_its_order():
    async def work():
        it = Work(books=faulty(read=[Unavailable("503")] * 99))
        it.desk.give(command("create"), timedelta(minutes=5))
        async with it.going():
            await until(lambda: not it.desk.open)
        return it

    (result,) = run(work()).desk.results
    assert (result.outcome, result.remote_id, result.order) == (Outcome.APPLIED, "9000", None)


def test_a_page_of_html_is_no_reason_to_tell_nothing_of_what_was_written():
    result, it = worked(command("create"), books=faulty(read=UnexpectedReply("HTML")))
    assert (result.outcome, result.order.sequence, it.events()) == (Outcome.APPLIED, 1, [("9000", 1, ["c1"])])


def test_what_reads_back_as_junk_is_applied_without_its_order():
    result, it = worked(command("create"), books=faulty(read=RecordRejected("junk")))
    assert (result.outcome, result.order, it.events()) == (Outcome.APPLIED, None, [])


def test_an_order_that_its_system_deletes_to_cancel_it_is_told_as_deleted_at_once():
    class Deleting(Books):
        def _change(self, given):
            del self.orders[given.remote_id]

    result, it = worked(command("cancel"), before=[order()], books=Deleting())
    assert (result.outcome, result.order.status) == (Outcome.APPLIED, Status.DELETED)
    assert it.desk.world.told() == ["created", "deleted"]
    assert it.events()[-1][2] == ["c1"]


def test_a_cancelled_order_that_is_gone_and_of_which_nobody_was_told_is_not_told():
    class Deleting(Books):
        def _change(self, given):
            del self.orders[given.remote_id]

    async def there(it):
        it.books.put(order())

    result, it = worked(command("cancel"), after=there, books=Deleting())
    assert (result.outcome, result.order, it.events()) == (Outcome.APPLIED, None, [])


def test_an_order_that_vanished_after_another_command_is_left_to_the_full_passes():
    class Vanishing(Books):
        def _change(self, given):
            del self.orders[given.remote_id]

    result, it = worked(command("update"), before=[order()], books=Vanishing())
    assert (result.outcome, result.order, it.desk.world.told()) == (Outcome.APPLIED, None, ["created"])


# Polls that see what commands did


def test_a_poll_that_sees_a_command_in_doubt_tells_its_cause_once():
    async def work():
        it = Work(books=faulty(answer=[Unavailable("timeout")] * 2))
        await it.told(order())
        it.desk.give(command("update"))
        it.desk.give(command("create", 2))
        async with it.going():
            await until(lambda: it.books.steps["answer"] == 2)
            await asyncio.sleep(0.01)
            await it.poll_sees("4500", "9000")
            it.books.put(it.books.orders["4500"].model_copy(update={"buyer": "Ana"}))
            await it.poll_sees("4500", "9000")
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert it.events() == [("4500", 1, []), ("4500", 2, ["c1"]), ("9000", 1, ["c2"]), ("4500", 3, [])]
    assert it.desk.outcomes() == [Outcome.APPLIED] * 2


def test_what_somebody_did_after_a_poll_told_of_a_command_is_not_the_commands():
    async def work():
        it = Work(books=faulty(answer=[Unavailable("timeout")] * 2))
        await it.told(order())
        it.desk.give(command("update"))
        it.desk.give(command("create", 2))
        async with it.going():
            await until(lambda: it.books.steps["answer"] == 2)
            await asyncio.sleep(0.01)
            await it.poll_sees("4500", "9000")
            for each in ("4500", "9000"):
                it.books.put(it.books.orders[each].model_copy(update={"buyer": "Ana"}))
            await until(lambda: not it.desk.open)
        return it.events()[3:]

    assert sorted(run(work())) == [("4500", 3, []), ("9000", 2, [])]


def test_a_change_that_asks_for_what_is_there_is_over_when_the_erp_must_have_settled():
    async def work():
        it = Work(books=faulty(write=70.0, answer=Unavailable("timeout")))
        await it.told(order(status=Status.CLOSED))
        it.desk.give(command("close"))
        async with it.going():
            await asyncio.sleep(SETTLE.total_seconds() - 1)
            assert it.desk.results == []
            await until(lambda: not it.desk.open)
        return it

    it = run(work())
    assert (it.desk.outcomes(), len(it.events())) == ([Outcome.APPLIED], 1)


def test_a_poll_waits_until_new_orders_in_doubt_can_be_looked_for():
    async def work():
        it = Work(books=faulty(answer=Unavailable("timeout")))
        it.desk.give(command("create"))
        async with it.going():
            await until(lambda: it.books.steps["answer"])
            await asyncio.sleep(0.01)
            it.books.faults["find"] = [Unavailable("503")]
            await it.poll_sees("9000")
            assert (it.events(), it.desk.world.polled[-1].failures) == ([], 1)
            await it.poll_sees("9000")
            await until(lambda: not it.desk.open)
        return it.events()

    assert run(work()) == [("9000", 1, ["c1"])]


@pytest.mark.parametrize("kept", [True, False])
def test_a_poll_does_not_wait_for_what_the_erp_cannot_tell(kept):
    async def work():
        it = Work(books=Books(finds=kept))
        given = command("create")
        it.books.do(given)
        it.desk.give(given, sent_at=clock(), attempts=1)
        await it.execute.look()
        it.books.faults["find"] = [Unsupported("no route")]
        await it.poll_sees("9000")
        return it.events()

    assert run(work()) == [("9000", 1, [])]


def test_a_page_without_orders_looks_for_nothing():
    async def work():
        it = Work()
        it.desk.give(command("create"), sent_at=clock(), attempts=1)
        await it.execute.look()
        it.books.polls = [[page()]]
        await it.poll.run_once()
        return it.books.steps["find"]

    assert run(work()) == 0


def test_a_new_order_that_is_not_there_yet_is_nobodys():
    async def work():
        it = Work()
        it.desk.give(command("create"), sent_at=clock(), attempts=1)
        await it.execute.look()
        await it.told(order())
        return it.events()

    assert run(work()) == [("4500", 1, [])]


def test_a_delete_that_a_full_pass_finds_may_be_a_commands():
    async def work():
        it = Work()
        await it.told(order())
        before = it.books.orders.pop("4500")
        it.desk.give(command("cancel"), sent_at=clock(), before={**before.tree(), "remote_version": "1"})
        await it.execute.look()
        for _ in range(2):
            it.books.ids = [()]
            await it.reconcile.run_once()
        return it

    it = run(work())
    assert it.desk.world.told() == ["created", "deleted"]
    assert it.events()[-1][2] == ["c1"]


# Workers that die, stand still, or lose the lease


def test_a_worker_that_stood_still_sends_nothing():
    late = iter([timedelta(0)] * 2 + [timedelta(seconds=16)] + [timedelta(0)] * 99)
    result, it = worked(command("create"), clock=lambda: clock() + next(late))
    assert (result.outcome, result.attempts, it.books.steps["write"]) == (Outcome.APPLIED, 2, 1)
    assert it.desk.problems == ["upstream_down: this worker stood still before it sent it"]


def test_without_the_lease_nothing_is_sent():
    async def work():
        it = Work()
        it.desk.world.lost = True
        it.desk.give(command("create"))
        with pytest.raises(ExceptionGroup) as raised:
            async with it.going() as task:
                await task
        assert [type(each) for each in causes(raised.value)] == [LeaseLost]
        return it

    assert run(work()).books.steps["write"] == 0


def test_what_is_being_done_is_finished_when_the_work_is_stopped_and_nothing_new_begun():
    async def work():
        it = Work(at_once=1)
        it.desk.give(command("create", 1))
        it.desk.give(command("create", 2))
        async with it.going():
            await until(lambda: it.books.steps["write"])
        return it

    it = run(work())
    assert (it.desk.outcomes(), len(it.desk.open)) == ([Outcome.APPLIED], 1)


def test_what_waits_behind_a_page_is_not_begun_when_the_work_is_stopped():
    async def work():
        it = Work()

        async def page():
            async with it.execute.gate.page():
                await it.execute.gate.hold({NEW})
                await asyncio.sleep(5)

        reading = asyncio.create_task(page())
        async with it.going():
            it.desk.give(command("create"))
            it.execute.ring()
            await asyncio.sleep(1)
        await reading
        return it

    assert run(work()).books.steps == {}


# What is told to operators


def test_what_becomes_of_commands_is_logged_without_their_content():
    with capture_logs() as logs:
        worked(
            command("update", order={"notes": "canary"}), before=[order()], books=faulty(answer=Unavailable("reset"))
        )
        worked(command("update", order={"incoterm": "canary"}), before=[order()])
        worked(command("create"), books=faulty(find=Unavailable("503")))
    told = [(each["event"], each.get("outcome")) for each in logs if each["event"].startswith("command.")]
    assert told == [
        ("command.delayed", None),
        ("command.ended", "applied"),
        ("command.ended", "rejected"),
        ("command.delayed", None),
        ("command.ended", "applied"),
    ]
    assert "canary" not in str(logs)
