"""Writing to RM: bodies by its contract, its own no sorted, and what is in doubt looked up; over real HTTP."""

import datetime as dt
import json
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import jsonschema
import pytest

from relay.connectors.rm import RM, RmConnector, RmCredentials, RmSettings
from relay.connectors.rm.contract import MOVEMENT, MOVEMENT_UPDATE, schema
from relay.connectors.rm.refusing import refusals_in
from relay.control.given import settings_given
from relay.demo.rm import NewItem
from relay.demo.rm_http import LIST_PATH, RmOptions, simulated_rm
from relay.domain.commands import mark, read_command
from relay.domain.effects import Effect, effect, state
from relay.domain.errors import CredentialsRefused, Throttled, Unavailable, UnexpectedReply, Unsupported, UserError
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import Status
from relay.domain.permits import refusals
from relay.domain.results import RefusalReason, WriteRefused
from relay.ports import Mappings, Pace
from relay.wire.erp import polite_client

MONDAY = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
PACE = Pace(per_second=10_000, burst=10_000, at_once=3, timeout=1)
TWO = [NewItem(1001, 100, 1.25), NewItem(1002, 4, 37.9)]
ORDER = {
    "branch": {"remote_id": "1"},
    "vendor": {"code": "F00012"},
    "payment_terms": {"code": "030"},
    "currency": "BRL",
    "order_date": "2026-11-02",
    "notes": "Peça – urgente",
    "custom_fields": {"FreeField1": "OBRA 17", "complementaryFields.PRIORIDADE": "ALTA"},
}
LINES = [
    {
        "item": {"remote_id": "1001"},
        "quantity": "10",
        "unit": "C62",
        "unit_price": "1.2345",
        "required_date": "2026-12-01",
    },
    {"item": {"code": "01.01.0002"}, "quantity": "2.5", "unit_price": "37.9", "cost_center": "101"},
]
NEW = schema(MOVEMENT)
CHANGE = schema(MOVEMENT_UPDATE)


class Clock:
    def __init__(self):
        self.now = MONDAY

    def __call__(self):
        return self.now

    def tick(self, **amount):
        self.now += dt.timedelta(**amount or {"minutes": 1})


class Office:
    """One simulated RM, one connector to it, and somebody who sends it commands, checked as relay checks them."""

    def __init__(self, erp, client, clock, settings, mapping):
        self.erp, self.client, self.clock = erp, client, clock
        given = {"url": erp.url, "company": 1, "purchase_types": "1.1.10", **settings}
        credentials = RmCredentials(username=erp.username, password=erp.password)
        mappings = Mappings(MappingOverrides(**mapping))
        self.connector = RmConnector(RmSettings(**given), credentials, client, mappings, clock=clock)
        self.writer = self.connector.writer()
        self.count = 0

    def command(self, type_, of=None, **said):
        self.count += 1
        head = {"type": type_, "command_id": f"c{self.count}", "connection_id": "con_1"}
        return read_command({**head, **({"remote_id": of.remote_id} if of else {}), **said})

    def new(self, **said):
        order = {**ORDER, **said.pop("order", {})}
        return self.command("create", order=order, lines=said.pop("lines", LINES), **said)

    async def prepared(self, command, order=None):
        assert refusals(command, self.connector.capabilities(), order) == ()
        return await self.writer.prepare(command, order)

    async def send(self, command, order=None):
        self.clock.tick()
        return await self.connector.read(await self.writer.write(await self.prepared(command, order)))

    async def refused(self, command, order=None):
        before = self.erp.movements()
        with pytest.raises(WriteRefused) as caught:
            await self.writer.write(await self.prepared(command, order))
        assert self.erp.movements() == before
        return caught.value

    async def order(self, items=TWO, **given):
        self.clock.tick()
        company, movement = self.erp.create_order(items, **given)
        return await self.connector.read(f"{company}|{movement}")

    def writes(self):
        """The bodies of the calls that write, the last ones that the ERP saw."""
        sent = [
            each for each in self.erp.seen if each.method in {"POST", "PUT"} and each.path.lower().startswith(LIST_PATH)
        ]
        return [(each.method, json.loads(each.body, parse_float=Decimal) if each.body else None) for each in sent]


@asynccontextmanager
async def office(settings=None, mapping=None, **habits):
    clock = Clock()
    async with simulated_rm(RmOptions(clock=clock, **habits)) as erp, polite_client(PACE) as client:
        erp.seed(0)
        yield Office(erp, client, clock, settings or {}, mapping or {})


def valid(body, by):
    """The body as it goes out, held against the schema; decimals are numbers in it."""
    jsonschema.validate(json.loads(json.dumps(body, default=float)), by)


def lines(order):
    return {line.remote_id: (line.quantity, line.unit_price) for line in order.lines}


# new orders


@pytest.mark.parametrize("misspelt", [True, False])
async def test_a_new_order_is_one_call_by_the_contract_and_reads_back_as_asked_for(misspelt):
    async with office(misspelt=misspelt) as rm:
        await rm.order()
        order = await rm.send(rm.new())
        ((method, body),) = rm.writes()
        held = rm.erp.movement((1, int(order.remote_id.partition("|")[2])))
    assert method == "POST"
    valid(body, NEW)
    assert (body["MovementTypeCode"], body["NetValueCurrencyCode"]) == ("1.1.10", "R$")
    assert body["Items"][0]["UnitPrice"] == Decimal("1.2345")
    assert body["CostumerVendorCode" if misspelt else "CustomerVendorCode"] == "F00012"
    assert (order.status, order.vendor.remote_id, order.notes) == (Status.APPROVED, "0|F00012", "Peça – urgente")
    assert (order.order_date, order.currency, order.payment_terms.code) == (dt.date(2026, 11, 2), "BRL", "030")
    assert order.custom_fields["FreeField1"] == "OBRA 17"
    assert lines(order) == {"1": (10, Decimal("1.2345")), "2": (Decimal("2.5"), Decimal("37.9"))}
    assert (order.lines[1].item.remote_id, order.lines[0].required_date) == ("1002", dt.date(2026, 12, 1))
    assert held["complementaryFields"] == {"PRIORIDADE": "ALTA"}


async def test_a_new_order_is_found_by_its_mark_and_no_other_is():
    async with office({"page_size": 2}) as rm:
        for said in ({}, {"external_reference": "REQ-4711"}):
            command = rm.new(**said)
            assert await rm.writer.find(command) is None
            order = await rm.send(command)
            assert order.custom_fields["FreeField3"] == mark(command)
            for _ in range(3):
                rm.erp.sell()
                await rm.order()
            assert await rm.writer.find(command) == order.remote_id
            assert await rm.writer.find(rm.new()) is None


async def test_a_mark_is_looked_for_among_the_orders_of_the_last_two_months():
    async with office({"page_size": 2}) as rm:
        for _ in range(30):
            await rm.order()
        rm.clock.tick(days=100)
        command = rm.new()
        await rm.order()
        asked = len(rm.erp.seen)
        assert await rm.writer.find(command) is None
        assert len(rm.erp.seen) - asked < 6


async def test_marks_that_were_looked_through_are_not_again():
    async with office({"page_size": 2}, token_lifetime=86_400) as rm:
        for _ in range(30):
            await rm.order()
        rm.clock.tick(hours=2)
        await rm.order()
        commands = [rm.new(), rm.new()]
        assert await rm.writer.find(commands[0]) is None
        rm.clock.tick(hours=2)
        order = await rm.send(commands[1])
        rm.clock.tick(hours=2)
        for _ in range(3):
            await rm.order()
        for command, found in ((commands[0], None), (commands[1], order.remote_id), (rm.new(), None)):
            asked = len(rm.erp.seen)
            assert await rm.writer.find(command) == found
            assert len(rm.erp.seen) - asked == 1


async def test_without_a_field_for_the_mark_nothing_is_found():
    async with office({"reference_field": None}) as rm:
        command = rm.new(order={"custom_fields": {"FreeField3": "mine"}})
        order = await rm.send(command)
        assert order.custom_fields["FreeField3"] == "mine"
        assert not rm.writer.finds
        assert await rm.writer.find(command) is None


async def test_the_field_of_the_mark_is_not_for_others():
    async with office() as rm:
        refused = await rm.refused(rm.new(order={"custom_fields": {"FreeField3": "mine"}}))
        assert refused.refusals[0].message == "custom_fields.FreeField3 keeps the order's own key in this connection"


async def test_of_several_movement_types_a_command_or_a_setting_says_which():
    types = {"purchase_types": "1.1.10,1.1.11"}
    async with office(types) as rm:
        refused = await rm.refused(rm.new())
        assert refused.refusals[0].fix == "Give one of 1.1.10, 1.1.11, or set `create_type`"
        order = await rm.send(rm.new(order={"custom_fields": {"MovementTypeCode": "1.1.11"}}))
        assert rm.erp.movement((1, int(order.remote_id[2:])))["MovementTypeCode"] == "1.1.11"
    async with office({**types, "create_type": "1.1.11"}) as rm:
        order = await rm.send(rm.new())
        assert rm.erp.movement((1, int(order.remote_id[2:])))["MovementTypeCode"] == "1.1.11"
    with pytest.raises(UserError, match=r"create_type 1\.1\.12 is none of purchase_types"):
        settings_given(RM, {"url": "http://erp.example", "company": 1, **types, "create_type": "1.1.12"})


async def test_a_vendor_is_named_by_code_or_by_company_and_code():
    async with office({"vendor_company": 1}) as rm:
        assert (await rm.send(rm.new())).vendor.remote_id == "1|F00012"
        order = {"vendor": {"remote_id": "0|F00013"}}
        assert (await rm.send(rm.new(order=order))).vendor.remote_id == "0|F00013"
        assert (await rm.send(rm.new(order={"vendor": {"remote_id": "F00013"}}))).vendor.remote_id == "1|F00013"
        refused = await rm.refused(rm.new(order={"vendor": {"remote_id": "x|F1"}}))
        assert refused.refusals[0].fix == "Write it so, or give vendor.code"


async def test_values_that_the_contract_cannot_hold_are_refused_before_anything_is_sent():
    async with office() as rm:
        command = rm.new(
            order={
                "branch": {"remote_id": "one"},
                "currency": "USD",
                "custom_fields": {
                    "Nowhere": "x",
                    "NetValue": "1",
                    "ProjectId": "1.5",
                    "Printed": "yes",
                    "ExtraDate1": "soon",
                },
            },
            lines=[{**LINES[0], "unit": "XBX"}, {**LINES[1], "custom_fields": {"NetValue": "1"}}],
        )
        refused = await rm.refused(command)
        assert {(each.field, each.message.partition(" ")[2]) for each in refused.refusals} == {
            ("branch.remote_id", "must be a number"),
            ("currency", "USD has no code of RM in the mapping"),
            ("custom_fields.Nowhere", "is nothing that RM takes"),
            ("custom_fields.NetValue", "is nothing that RM takes"),
            ("custom_fields.ProjectId", "must be a whole number"),
            ("custom_fields.Printed", "must be true or false"),
            ("custom_fields.ExtraDate1", "must be a day, as 2026-01-31, or a time, as 2026-01-31T12:00:00"),
            ("lines[0].unit", "XBX has no code of RM in the mapping"),
            ("lines[1].custom_fields.NetValue", "is nothing that RM takes"),
        }
        assert rm.writes() == []


async def test_own_fields_go_out_as_the_contract_types_them():
    mapping = {"currencies": {"US$": "USD"}, "units": {"CX": "XBX"}, "fields": {"complementaryFields.PESO": "number"}}
    own = {
        "ProjectId": "7",
        "Printed": True,
        "ExtraDate1": "2026-11-05",
        "ExtraDate2": "2026-11-05T08:30:00",
        "OtherValues": "12.50",
        "complementaryFields.PESO": "1.5",
    }
    async with office(mapping=mapping) as rm:
        order = {"currency": "USD", "custom_fields": own, "delivery_date": "2026-12-24"}
        await rm.send(rm.new(order=order, lines=[{**LINES[0], "unit": "XBX"}]))
        ((_, body),) = rm.writes()
    valid(body, NEW)
    assert {name: body[name] for name in ("ProjectId", "Printed", "ExtraDate1", "ExtraDate2", "DeliveryDate")} == {
        "ProjectId": 7,
        "Printed": True,
        "ExtraDate1": "2026-11-05T00:00:00",
        "ExtraDate2": "2026-11-05T08:30:00",
        "DeliveryDate": "2026-12-24T00:00:00",
    }
    assert (body["OtherValues"], body["complementaryFields"]) == (Decimal("12.50"), {"PESO": Decimal("1.5")})
    assert (body["NetValueCurrencyCode"], body["Items"][0]["MeasureUnitCode"]) == ("US$", "CX")


async def test_what_would_be_sent_is_shown_and_nothing_is_written():
    async with office() as rm:
        preview = (await rm.prepared(rm.new())).preview
        assert (preview.method, preview.path) == ("POST", LIST_PATH)
        assert preview.body["Items"][0]["UnitPrice"] == "1.2345"
        order = await rm.order()
        preview = (await rm.prepared(rm.command("update", order, order={"notes": "x"}), order)).preview
        assert (preview.method, preview.path) == ("PUT", f"/api/mov/v1/Movements/1%7C{order.remote_id[2:]}")
        preview = (await rm.prepared(rm.command("cancel", order), order)).preview
        assert preview.path == f"/api/mov/v1/Movements/Cancel/1%7C{order.remote_id[2:]}"
        assert rm.writes() == []


# changes


@pytest.mark.parametrize(
    "habits", [{"lines": "replace"}, {"lines": "merge"}, {"loud": False}, {"misspelt": False}], ids=str
)
async def test_changes_of_header_and_lines_are_one_call_and_change_nothing_else(habits):
    async with office(**habits) as rm:
        before = await rm.order(fields={"complementaryFields": {"A": "1", "B": "2"}, "FreightValue": 7.5})
        command = rm.command(
            "update",
            before,
            order={"notes": "novo", "payment_terms": {"code": "060"}, "custom_fields": {"complementaryFields.B": "3"}},
            lines=[{"remote_id": "2", "quantity": "5", "item": {"code": "01.02.0001"}}],
        )
        after = await rm.send(command, before)
        ((method, body),) = rm.writes()
        held = rm.erp.movement((1, int(before.remote_id[2:])))
    assert method == "PUT"
    valid(body, CHANGE)
    assert (after.notes, after.payment_terms.code, after.freight_total) == ("novo", "060", Decimal("7.50"))
    assert held["complementaryFields"] == {"A": "1", "B": "3"}
    assert lines(after) == {"1": (100, Decimal("1.25")), "2": (5, Decimal("37.9"))}
    assert after.lines[1].item.remote_id == "1003"
    assert after.lines[0] == before.lines[0]
    assert (after.branch, after.currency, after.vendor) == (before.branch, before.currency, before.vendor)
    assert effect(command, state(before), state(after), rm.connector.capabilities()) is Effect.YES


async def test_lines_are_added_changed_and_taken_out():
    async with office() as rm:
        order = await rm.order()
        more = await rm.send(rm.command("add_lines", order, lines=LINES), order)
        assert lines(more).keys() == {"1", "2", "3", "4"}
        changed = await rm.send(rm.command("update_lines", more, lines=[{"remote_id": "3", "quantity": "7"}]), more)
        assert lines(changed)["3"] == (7, Decimal("1.2345"))
        less = await rm.send(rm.command("cancel_lines", changed, lines=["1", "4"]), changed)
        assert lines(less) == {"2": (4, Decimal("37.9")), "3": (7, Decimal("1.2345"))}
        assert [method for method, _ in rm.writes()] == ["PUT"] * 3
        for _, body in rm.writes():
            valid(body, CHANGE)


async def test_the_last_line_is_not_taken_out_and_kept_ones_are_told():
    async with office() as rm:
        order = await rm.order()
        refused = await rm.refused(rm.command("cancel_lines", order, lines=["1", "2"]), order)
        assert refused.refusals[0].fix == "Cancel the order instead"
    async with office(lines="merge") as rm:
        order = await rm.order()
        with pytest.raises(WriteRefused, match="RM has kept the lines") as caught:
            await rm.send(rm.command("cancel_lines", order, lines=["1"]), order)
        assert caught.value.refusals[0].reason is RefusalReason.NOT_PERMITTED


async def test_fields_are_emptied_by_null():
    async with office() as rm:
        order = await rm.order(fields={"Observation": "alt", "DiscountValue": 3, "DeliveryWarehouseCode": "02"})
        said = {"notes": None, "discount_total": None, "ship_to": None, "delivery_date": None}
        after = await rm.send(rm.command("update", order, order=said), order)
        ((_, body),) = rm.writes()
        valid({name: value for name, value in body.items() if value is not None or name == "DeliveryDate"}, CHANGE)
        assert (after.notes, after.ship_to, after.delivery_date) == (None, None, None)
        assert after.discount_total == 0


async def test_an_order_that_changed_after_it_was_read_is_a_conflict():
    async with office() as rm:
        seen = await rm.order()
        rm.erp.change_line((1, int(seen.remote_id[2:])), 1, {"Quantity": 99})
        refused = await rm.refused(rm.command("update", seen, order={"notes": "x"}), seen)
        assert [each.reason for each in refused.refusals] == [RefusalReason.CONFLICT]
        rm.erp.delete((1, int(seen.remote_id[2:])))
        refused = await rm.refused(rm.command("update", seen, order={"notes": "x"}), seen)
        assert refused.refusals[0].field == "remote_id"


async def test_a_cancelled_order_stays_and_cannot_be_changed():
    async with office() as rm:
        order = await rm.order()
        command = rm.command("cancel", order, reason="Ordered twice.")
        after = await rm.send(command, order)
        assert after.status is Status.CANCELLED
        assert rm.writes() == [("POST", None)]
        assert effect(command, state(order), state(after), rm.connector.capabilities()) is Effect.YES
        refused, *_ = refusals(rm.command("update", after, order={"notes": "x"}), rm.connector.capabilities(), after)
        assert refused.message == (
            "update is for orders that are pending_approval or approved, and this one is cancelled"
        )


async def test_what_rm_has_no_process_for_is_not_offered():
    async with office() as rm:
        order = await rm.order()
        for type_ in ("approve", "reject", "close"):
            command = rm.command(type_, order)
            (refused,) = refusals(command, rm.connector.capabilities(), order)
            assert refused.message == f"rm has no command {type_}"
            with pytest.raises(Unsupported):
                await rm.writer.prepare(command, order)


async def test_a_field_that_is_given_once_is_refused_by_the_capabilities_and_by_the_writer():
    async with office() as rm:
        order = await rm.order()
        command = rm.command("update", order, order={"branch": {"remote_id": "2"}})
        (refused,) = refusals(command, rm.connector.capabilities(), order)
        assert refused.message == "branch.remote_id is given once, to something new, and stays as it is"
        own = rm.command("update", order, order={"custom_fields": {"BaseDate": "2026-01-01"}})
        told = await rm.refused(own, order)
        assert [(each.reason, each.field) for each in told.refusals] == [
            (RefusalReason.NOT_WRITABLE_FIELD, "custom_fields.BaseDate")
        ]


# what RM refuses


REFUSED = [
    ({"order": {"vendor": {"code": "F99999"}}}, "vendor.code", "vendor.code is not in the ERP"),
    ({"order": {"vendor": {"code": "F00099"}}}, "vendor.code", "vendor.code is inactive in the ERP"),
    ({"order": {"payment_terms": {"code": "999"}}}, "payment_terms.code", "payment_terms.code is refused by the ERP"),
    ({"order": {"branch": {"remote_id": "9"}}}, "branch.remote_id", "branch.remote_id is not in the ERP"),
    (
        {"lines": [LINES[0], {**LINES[0], "item": {"remote_id": "77"}}]},
        "lines[1].item.remote_id",
        "lines[1].item.remote_id is not in the ERP",
    ),
    ({"lines": [{**LINES[0], "quantity": "0"}]}, "lines[0].quantity", "lines[0].quantity must be above zero"),
    ({"lines": [{**LINES[0], "unit_price": "0"}]}, "lines[0].unit_price", "lines[0].unit_price must be above zero"),
]


@pytest.mark.parametrize("charset", ["utf-8", "cp1252-silent"])
@pytest.mark.parametrize(("said", "field", "message"), REFUSED, ids=[field for _, field, _ in REFUSED])
async def test_a_business_error_is_a_refusal_with_its_field_and_rms_own_words(said, field, message, charset):
    async with office(charset=charset) as rm:
        refused = await rm.refused(rm.new(**said))
        (refusal,) = refused.refusals
        assert (refusal.reason, refusal.field, refusal.message) == (RefusalReason.VALIDATION, field, message)
        assert refusal.fix
        assert refused.said


async def test_the_line_at_fault_is_the_commands_own():
    async with office() as rm:
        order = await rm.order()
        bad = {**LINES[0], "unit_price": "0"}
        refused = await rm.refused(rm.command("add_lines", order, lines=[LINES[1], bad]), order)
        assert refused.refusals[0].field == "lines[1].unit_price"
        refused = await rm.refused(
            rm.command("update_lines", order, lines=[{"remote_id": "2", "quantity": "0"}]), order
        )
        assert refused.refusals[0].field == "lines[0].quantity"


async def test_a_status_that_turned_meanwhile_is_rms_to_refuse():
    async with office() as rm:
        order = await rm.order()
        key = (1, int(order.remote_id[2:]))
        for change in ("update", "cancel"):
            said = {"order": {"notes": "x"}} if change == "update" else {}
            prepared = await rm.prepared(rm.command(change, order, **said), order)
            if change == "update":
                rm.erp.receive(key, 1, 5)
            with pytest.raises(WriteRefused) as caught:
                await rm.writer.write(prepared)
            assert [(each.reason, each.field) for each in caught.value.refusals] == [
                (RefusalReason.WORKFLOW_STATE, "status")
            ]
        prepared = await rm.prepared(rm.command("cancel", order), order)
        rm.erp.delete(key)
        with pytest.raises(WriteRefused, match="no such movement"):
            await rm.writer.write(prepared)


@pytest.mark.parametrize(
    ("words", "reason", "field"),
    [
        ("O campo BranchId não pode ser alterado.", "not_writable_field", "branch.remote_id"),
        ("O campo IDSUBSTRATO não pode ser alterado.", "not_writable_field", None),
        ("O usuário relay não tem permissão para incluir movimentos", "not_permitted", None),
        ("O movimento já foi faturado.", "workflow_state", "status"),
        ("Local de Estoque 99 não cadastrado", "validation", "lines[].warehouse"),
        ("Registro inexistente - TMOV.CODCPG", "validation", "payment_terms.code"),
        ("O movimento deve possuir ao menos um item.", "validation", None),
        ("Tempo limite de execução excedido (Produto não encontrado)", None, None),
        ("Object reference not set to an instance of an object.", None, None),
        ("Registro em uso por outro usuário", None, None),
        ("Ocorreu um erro inesperado", None, None),
    ],
)
def test_only_what_is_recognisably_a_no_is_one(words, reason, field):
    found = [(str(each.reason), each.field) for each in refusals_in(words, {}, {"BranchId": "branch.remote_id"})]
    assert found == ([(reason, field)] if reason else [])


# faults

OPEN = [
    "500_ttalk",
    "500_error_code",
    "html",
    "html_200",
    "503",
    "empty",
    "200_status_400",
    "reset",
    "timeout",
    "truncated",
    "short",
]


@pytest.mark.parametrize("when", ["", "after "])
@pytest.mark.parametrize("fault", OPEN)
async def test_an_answer_that_says_nothing_leaves_it_open_and_the_mark_tells(fault, when):
    async with office() as rm:
        command = rm.new()
        prepared = await rm.prepared(command)
        rm.erp.faults.next(when + fault, on="create")
        with pytest.raises((Unavailable, UnexpectedReply)) as caught:
            await rm.writer.write(prepared)
        assert not getattr(caught.value, "unsent", False)
        written = bool(when) or fault in {"truncated", "short"}
        assert len(rm.erp.movements()) == written
        found = await rm.writer.find(command)
        assert (found is not None) == written
        assert len(rm.writes()) == 1


@pytest.mark.parametrize("when", ["", "after "])
async def test_a_change_whose_answer_is_lost_is_told_by_the_order(when):
    async with office() as rm:
        before = await rm.order()
        for command in (
            rm.command("update", before, order={"notes": "novo"}, lines=[{"remote_id": "1", "quantity": "7"}]),
            rm.command("add_lines", before, lines=LINES),
            rm.command("cancel_lines", before, lines=["1"]),
            rm.command("cancel", before),
        ):
            order = await rm.order()
            moved = command.model_copy(update={"remote_id": order.remote_id})
            prepared = await rm.prepared(moved, order)
            rm.erp.faults.next(f"{when}reset", on="cancel" if moved.type == "cancel" else "update")
            rm.clock.tick()
            with pytest.raises(Unavailable):
                await rm.writer.write(prepared)
            now = await rm.connector.read(order.remote_id)
            found = effect(moved, state(order), state(now), rm.connector.capabilities())
            assert found is (Effect.YES if when else Effect.NO), moved.type


@pytest.mark.parametrize(
    ("fault", "error"), [("429", Throttled), ("503_retry_after", Throttled), ("404", WriteRefused)]
)
async def test_an_answer_that_says_no_write_is_certain(fault, error):
    async with office() as rm:
        order = await rm.order()
        prepared = await rm.prepared(rm.command("update", order, order={"notes": "x"}), order)
        rm.erp.faults.next(fault, on="update")
        with pytest.raises(error):
            await rm.writer.write(prepared)


def answering(status, **content):
    def answer(request):
        if request.method == "GET":
            return httpx.Response(404, json={"code": "404", "message": "Movimento não localizado"})
        return httpx.Response(status, **content)

    return answer


async def answered(answer):
    settings = RmSettings(url="http://erp.example", company=1, purchase_types="1.1.10", login="basic")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        writer = RmConnector(settings, RmCredentials(username="a", password="b"), client).writer()
        command = read_command(
            {"type": "create", "command_id": "1", "connection_id": "c", "order": ORDER, "lines": LINES}
        )
        return await writer.write(await writer.prepare(command, None))


async def test_a_movement_in_use_was_not_written_and_may_be_tried_again():
    busy = answering(500, json={"code": "FE1", "message": "Registro em uso por outro usuário"})
    with pytest.raises(Unavailable, match="in use") as caught:
        await answered(busy)
    assert caught.value.unsent


async def test_a_400_with_rms_words_is_refused_whatever_it_says():
    with pytest.raises(WriteRefused, match="RM refuses it") as caught:
        await answered(answering(400, json={"code": "FE1", "message": "Formato inesperado\nda linha"}))
    assert caught.value.said == "Formato inesperado da linha"
    with pytest.raises(UnexpectedReply):
        await answered(answering(400, html="<html>Bad Request</html>"))
    with pytest.raises(Unsupported):
        await answered(answering(404, json={"code": "404", "message": "Recurso não encontrado"}))
    for status, error in ((401, CredentialsRefused), (403, Unsupported)):
        with pytest.raises(error):
            await answered(answering(status))


async def test_a_session_that_ends_before_a_write_costs_a_login_and_no_second_order():
    async with office() as rm:
        command = rm.new()
        prepared = await rm.prepared(command)
        await rm.connector.read("1|1")
        rm.erp.login.expire_tokens()
        await rm.writer.write(prepared)
        assert len(rm.erp.movements()) == 1
        assert rm.erp.login.refreshes == 1
