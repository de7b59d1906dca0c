"""Permits: whether a system takes a command, by what is known of it and of the order, before the ERP is touched.

    refusals(command, capabilities, order) -> ()  it may be sent
                                           -> each field with the rule that it breaks and what to do, all at once

Where the rules of the system end (statuses that nobody mapped, codes in its lists) the ERP itself decides.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.commands import (
    AddLines,
    CancelLines,
    Command,
    CommandType,
    Create,
    OfOrder,
    Update,
    UpdateLines,
    given,
)
from relay.domain.orders import OrderType, PurchaseOrder, Status
from relay.domain.results import Refusal, RefusalReason
from relay.domain.shapes import listed, misshapen

RANK: Final = {
    Status.DRAFT: 0,
    Status.PENDING_APPROVAL: 1,
    Status.REJECTED: 1,
    Status.APPROVED: 2,
    Status.PARTIALLY_RECEIVED: 3,
    Status.RECEIVED: 4,
    Status.CLOSED: 5,
    Status.CANCELLED: 6,
    Status.DELETED: 7,
}
"""How far along an order is. One that is on hold, or in a status that nobody mapped, has no rank: the ERP decides."""

_LINES: Final = "lines[]."
_CUSTOM: Final = "custom_fields."


def refusals(command: Command, capabilities: Capabilities, order: PurchaseOrder | None) -> tuple[Refusal, ...]:
    """Why it may not be sent to `order` as it was just read (None: the ERP shows none); nothing when it may."""
    return tuple(_refusals(command, _System(capabilities), order))


def _refusals(command: Command, system: "_System", order: PurchaseOrder | None) -> Iterator[Refusal]:
    if refused := system.offers(command.type):
        yield refused
        return
    if isinstance(command, Create):
        yield from system.new(command.order, "", _of_order)
        for place, line in enumerate(command.lines):
            yield from system.new(line, f"lines[{place}].", _of_lines)
        return
    if order is None or order.remote_was_deleted:
        yield _gone(command)
        return
    yield from _versions(command, order)
    yield from system.in_status(command.type, order.status)
    match command:
        case Update():
            yield from system.changed(command.order, "", order)
            yield from _changed_lines(command, system, order)
        case UpdateLines():
            yield from _changed_lines(command, system, order)
        case AddLines():
            for place, line in enumerate(command.lines):
                yield from system.new(line, f"lines[{place}].", _of_lines)
        case CancelLines():
            yield from _known_lines(((f"lines[{place}]", each) for place, each in enumerate(command.lines)), order)
        case _:
            pass


def _changed_lines(command: Update | UpdateLines, system: "_System", order: PurchaseOrder) -> Iterator[Refusal]:
    named = ((f"lines[{place}].remote_id", line.remote_id) for place, line in enumerate(command.lines))
    yield from _known_lines(named, order)
    for place, line in enumerate(command.lines):
        yield from system.changed(line, f"lines[{place}].", order)


def _known_lines(named: Iterable[tuple[str, str]], order: PurchaseOrder) -> Iterator[Refusal]:
    there = [line.remote_id for line in order.lines if not line.remote_was_deleted]
    met: set[str] = set()
    for field, remote_id in named:
        if remote_id not in there:
            yield _no(
                RefusalReason.VALIDATION,
                field,
                f"the order has no line {remote_id}",
                f"Name one that it has: {listed(there)}" if there else "It has no lines: add one first",
            )
        elif remote_id in met:
            yield _no(
                RefusalReason.VALIDATION,
                field,
                f"line {remote_id} is named twice",
                "Say all of a line in one place",
            )
        met.add(remote_id)


def _gone(command: OfOrder) -> Refusal:
    return _no(
        RefusalReason.CONFLICT,
        "remote_id",
        f"the ERP shows no order {command.remote_id}: it was deleted, or never was there",
        "Look the order up again; a new one is made with create",
    )


def _versions(command: OfOrder, order: PurchaseOrder) -> Iterator[Refusal]:
    if command.expected_version is None or command.expected_version == order.remote_version:
        return
    if order.remote_version is None:
        yield _no(
            RefusalReason.VALIDATION,
            "expected_version",
            "this system has no versions of orders",
            "Leave expected_version out",
        )
        return
    yield _no(
        RefusalReason.CONFLICT,
        "expected_version",
        f"the order was changed since you saw it: its version is now {order.remote_version}",
        "Look at the order again, and send a new command with its remote_version",
    )


class _System:
    """One connection's system, as its capabilities describe it."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.name, self.capabilities = capabilities.connector, capabilities
        self._fields = {each.path: each for each in capabilities.fields}

    def offers(self, type: CommandType) -> Refusal | None:  # noqa: A002 - the command's own word
        offered = [each.type for each in self.capabilities.commands]
        if type in offered:
            return None
        return _no(
            RefusalReason.NOT_PERMITTED,
            "type",
            f"{self.name} has no command {type}" if offered else f"nothing can be written to this {self.name}",
            f"It takes {listed(offered)}" if offered else "Change the order in the ERP itself",
        )

    def in_status(self, type: CommandType, status: Status) -> Iterator[Refusal]:  # noqa: A002 - the command's own word
        for each in self.capabilities.commands:
            if each.type is type and each.statuses and status not in {*each.statuses, Status.ON_HOLD, Status.OTHER}:
                yield _no(
                    RefusalReason.WORKFLOW_STATE,
                    "status",
                    f"{type} is for orders that are {listed(each.statuses, 'or')}, and this one is {status}",
                    each.note or "Bring the order to such a status in the ERP first",
                )

    def new(self, part: Any, place: str, under: "_Paths") -> Iterator[Refusal]:
        """A new order's header, or a new line."""
        said = dict(given(part))
        for path, value in said.items():
            if value is None or (path == "type" and value is OrderType.STANDARD):
                continue  # What is empty need not be given, and an order is of that type unless something else is said.
            field = self._field(under.known(path))
            if field is None or not field.creatable:
                yield _not_creatable(place + path, field, self.name)
            else:
                yield from misshapen(place + path, value, field)
        for field in self.capabilities.fields:
            path = under.said(field.path)
            if path and field.required and not any(said.get(each) is not None for each in _instead(path)):
                yield _no(
                    RefusalReason.VALIDATION,
                    place + path,
                    f"{place}{path} is missing: a new {under.what} needs it",
                    "Give it",
                )

    def changed(self, part: Any, place: str, order: PurchaseOrder) -> Iterator[Refusal]:
        """Other values for a header or a line that is there."""
        under = _of_lines if place else _of_order
        for path, value in given(part):
            field = self._field(under.known(path))
            if field is None or not field.updatable:
                yield _not_updatable(place + path, field, self.name)
            elif field.updatable_until and _past(order.status, field.updatable_until):
                yield _no(
                    RefusalReason.WORKFLOW_STATE,
                    place + path,
                    f"{place}{path} can be changed until an order is {field.updatable_until}, and this one is "
                    f"{order.status}",
                    "Leave it out",
                )
            elif value is None and field.required:
                yield _no(
                    RefusalReason.VALIDATION,
                    place + path,
                    f"{place}{path} cannot be empty",
                    "Give a value, or leave it out to keep the one that is there",
                )
            elif value is not None:
                yield from misshapen(place + path, value, field)

    def _field(self, path: str) -> FieldCapability | None:
        """What is known of a field; of one that only its object is known of, or the other way round, that."""
        if path in self._fields:
            return self._fields[path]
        if _CUSTOM in path:
            taken = self.capabilities.custom_fields
            return FieldCapability(path=path, type="object", creatable=True, updatable=True) if taken else None
        if whole := self._fields.get(path.rpartition(".")[0]):
            return whole
        # An object that is emptied as a whole is as good as its parts.
        parts = [each for each in self.capabilities.fields if each.path.startswith(f"{path}.")]
        return max(parts, key=lambda each: each.updatable, default=None)


@dataclass(frozen=True, slots=True)
class _Paths:
    """How the paths of a header, or of a line, are written in capabilities."""

    prefix: str
    what: str

    def known(self, path: str) -> str:
        return self.prefix + path

    def said(self, path: str) -> str:
        """The path within the part; empty when it is another part's."""
        if self.prefix:
            return path.removeprefix(self.prefix) if path.startswith(self.prefix) else ""
        return "" if path.startswith(_LINES) else path


_of_order, _of_lines = _Paths("", "order"), _Paths(_LINES, "line")


def _instead(path: str) -> tuple[str, ...]:
    """The paths of which one is enough where this one is required."""
    parent, _, name = path.rpartition(".")
    if parent and name in {"remote_id", "code"}:
        return f"{parent}.remote_id", f"{parent}.code"
    plain = path.removesuffix("_raw")
    return plain, f"{plain}_raw"


def _past(status: Status, until: Status) -> bool:
    return status in RANK and until in RANK and RANK[status] > RANK[until]


def _not_creatable(place: str, field: FieldCapability | None, name: str) -> Refusal:
    if field is not None and field.updatable:
        rule, fix = "cannot be given to something new", "Leave it out, and send an update once the order is there"
    else:
        rule, fix = _never(field, name)
    return _no(RefusalReason.NOT_WRITABLE_FIELD, place, f"{place} {rule}", fix)


def _not_updatable(place: str, field: FieldCapability | None, name: str) -> Refusal:
    if field is not None and field.creatable:
        rule, fix = "is given once, to something new, and stays as it is", "Leave it out"
    else:
        rule, fix = _never(field, name)
    return _no(RefusalReason.NOT_WRITABLE_FIELD, place, f"{place} {rule}", fix)


def _never(field: FieldCapability | None, name: str) -> tuple[str, str]:
    if field is not None and field.readable:
        return f"is {name}'s own and cannot be written", "Leave it out"
    return f"is nothing that {name} takes", "Leave it out; the connection's capabilities list what can be written"


def _no(reason: RefusalReason, field: str, message: str, fix: str) -> Refusal:
    return Refusal(reason=reason, field=field, message=message, fix=fix)
