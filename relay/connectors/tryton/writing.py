"""Tryton, written to: a command becomes one call, header and lines in one transaction, guarded by their stamps.

    create                                          purchase.create with the lines inside
    update, add_lines, update_lines, cancel_lines   purchase.write with the lines inside: the header's stamp moves
    cancel, approve                                 the buttons cancel, quote and confirm

The stamps go along in the context, and Tryton refuses when one of them is not the record's any more. Lines are guarded
by their own, because a line that somebody writes directly does not move its order's.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.connectors.tryton.bodies import (
    Values,
    check_type,
    header_values,
    line_values,
    refusal,
    wanted_of_line,
    wanted_of_order,
)
from relay.connectors.tryton.calls import Call, Ready
from relay.connectors.tryton.choices import Choices
from relay.connectors.tryton.own import completed
from relay.connectors.tryton.references import References
from relay.connectors.tryton.refusals import Sent, refused
from relay.connectors.tryton.rpc import ErpSaidNo, Rpc, dressed
from relay.connectors.tryton.schema import Schema
from relay.connectors.tryton.stamps import stamps_of
from relay.connectors.tryton.watch import listed
from relay.domain.commands import (
    AddLines,
    Approve,
    Cancel,
    CancelLines,
    Command,
    Create,
    LineGiven,
    OrderGiven,
    Update,
    UpdateLines,
    mark,
)
from relay.domain.errors import UnexpectedReply
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.domain.results import Preview, RefusalReason
from relay.ports import Prepared

PURCHASE: Final = "model.purchase.purchase."
_TEXTS: Final = frozenset({"char", "text"})


@dataclass(slots=True)
class TrytonWriter:
    """Writes purchases of one database as one user; `known` gives what this Tryton has."""

    rpc: Rpc
    known: Callable[[], Awaitable[Schema]]
    own: MappingOverrides
    company: int | None
    mark_field: str
    clock: Callable[[], float] = time.monotonic
    _references: References = field(init=False)
    _choices: Choices = field(init=False)

    def __post_init__(self) -> None:
        self.own = completed(self.own)
        self._references = References(self.rpc, self.clock)
        self._choices = Choices(self.rpc, self.company, self.clock)

    @property
    def finds(self) -> bool:
        """A new order is not made where its mark cannot be kept; see `Writer.finds`."""
        return True

    async def prepare(self, command: Command, order: PurchaseOrder | None) -> Prepared:
        """The calls of this command; see `Writer.prepare`."""
        schema = await self.known()
        try:
            ready = await self._ready(command, order, schema)
        except ErpSaidNo as error:
            raise refused(error, Sent(schema.header, schema.line, {})) from None
        bodies = [{"method": call.method, "params": dressed([*call.params, call.context])} for call in ready.calls]
        preview = Preview(method="POST", path=self.rpc.path, body=bodies[0] if len(bodies) == 1 else bodies)
        return Prepared(preview, ready)

    async def write(self, prepared: Prepared) -> str:
        """Send it; see `Writer.write`."""
        ready: Ready = prepared.inner
        result = None
        for number, call in enumerate(ready.calls):
            try:
                result = await self.rpc.change(call.method, *call.params, context=call.context)
            except ErpSaidNo as error:
                if number and ready.undo:
                    await self._undo(ready.undo)
                raise refused(error, ready.sent) from None
        match ready.remote_id, result:
            case str() as remote_id, _:
                await self._check_clicked(ready.calls[-1], remote_id)
                return remote_id
            case _, [int() as made]:
                return str(made)
        raise UnexpectedReply("Tryton made an order and did not tell its id")

    async def find(self, command: Create) -> str | None:
        """The order that bears the command's mark, the newest when there are several; see `Writer.find`."""
        self._check_mark(await self.known())
        domain: list[Any] = [[self.mark_field, "=", mark(command)]]
        if self.company is not None:
            domain.append(["company", "=", self.company])
        found = await self.rpc.call(f"{PURCHASE}search_read", domain, 0, 1, [["id", "DESC"]], ["id"])
        return next((str(each["id"]) for each in listed(found)), None)

    async def _ready(self, command: Command, order: PurchaseOrder | None, schema: Schema) -> Ready:
        match command:
            case Create():
                return await self._create(command, schema)
            case Cancel():
                return await self._buttons(order, ("cancel",), schema)
            case Approve():
                draft = order is not None and order.status_raw == "draft"
                return await self._buttons(order, ("quote", "confirm") if draft else ("confirm",), schema)
            case Update() | AddLines() | UpdateLines() | CancelLines():
                return await self._change(command, order, schema)
        message = f"Tryton has no {command.type} of a purchase order"
        raise refusal("type", message, "use a command that the connection offers", RefusalReason.NOT_PERMITTED)

    async def _create(self, command: Create, schema: Schema) -> Ready:
        check_type(command.order, command.lines)
        context = await self._choices.company(command.order)
        found = await self._found(command.order, command.lines)
        given = header_values(command.order, found, schema.header, self.own.fields)
        if given.get("party") is None:
            raise refusal("vendor", "a new order needs a vendor", "give vendor.remote_id or vendor.code")
        header = {**await self._choices.by_vendor(given, context), **given, "company": context["company"]}
        header |= self._marked(command, given, schema)
        parent = {name: header.get(name) for name in ("party", "company", "currency")}
        lines = await self._new_lines(command.lines, found, parent, context, schema)
        body = {**header, "lines": [["create", list(lines.values())]]}
        return Ready((Call(f"{PURCHASE}create", ([body],), context),), Sent(schema.header, schema.line, lines), None)

    async def _change(
        self, command: Update | AddLines | UpdateLines | CancelLines, order: PurchaseOrder | None, schema: Schema
    ) -> Ready:
        stamped = await stamps_of(self.rpc, order)
        if isinstance(command, AddLines | CancelLines) and order and order.status_raw != "draft":
            message = f"lines come and go in the state draft, and this order is in {order.status_raw}"
            raise refusal("lines", message, "take it back to draft in Tryton first", RefusalReason.WORKFLOW_STATE)
        context = await self._choices.context(stamped.parent["company"])
        header = command.order if isinstance(command, Update) else OrderGiven()
        found = await self._found(header, () if isinstance(command, CancelLines) else command.lines)
        touched: list[int] = []
        lines: dict[str, Values] = {}
        match command:
            case AddLines():
                lines = await self._new_lines(command.lines, found, stamped.parent, context, schema)
                steps: list[Any] = [["create", list(lines.values())]]
            case CancelLines():
                touched = stamped.ids(command.lines, "lines[{}]")
                steps = [["delete", touched]]
            case _:
                touched = stamped.ids([line.remote_id for line in command.lines], "lines[{}].remote_id")
                lines = {
                    place: line_values(line, place, found, schema.line, self.own.line_fields)
                    for place, line in _placed(command.lines)
                }
                steps = [["write", [number], values] for number, values in zip(touched, lines.values(), strict=True)]
        body = header_values(header, found, schema.header, self.own.fields) | ({"lines": steps} if steps else {})
        call = Call(f"{PURCHASE}write", ([stamped.id], body), stamped.guarded(context, touched))
        return Ready((call,), Sent(schema.header, schema.line, lines), str(stamped.id))

    async def _buttons(self, order: PurchaseOrder | None, names: Sequence[str], schema: Schema) -> Ready:
        stamped = await stamps_of(self.rpc, order)
        context = await self._choices.context(stamped.parent["company"])
        # The first one moves the stamp. Each is safe to repeat: Tryton takes it in one state only.
        contexts = [stamped.guarded(context), *(context for _ in names[1:])]
        calls = [Call(f"{PURCHASE}{name}", ([stamped.id],), each) for name, each in zip(names, contexts, strict=True)]
        undo = Call(f"{PURCHASE}draft", ([stamped.id],), context)
        return Ready(tuple(calls), Sent(schema.header, schema.line, {}), str(stamped.id), undo)

    async def _undo(self, call: Call) -> None:
        """Take the first step back, so that a refused command has changed nothing but the order's number."""
        try:
            await self.rpc.change(call.method, *call.params, context=call.context)
        except ErpSaidNo as error:
            if error.said.startswith('You can not call "draft"'):
                return  # It is one: a rule of the button let nothing be quoted.
            raise UnexpectedReply(f"an order that was quoted could not be taken back to draft: {error}") from None

    async def _check_clicked(self, call: Call, remote_id: str) -> None:
        """A button with a rule answers as if it had done its work, and waits for more people to press it."""
        if call.method != f"{PURCHASE}confirm":
            return
        domain = [["id", "=", int(remote_id)]]
        found = listed(await self.rpc.call(f"{PURCHASE}search_read", domain, 0, 1, None, ["state"]))
        if found and found[0].get("state") == "quotation":
            message = "Tryton waits for more people to confirm this order: its button has a rule"
            raise refusal("status", message, "let them confirm it in Tryton", RefusalReason.WORKFLOW_STATE)

    async def _found(self, order: OrderGiven, lines: Sequence[LineGiven]) -> dict[str, int]:
        wanted = list(wanted_of_order(order, self.own))
        for place, line in _placed(lines):
            wanted += wanted_of_line(line, place, self.own)
        return await self._references.find(wanted)

    async def _new_lines(
        self,
        lines: Sequence[LineGiven],
        found: Mapping[str, int],
        parent: Values,
        context: Mapping[str, Any],
        schema: Schema,
    ) -> dict[str, Values]:
        made = {}
        for place, line in _placed(lines):
            values = line_values(line, place, found, schema.line, self.own.line_fields)
            made[place] = {**await self._choices.by_item(values, parent, context), **values}
        return made

    def _marked(self, command: Create, header: Values, schema: Schema) -> Values:
        self._check_mark(schema)
        key = mark(command)
        if header.get(self.mark_field, key) != key:
            message = f"relay keeps the order's own key in {self.mark_field}"
            raise refusal(f"custom_fields.{self.mark_field}", message, "give it as external_reference instead")
        return {self.mark_field: key}

    def _check_mark(self, schema: Schema) -> None:
        """Raises WriteRefused when a new order could not be found again, were the answer to its making lost."""
        kept = schema.header.get(self.mark_field)
        if kept is None or kept.type not in _TEXTS or kept.readonly:
            message = f"no key of a new order can be kept in {self.mark_field}"
            fix = "set mark_field of the connection to a text field of purchases that relay's user may write"
            raise refusal("external_reference", message, fix, RefusalReason.NOT_PERMITTED)


def _placed(lines: Sequence[LineGiven]) -> Iterable[tuple[str, Any]]:
    return ((f"lines[{number}]", line) for number, line in enumerate(lines))
