"""The writers' part of the shared suite: what every connector that writes promises, whatever its ERP.

    Harness(writing=Writing(...)) -> each of SCENARIOS, on an ERP of its own

A scenario is a function of a harness and an ERP, so that a real ERP can be recorded while it runs through them.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import httpx
import pytest

from relay.domain.commands import Command, CommandType, given, read_command
from relay.domain.errors import (
    CredentialsRefused,
    RelayError,
    Throttled,
    Unavailable,
    UnexpectedReply,
    Unsupported,
)
from relay.domain.orders import PurchaseOrder, Status
from relay.domain.permits import refusals
from relay.domain.results import RefusalReason, WriteRefused
from relay.ports import Prepared, Writer
from tests.contract.harness import CANARY, Failing, Harness, Watching, ids_of

Scenario = Callable[[Harness, httpx.AsyncBaseTransport], Awaitable[None]]
SCENARIOS: Final[dict[str, Scenario]] = {}
NOT_SENT: Final = (WriteRefused, Throttled, CredentialsRefused, Unsupported)
"""What says that nothing was written; all else leaves it open."""


def scenario(run: Scenario) -> Scenario:
    SCENARIOS[run.__name__] = run
    return run


class Clerk:
    """Somebody who sends commands through one connector, and looks at what became of them."""

    def __init__(self, harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
        assert harness.writing is not None
        self.harness, self.writing = harness, harness.writing
        self.sent = Watching(erp)
        self.connector = harness.connect(self.sent, **self.writing.settings)
        made = self.connector.writer()
        assert made is not None
        self.writer: Writer = made
        self.count = 0

    def is_write(self, request: httpx.Request) -> bool:
        return not self.harness.is_read(request) and not self.harness.is_login(request)

    @property
    def writes(self) -> int:
        return sum(map(self.is_write, self.sent.requests))

    def command(self, type_: str, of: PurchaseOrder | None = None, /, **said: Any) -> Any:
        self.count += 1
        meant = {"remote_id": of.remote_id} if of else {}
        head = {"type": type_, "command_id": f"contract-{self.count}", "connection_id": "contract"}
        return read_command({**head, **meant, **said})

    def new(self, **said: Any) -> Any:
        order = {**self.writing.order, **said.pop("order", {})}
        return self.command("create", order=order, lines=said.pop("lines", self.writing.lines), **said)

    async def offers(self, type_: str) -> bool:
        """Whether the system has the command; asked once something has been read."""
        await ids_of(self.connector)
        return CommandType(type_) in {each.type for each in self.connector.capabilities().commands}

    async def prepared(self, command: Command, order: PurchaseOrder | None = None) -> Prepared:
        """Checked as relay checks it, and made ready."""
        assert refusals(command, self.connector.capabilities(), order) == ()
        return await self.writer.prepare(command, order)

    async def send(self, command: Command, order: PurchaseOrder | None = None) -> PurchaseOrder:
        read = await self.connector.read(await self.writer.write(await self.prepared(command, order)))
        assert read is not None
        return read

    async def refused(self, command: Command, order: PurchaseOrder | None = None) -> WriteRefused:
        """The refusal of a command that relay itself finds nothing wrong with."""
        with pytest.raises(WriteRefused) as caught:
            await self.writer.write(await self.prepared(command, order))
        assert caught.value.refusals
        return caught.value

    def holds(self, value: Any, part: Any, prefix: str = "") -> None:
        """Everything that was said can be read back, as far as it can be read."""
        readable = {each.path for each in self.connector.capabilities().fields if each.readable}
        for path, wanted in given(value):
            if f"{prefix}{path}" in readable:
                assert same(at(part, path), wanted), path


def at(part: Any, path: str) -> Any:
    for step in path.split("."):
        part = part.get(step) if isinstance(part, Mapping) else getattr(part, step, None)
    return part


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Decimal):
        return found is not None and Decimal(found) == wanted
    return str(found) == str(wanted)


@scenario
async def a_new_order_is_what_was_asked_for(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    command = clerk.new()
    order = await clerk.send(command)
    assert clerk.writes == 1
    clerk.holds(command.order, order)
    assert len(order.lines) == len(command.lines)
    for said, line in zip(command.lines, order.lines, strict=True):
        clerk.holds(said, line, "lines[].")


@scenario
async def a_new_order_is_found_by_its_mark(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    for said in ({}, {"external_reference": "CT-4711"}):
        command = clerk.new(**said)
        assert await clerk.writer.find(command) is None
        order = await clerk.send(command)
        assert clerk.writer.finds
        assert await clerk.writer.find(command) == order.remote_id
        assert await clerk.writer.find(clerk.new()) is None


@scenario
async def preparing_only_reads_and_says_what_would_be_sent(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    order = await clerk.send(clerk.new())
    before = clerk.writes
    for command, of in ((clerk.new(), None), (clerk.command("update", order, order=clerk.writing.update), order)):
        prepared = await clerk.prepared(command, of)
        text = json.dumps(prepared.preview.model_dump(mode="json"))
        assert prepared.preview.method
        assert CANARY not in text + repr(prepared)
    assert clerk.writes == before


@scenario
async def an_update_changes_what_it_says_and_nothing_else(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    order = await clerk.send(clerk.new())
    first = {"remote_id": order.lines[0].remote_id, **clerk.writing.line}
    command = clerk.command("update", order, order=clerk.writing.update, lines=[first])
    changed = await clerk.send(command, order)
    assert clerk.writes == 2
    clerk.holds(command.order, changed)
    clerk.holds(command.lines[0], changed.lines[0], "lines[].")
    assert [line.remote_id for line in changed.lines] == [line.remote_id for line in order.lines]
    assert changed.lines[1:] == order.lines[1:]
    assert (changed.vendor, changed.number) == (order.vendor, order.number)


@scenario
async def lines_come_and_go(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    order = await clerk.send(clerk.new())
    if await clerk.offers("add_lines"):
        more = await clerk.send(clerk.command("add_lines", order, lines=clerk.writing.lines[:1]), order)
        (added,) = [line for line in more.lines if line.remote_id not in {each.remote_id for each in order.lines}]
        clerk.holds(clerk.new().lines[0], added, "lines[].")
        order = more
    if await clerk.offers("update_lines"):
        line = {"remote_id": order.lines[1].remote_id, **clerk.writing.line}
        command = clerk.command("update_lines", order, lines=[line])
        order = await clerk.send(command, order)
        clerk.holds(command.lines[0], order.lines[1], "lines[].")
    if await clerk.offers("cancel_lines"):
        gone = order.lines[0].remote_id
        less = await clerk.send(clerk.command("cancel_lines", order, lines=[gone]), order)
        left = {line.remote_id for line in less.lines if line.status != "cancelled" and not line.remote_was_deleted}
        assert gone not in left


@scenario
async def a_cancelled_order_is_cancelled(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    order = await clerk.send(clerk.new())
    if await clerk.offers("cancel"):
        remote_id = await clerk.writer.write(await clerk.prepared(clerk.command("cancel", order), order))
        assert remote_id == order.remote_id
        after = await clerk.connector.read(remote_id)
        assert after is None or after.remote_was_deleted or after.status is Status.CANCELLED


@scenario
async def an_order_that_changed_after_it_was_read_is_a_conflict(
    harness: Harness, erp: httpx.AsyncBaseTransport
) -> None:
    clerk = Clerk(harness, erp)
    seen = await clerk.send(clerk.new())
    line = {"remote_id": seen.lines[0].remote_id, **clerk.writing.line}
    now = await clerk.send(clerk.command("update_lines", seen, lines=[line]), seen)
    refused = await clerk.refused(clerk.command("update", seen, order=clerk.writing.update), seen)
    assert [each.reason for each in refused.refusals] == [RefusalReason.CONFLICT]
    assert await clerk.connector.read(seen.remote_id) == now


@scenario
async def an_unknown_code_is_refused_by_its_field_and_nothing_is_written(
    harness: Harness, erp: httpx.AsyncBaseTransport
) -> None:
    clerk = Clerk(harness, erp)
    field, order = clerk.writing.unknown
    before = await ids_of(clerk.connector)
    refused = await clerk.refused(clerk.new(order=order))
    assert [(each.reason, each.field) for each in refused.refusals] == [(RefusalReason.VALIDATION, field)]
    assert refused.refusals[0].fix
    assert await ids_of(clerk.connector) == before


def _raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    return answer


FAILURES: Final[Mapping[str, tuple[Callable[[httpx.Request], httpx.Response], type[RelayError], bool]]] = {
    "429": (lambda _: httpx.Response(429, headers={"Retry-After": "70"}), Throttled, True),
    "403": (lambda _: httpx.Response(403), Unsupported, True),
    "502 html": (lambda _: httpx.Response(502, html="<html>Bad Gateway</html>"), Unavailable, False),
    "503": (lambda _: httpx.Response(503), Unavailable, False),
    "200 html": (lambda _: httpx.Response(200, html="<html>Log in</html>"), UnexpectedReply, False),
    "200 half": (lambda _: httpx.Response(200, text='{"result": [1'), UnexpectedReply, False),
    "timeout": (_raising(httpx.ReadTimeout("slow")), Unavailable, False),
    "reset": (_raising(httpx.ReadError("reset")), Unavailable, False),
    "cut": (_raising(httpx.RemoteProtocolError("incomplete body")), Unavailable, False),
    "refused": (_raising(httpx.ConnectError("refused")), Unavailable, True),
}
"""Answers to a write, what each becomes, and whether it says that nothing was written."""


@scenario
async def a_write_that_fails_is_sent_once_and_says_whether_it_is_open(
    harness: Harness, erp: httpx.AsyncBaseTransport
) -> None:
    for name, (answer, error, certain) in FAILURES.items():
        clerk = Clerk(harness, erp)
        clerk.sent.inner = failing = Failing(erp, clerk.is_write, answer)
        with pytest.raises(RelayError) as caught:
            await clerk.send(clerk.new())
        assert failing.failed == 1, name
        assert type(caught.value) is error or isinstance(caught.value, error), name
        assert not isinstance(caught.value, WriteRefused), name
        unsent = isinstance(caught.value, Unavailable) and caught.value.unsent
        assert (isinstance(caught.value, NOT_SENT) or unsent) == certain, name
        assert CANARY not in str(caught.value), name


@scenario
async def a_session_that_ends_before_a_write_costs_a_login_and_no_second_order(
    harness: Harness, erp: httpx.AsyncBaseTransport
) -> None:
    clerk = Clerk(harness, erp)
    before = await ids_of(clerk.connector)
    ended = iter([True])
    clerk.sent.inner = Failing(
        erp, lambda request: clerk.is_write(request) and next(ended, False), lambda _: httpx.Response(401)
    )
    order = await clerk.send(clerk.new())
    assert await ids_of(clerk.connector) - before == {order.remote_id}


@scenario
async def every_command_that_is_offered_says_when(harness: Harness, erp: httpx.AsyncBaseTransport) -> None:
    clerk = Clerk(harness, erp)
    await clerk.send(clerk.new())
    known = clerk.connector.capabilities()
    assert CommandType.CREATE in {each.type for each in known.commands}
    assert len({each.type for each in known.commands}) == len(known.commands)
    assert any(each.required for each in known.fields)
    for each in known.fields:
        assert each.creatable or not each.required, each.path
        assert each.updatable == (each.updatable_until is not None), each.path
