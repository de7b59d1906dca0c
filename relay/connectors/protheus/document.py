"""From a command to what MATA120 is to be told, in SC7's own columns; how it is written down is the shape's business.

    command + order as just read -> Document(option 3 | 4 | 5, header, lines by C7_ITEM, what every line carries)
                                 -> WriteRefused: what the routine would say no to, by canonical field

MATA120 wants the whole of its header with every change, and a line's product, quantity and price with every line.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from relay.connectors.protheus.cells import Cell, Cells, only, refused, storable, without, wrong
from relay.connectors.protheus.mapping import BRANCH
from relay.connectors.protheus.settings import ProtheusSettings
from relay.connectors.protheus.wrapper import OBS, Wrapper
from relay.domain.commands import (
    AddLines,
    Cancel,
    CancelLines,
    Create,
    LineChanged,
    LineGiven,
    Update,
    UpdateLines,
    mark,
)
from relay.domain.orders import Line, LineStatus, PurchaseOrder
from relay.domain.results import RefusalReason, WriteRefused

Writing = Create | Update | AddLines | UpdateLines | CancelLines | Cancel
INCLUDE, CHANGE, DELETE = 3, 4, 5
HEAD: Final = (
    *("C7_EMISSAO", "C7_FORNECE", "C7_LOJA", "C7_COND", "C7_CONTATO", "C7_FILENT"),
    *("C7_MOEDA", "C7_TXMOEDA", "C7_TPFRETE"),
)
"""What MATA120 takes as header; everything else sits on the lines, also where it is the order's own."""
BEHIND_MARK: Final = " | "
"""What parts the order's own key from its notes where both are in C7_OBS."""
_LARGEST_ITEM: Final = 9999
_CLOSE: Final = "Close what is open where the connection offers close, and make a new order for the rest"


@dataclass(frozen=True, slots=True)
class LineDocument:
    """One line: `item` is its C7_ITEM, also of a new one; `place` is where the command names it."""

    item: str
    columns: Mapping[str, Cell] = field(default_factory=dict)
    new: bool = False
    away: bool = False
    place: int | None = None
    said: Collection[str] = ()
    """The columns that the command itself gave."""


@dataclass(frozen=True, slots=True)
class Document:
    """One call of MATA120. `spread` is the order's own, but kept on every line."""

    option: int
    branch: str
    number: str = ""
    key: str = ""
    header: Mapping[str, Cell] = field(default_factory=dict)
    lines: tuple[LineDocument, ...] = ()
    spread: Mapping[str, Cell] = field(default_factory=dict)
    said: Collection[str] = ()
    """The columns of the header that the command itself gave."""

    @property
    def places(self) -> dict[str, int]:
        """Where the command names each line, by C7_ITEM."""
        return {line.item: line.place for line in self.lines if line.place is not None}


class Drafting:
    """Makes documents as one connection's settings and mapping say."""

    def __init__(self, settings: ProtheusSettings, wrapper: Wrapper, cells: Cells) -> None:
        self._settings = settings
        self._wrapper = wrapper
        self._cells = cells

    def document(self, command: Writing, order: PurchaseOrder | None) -> Document:
        """What MATA120 is to be told. Raises WriteRefused."""
        if isinstance(command, Create):
            return self._new(command)
        if order is None:
            raise refused(RefusalReason.CONFLICT, "remote_id", "the ERP shows no such order", "Look it up again")
        _still_open(order)
        branch, _, number = command.remote_id.rpartition("|")
        if isinstance(command, Cancel):
            return Document(DELETE, branch, number, header=_carried(order))
        return self._changed(command, order, Document(CHANGE, branch, number, header=_carried(order)))

    def _new(self, command: Create) -> Document:
        said = self._cells.of(command.order)
        branch = str(said.pop(BRANCH, self._settings.branch))
        usual: dict[str, Cell] = {"C7_CONTATO": "", "C7_FILENT": branch}
        header = without(usual, tuple(self._settings.absent_columns)) | only(said, HEAD)
        lines = (self._new_line(line, place, f"{place + 1:04d}") for place, line in enumerate(command.lines))
        own, spread = mark(command).rstrip(), without(said, HEAD)
        return Document(
            option=INCLUDE,
            branch=branch,
            key=own,
            header=header,
            lines=tuple(lines),
            spread=spread | self._marked(own, str(spread.get(OBS) or "")),
            said=said,
        )

    def _marked(self, own: str, notes: str) -> dict[str, Cell]:
        """The order's own key in the column that keeps it, before its notes where these share the column."""
        column, room = self._wrapper.mark, self._wrapper.mark_length
        if column is None:
            return {}
        storable("external_reference", own)
        if len(own) > room:
            raise wrong("external_reference", f"has {len(own)} characters, and {column} holds {room}", "Shorten it")
        if column != OBS:
            return {column: own}
        if BEHIND_MARK in own:
            raise wrong("external_reference", f"holds {BEHIND_MARK!r}, which parts it from the notes", "Leave it out")
        left = max(0, room - len(own) - len(BEHIND_MARK))
        if len(notes) > left:
            rule = f"has {len(notes)} characters, and at most {left} fit behind the order's own key in {OBS}"
            raise wrong("notes", rule, "Shorten it, or keep the key in a column of its own (writing.mark)")
        return {OBS: f"{own}{BEHIND_MARK}{notes}" if notes else own}

    def _changed(
        self, command: Update | AddLines | UpdateLines | CancelLines, order: PurchaseOrder, empty: Document
    ) -> Document:
        living = {line.remote_id: line for line in order.lines if not line.remote_was_deleted}
        said: dict[str, Cell] = {}
        match command:
            case Update():
                said = self._cells.of(command.order)
                lines = dict(self._lines_changed(command.lines, living))
            case UpdateLines():
                lines = dict(self._lines_changed(command.lines, living))
            case AddLines():
                lines = dict(self._lines_new(command.lines, order.lines))
            case CancelLines():
                lines = dict(_lines_away(command.lines, living))
        spread = without(said, HEAD)
        if spread or self._wrapper.every_line:
            lines = {name: LineDocument(_item(line), _kept(line)) for name, line in living.items()} | lines
        header = {**empty.header, **only(said, HEAD)}
        return replace(empty, header=header, lines=tuple(lines.values()), spread=spread, said=said)

    def _lines_changed(
        self, changes: Sequence[LineChanged], living: Mapping[str, Line]
    ) -> Iterator[tuple[str, LineDocument]]:
        for place, change in enumerate(changes):
            line = living.get(change.remote_id)
            if line is None:
                raise _no_line(f"lines[{place}].remote_id", change.remote_id)
            said = self._cells.of(change, f"lines[{place}].")
            _above_zero(said, place)
            yield change.remote_id, LineDocument(_item(line), _kept(line) | said, place=place, said=said)

    def _lines_new(self, drafts: Sequence[LineGiven], known: Iterable[Line]) -> Iterator[tuple[str, LineDocument]]:
        last = max((int(item) for line in known if (item := _item(line)).isdecimal()), default=0)
        if last + len(drafts) > _LARGEST_ITEM:
            raise wrong("lines", f"are more than the items up to {_LARGEST_ITEM} leave room for", "Make a new order")
        for place, draft in enumerate(drafts):
            line = self._new_line(draft, place, f"{last + 1 + place:04d}")
            yield line.item, line

    def _new_line(self, draft: LineGiven, place: int, item: str) -> LineDocument:
        columns = self._cells.of(draft, f"lines[{place}].")
        _above_zero(columns, place)
        return LineDocument(item, columns, new=True, place=place, said=columns)


def _carried(order: PurchaseOrder) -> dict[str, Cell]:
    """The header as it is."""
    vendor, terms, ship_to = order.vendor, order.payment_terms, order.ship_to
    now: dict[str, Cell | None] = {
        "C7_EMISSAO": order.order_date,
        "C7_FORNECE": vendor.code if vendor else None,
        "C7_LOJA": vendor.site_code if vendor else None,
        "C7_COND": terms.code if terms else None,
        "C7_FILENT": ship_to.location_code if ship_to else None,
    }
    return {name: value for name, value in now.items() if value}


def _kept(line: Line) -> dict[str, Cell]:
    """What MATA120 wants of every line, as it is."""
    now = {"C7_PRODUTO": line.item.code, "C7_QUANT": line.quantity, "C7_PRECO": line.unit_price}
    return {name: value for name, value in now.items() if value is not None}


def _still_open(order: PurchaseOrder) -> None:
    """MATA120 neither changes nor deletes an order of which something has come, or of which nothing more will."""
    for line in order.lines:
        if line.remote_was_deleted:
            continue
        if line.status is LineStatus.CLOSED:
            why = "its balance was eliminated (C7_RESIDUO, C7_ENCER)"
        elif line.received_quantity:
            why = "some of it was received (C7_QUJE)"
        elif line.quantity is not None and line.open_quantity is not None and line.open_quantity < line.quantity:
            why = "some of it is in a pre-receipt (C7_QTDACLA)"
        else:
            continue
        message = f"line {line.remote_id}: {why}, and MATA120 changes and deletes no such order"
        raise refused(RefusalReason.WORKFLOW_STATE, "status", message, _CLOSE)


def _lines_away(named: Sequence[str], living: Mapping[str, Line]) -> Iterator[tuple[str, LineDocument]]:
    for place, name in enumerate(named):
        if name not in living:
            raise _no_line(f"lines[{place}]", name)
        yield name, LineDocument(_item(living[name]), _kept(living[name]), away=True, place=place)
    if set(named) >= set(living):
        raise wrong("lines", "are all that the order has, and MATA120 leaves none without lines", "Send cancel instead")


def _above_zero(said: Mapping[str, Cell], place: int) -> None:
    for column, path in (("C7_QUANT", "quantity"), ("C7_PRECO", "unit_price")):
        value = said.get(column)
        if isinstance(value, Decimal) and value <= 0:
            raise wrong(f"lines[{place}].{path}", "must be more than zero", "Give what it is, or leave the line out")


def _item(line: Line) -> str:
    return line.remote_id.partition("|")[0]


def _no_line(place: str, name: str) -> WriteRefused:
    return refused(RefusalReason.VALIDATION, place, f"the order has no line {name}", "Name one that it has")
