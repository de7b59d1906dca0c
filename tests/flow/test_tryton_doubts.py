"""Tryton changed by others, and answers that are lost: what is refused, and what is known afterwards."""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from relay.domain.errors import Unavailable
from relay.domain.pace import READING
from relay.domain.results import RefusalReason, WriteRefused
from tests.fixtures.sockets import request_of, reset
from tests.fixtures.tryton_writing import purchasing

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(300)]


@pytest.fixture
async def erp(tryton_erp):
    async with purchasing(tryton_erp) as ready:
        yield ready


# what changed meanwhile


async def test_a_header_or_a_line_that_somebody_changed_is_a_conflict(tryton_erp, erp):
    order = await erp.create()
    line = order.lines[0].remote_id
    changes = (
        lambda: tryton_erp.buyer.set_reference(int(order.remote_id), "OUTRO"),
        lambda: tryton_erp.buyer.change_line(int(line), quantity=8.0),  # the header's stamp keeps still
    )
    for change in changes:
        seen = await erp.read(order.remote_id)
        prepared = await erp.writer.prepare(
            erp.command("update_lines", order.remote_id, lines=[{"remote_id": line, "quantity": "9"}]), seen
        )
        await change()
        with pytest.raises(WriteRefused) as refused:
            await erp.writer.write(prepared)
        (only,) = refused.value.refusals
        assert (only.reason, only.message) == (
            RefusalReason.CONFLICT,
            "the order was changed in Tryton after it was read",
        )
        assert refused.value.said == "Records were modified in the meanwhile"
        now = await erp.read(order.remote_id)
        assert now.remote_version != seen.remote_version
        early = await erp.refused("cancel", seen)
        assert (early.reason, early.field) == (RefusalReason.CONFLICT, "expected_version")
    assert now.lines[0].quantity == Decimal(8)


async def test_an_order_and_a_line_that_are_gone_are_named(tryton_erp, erp):
    order = await erp.create()
    refusal = await erp.refused("update_lines", order, lines=[{"remote_id": "9999", "quantity": "9"}])
    assert (refusal.field, refusal.message) == ("lines[0].remote_id", "the order has no line 9999")
    line = order.lines[0].remote_id
    command = erp.command("cancel_lines", order.remote_id, lines=[line])
    prepared = await erp.writer.prepare(command, order)
    await tryton_erp.buyer.delete_line(int(line))
    with pytest.raises(WriteRefused) as refused:
        await erp.writer.write(prepared)
    assert refused.value.refusals[0].reason is RefusalReason.CONFLICT
    seen = await erp.read(order.remote_id)
    await tryton_erp.buyer.delete(int(order.remote_id))
    refusal = await erp.refused("cancel", seen)
    assert (refusal.reason, refusal.message) == (RefusalReason.CONFLICT, "the order is gone from Tryton")


async def test_of_writers_that_race_for_one_version_one_wins(erp):
    order = await erp.create()
    line = order.lines[0].remote_id
    commands = [
        erp.command("update_lines", order.remote_id, lines=[{"remote_id": line, "quantity": str(each)}])
        for each in range(1, 7)
    ]
    prepared = [await erp.writer.prepare(each, order) for each in commands]
    ends = await asyncio.gather(*map(erp.writer.write, prepared), return_exceptions=True)
    won = [number for number, end in enumerate(ends, 1) if end == order.remote_id]
    lost = [end for end in ends if isinstance(end, WriteRefused)]
    assert (len(won), len(lost)) == (1, 5)
    assert {each.reason for end in lost for each in end.refusals} == {RefusalReason.CONFLICT}
    assert (await erp.read(order.remote_id)).lines[0].quantity == won[0]


# what is known when an answer is lost


async def test_a_new_order_is_found_by_its_mark_among_the_companys_own(tryton_erp, erp):
    command = erp.creating(external_reference="WEB-5")
    assert await erp.writer.find(command) is None
    remote_id = await erp.send(command)
    assert await erp.writer.find(command) == remote_id
    nameless = erp.creating()
    made = await erp.send(nameless)
    assert await erp.writer.find(nameless) == made
    assert (await erp.read(made)).custom_fields["reference"].startswith("rl-")
    async with purchasing(tryton_erp, company=77) as foreign:
        assert await foreign.writer.find(command) is None


async def test_another_field_may_keep_the_mark_and_without_one_nothing_is_made(tryton_erp):
    async with purchasing(tryton_erp, mark_field="description") as erp:
        order = await erp.create(external_reference="WEB-6", order={"custom_fields": {"reference": "minha"}})
        assert order.custom_fields == {"description": "WEB-6", "reference": "minha"}
    for name in ("x_relay", "purchase_date", "number"):
        async with purchasing(tryton_erp, mark_field=name) as erp:
            refusal = await erp.refusal(erp.creating())
            assert (refusal.reason, refusal.field) == (RefusalReason.NOT_PERMITTED, "external_reference")
            assert refusal.message == f"no key of a new order can be kept in {name}"
            with pytest.raises(WriteRefused):
                await erp.writer.find(erp.creating())
            assert len(await erp.ids()) == 1


@asynccontextmanager
async def cutting(serve, erp, how):
    """A proxy in front of Tryton that lets `how` deal with the next create's request: once."""
    left = [how]

    async def passed(head, body):
        to_erp, from_erp = (await asyncio.open_connection("127.0.0.1", erp.port))[::-1]
        to_erp.write(head.replace(b"Connection: keep-alive", b"Connection: close") + body)
        answer = await from_erp.read()
        to_erp.close()
        return answer

    async def behave(reader, writer):
        head, body = await request_of(reader)
        if b"purchase.create" in body and left:
            await left.pop()(lambda: passed(head, body), writer)
        else:
            writer.write(await passed(head, body))
            await writer.drain()

    server = await serve(behave, path="")
    async with purchasing(erp, url=server.url) as ready:
        yield ready


async def before(_passed, writer):
    reset(writer)


async def after(passed, writer):
    await passed()
    reset(writer)


async def halfway(passed, writer):
    answer = await passed()
    writer.write(answer[:-5])
    await writer.drain()


@pytest.mark.parametrize(("how", "done"), [(before, False), (after, True), (halfway, True)])
async def test_when_an_answer_is_lost_the_mark_tells_whether_the_order_is_there(tryton_erp, serve, how, done):
    async with cutting(serve, tryton_erp, how) as erp:
        command = erp.creating()
        with pytest.raises(Unavailable) as lost:
            await erp.send(command)
        assert not lost.value.unsent
        ids = await erp.ids()
        assert len(ids) == done
        assert await erp.writer.find(command) == (ids[0] if done else None)


async def test_a_server_that_is_down_was_sent_nothing(tryton_erp, erp):
    prepared = await erp.writer.prepare(erp.creating(), None)
    await tryton_erp.stop()
    with pytest.raises(Unavailable) as down:
        await erp.writer.write(prepared)
    assert down.value.unsent
    await tryton_erp.start()
    assert await erp.ids() == []
    assert await erp.writer.write(prepared) == "1"


async def test_a_session_that_ended_is_renewed_and_the_order_is_made_once(tryton_erp, erp):
    prepared = await erp.writer.prepare(erp.creating(), None)
    await tryton_erp.buyer.set_password(tryton_erp.username, tryton_erp.password)  # ends its sessions
    assert await erp.writer.write(prepared) == "1"
    assert await erp.ids() == ["1"]


async def test_writes_are_never_marked_as_reads_and_are_sent_once(erp):
    await erp.do("approve", await erp.create())
    writes = [each for each in erp.requests if any(name in each.content for name in WRITING)]
    assert len(writes) == 3
    assert not any(each.extensions.get(READING) for each in writes)
    reads = [each for each in erp.requests if each not in writes and b"login" not in each.content]
    assert all(each.extensions.get(READING) for each in reads)


WRITING = (b"purchase.purchase.create", b"purchase.purchase.quote", b"purchase.purchase.confirm")


async def test_what_was_found_is_not_asked_for_again(erp):
    for command in (erp.creating(), erp.creating()):
        asked = len(erp.requests)
        await erp.writer.prepare(command, None)
    assert len(erp.requests) - asked == 1  # what the vendor's last orders suggest is asked each time
