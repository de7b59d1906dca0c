"""TOTVS RM, writing: movements made, changed and cancelled over its REST API, header and lines in one call.

    Create                                   POST /movements                    answered with the new movement
    Update, AddLines, UpdateLines, CancelLines   read, compare its version, PUT /Movements/{id}
    Cancel                                   POST /Movements/Cancel/{id}        it stays, cancelled

RM has no key that makes two calls one, and no version that it guards: a new order keeps its mark in a field of its own
and is looked for by it, and a change is built from the movement as it is read just before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast
from urllib.parse import quote

import httpx

from relay.connectors.kit.exact import exact_json, shown
from relay.connectors.kit.replies import checked, text_of
from relay.connectors.rm import mapping as fields_of
from relay.connectors.rm.assembly import Assembler, remote_id_of
from relay.connectors.rm.bodies import Changing, Drafted, Drafting
from relay.connectors.rm.listing import Listing
from relay.connectors.rm.marks import Marks
from relay.connectors.rm.movements import LIST_PATH, ONE_PATH, Movements, content_of, fault_of
from relay.connectors.rm.refusing import is_busy, kept, refusals_in, refused
from relay.connectors.rm.settings import RmSettings
from relay.connectors.rm.spelling import mended
from relay.domain.capabilities import CommandCapability
from relay.domain.commands import Cancel, CancelLines, Command, CommandType, Create, mark
from relay.domain.errors import RecordRejected, Unavailable, UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder, Status
from relay.domain.results import Preview, Refusal, RefusalReason, WriteRefused
from relay.ports import Prepared

CANCEL_PATH: Final = f"{ONE_PATH}/Cancel"
_OPEN: Final = (Status.PENDING_APPROVAL, Status.APPROVED)
_ENDED: Final = "RM changes orders until something of them was received, or they were cancelled"
COMMANDS: Final = (
    CommandCapability(type=CommandType.CREATE),
    *(
        CommandCapability(type=type_, statuses=_OPEN, note=_ENDED)
        for type_ in (
            *(CommandType.UPDATE, CommandType.ADD_LINES, CommandType.UPDATE_LINES),
            *(CommandType.CANCEL_LINES, CommandType.CANCEL),
        )
    ),
)
"""RM's API has no process to approve, reject or close a movement."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A call that is ready to go out; `gone` are lines that must not be there afterwards."""

    method: str
    path: str
    content: str | None
    remote_id: str | None = None
    places: Mapping[int, int] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    conflict: Refusal | None = None
    """What was found while it was prepared: nothing is sent then."""


@dataclass(slots=True)
class RmWriter:
    """Writes to one RM; see `relay.ports.Writer` for what the methods promise."""

    settings: RmSettings
    mapping: MappingOverrides
    movements: Movements
    listing: Listing
    assembler: Assembler
    _drafting: Drafting = field(init=False)
    _marks: Marks | None = field(init=False)
    _paths: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._drafting = Drafting(self.settings, self.mapping)
        kept_in = self.settings.reference_field
        self._marks = Marks(self.listing, kept_in, self.settings.time_zone) if kept_in else None
        self._paths = _paths(self.mapping)

    @property
    def finds(self) -> bool:
        """Whether there is a field that keeps the mark."""
        return self._marks is not None

    async def prepare(self, command: Command, order: PurchaseOrder | None) -> Prepared:
        """The call for `command`; only reads. Raises WriteRefused."""
        match command:
            case Create():
                return _ready("POST", LIST_PATH, self._drafting.created(command, self.movements.spelling))
            case Cancel():
                path = f"{CANCEL_PATH}/{quote(command.remote_id, safe='')}"
                return Prepared(Preview(method="POST", path=path), Sending("POST", path, None, command.remote_id))
            case _ if command.type in {each.type for each in COMMANDS}:
                return await self._change(cast("Changing", command), order)
        raise Unsupported(f"RM's API has no process to {command.type} an order")

    async def write(self, prepared: Prepared) -> str:
        """Make the call, once. The order's remote id."""
        sending: Sending = prepared.inner
        if sending.conflict:
            raise WriteRefused([sending.conflict])
        reply = await self.movements.send(sending.method, sending.path, sending.content)
        if not reply.is_success:
            self._raise_refusal(reply, sending)
        if reply.status_code == httpx.codes.NO_CONTENT and sending.remote_id:
            return sending.remote_id
        content = content_of(reply)
        try:
            remote_id = remote_id_of(content)
        except RecordRejected:
            raise UnexpectedReply(f"RM answered without a movement: {fault_of(text_of(reply))}".rstrip(": ")) from None
        if sending.gone & _line_ids(content):
            message = "RM has kept the lines: this installation does not delete lines that a change leaves out"
            fix = "Take the lines out in RM itself, or cancel the order"
            raise WriteRefused([_no(RefusalReason.NOT_PERMITTED, "lines", message, fix)])
        return remote_id

    async def find(self, command: Create) -> str | None:
        """The newest order that bears the command's mark, of those made in the last 60 days."""
        return await self._marks.find(mark(command).rstrip()) if self._marks else None

    async def _change(self, command: Changing, order: PurchaseOrder | None) -> Prepared:
        record = await self.movements.read(command.remote_id)
        if record is None:
            message, fix = f"RM has no movement {command.remote_id} any more", "Look the order up again"
            raise WriteRefused([_no(RefusalReason.CONFLICT, "remote_id", message, fix)])
        read, _ = self.assembler.order(record)
        drafted = self._drafting.changed(command, mended(record), self.movements.spelling)
        gone = frozenset(command.lines) if isinstance(command, CancelLines) else frozenset()
        path = f"{ONE_PATH}/{quote(command.remote_id, safe='')}"
        ready = _ready("PUT", path, drafted, command.remote_id, gone)
        if order is not None and order.remote_version != read.remote_version:
            message = f"the order was changed meanwhile: its version is now {read.remote_version}"
            conflict = _no(RefusalReason.CONFLICT, "expected_version", message, "Look at it, and send it again")
            return Prepared(ready.preview, replace(ready.inner, conflict=conflict))
        return ready

    def _raise_refusal(self, reply: httpx.Response, sending: Sending) -> None:
        """What a failure means: refused, busy, or open. Raises WriteRefused, or the error of the status."""
        said = fault_of(text_of(reply))
        known = refused if reply.status_code == httpx.codes.BAD_REQUEST and said else refusals_in
        if reply.status_code == httpx.codes.NOT_FOUND and said and sending.remote_id:
            message, fix = "RM has no such movement any more", "Look the order up again"
            raise WriteRefused([_no(RefusalReason.CONFLICT, "remote_id", message, fix)], said=kept(said))
        if reply.status_code in {httpx.codes.BAD_REQUEST, httpx.codes.INTERNAL_SERVER_ERROR}:
            if is_busy(said):
                error = Unavailable(f"RM has the movement in use: {said}")
                error.unsent = True
                raise error
            if refusals := known(said, sending.places, self._paths):
                raise WriteRefused(refusals, said=kept(said))
        checked(reply, said=said)


def _ready(
    method: str, path: str, drafted: Drafted, remote_id: str | None = None, gone: frozenset[str] = frozenset()
) -> Prepared:
    preview = Preview(method=method, path=path, body=shown(drafted.body))
    return Prepared(preview, Sending(method, path, exact_json(drafted.body), remote_id, drafted.places, gone))


def _paths(mapping: MappingOverrides) -> Mapping[str, str]:
    """Canonical path by RM's own field, of headers."""
    rules = (*fields_of.MADE, *fields_of.header_rules(mapping))
    return {part: rule.path for rule in rules for part in rule.source.split(", ")}


def _line_ids(content: Mapping[str, Any]) -> frozenset[str]:
    items = content.get(fields_of.ITEMS)
    lines = items if isinstance(items, list) else []
    return frozenset(str(each.get(fields_of.LINE_ID)) for each in lines if isinstance(each, Mapping))


def _no(reason: RefusalReason, name: str, message: str, fix: str) -> Refusal:
    return Refusal(reason=reason, field=name, message=message, fix=fix)
