"""Effects: whether a command that was sent took effect, told by the order as it was before and as it is now.

    effect(command, before, now, capabilities) -> YES      what it asks for is there
                                               -> NO       the order is as it was, or its status, if that is asked for
                                               -> UNCLEAR  somebody changed it, and what was asked for is not there

A create leaves no order to look at: it is found by its mark. NO is only certain once the ERP no longer works on it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import Enum, auto
from typing import Any, Final

from relay.domain.capabilities import Capabilities
from relay.domain.commands import (
    AddLines,
    Cancel,
    CancelLines,
    Command,
    CommandType,
    Create,
    LineGiven,
    Update,
    UpdateLines,
    given,
)
from relay.domain.orders import LineStatus, PurchaseOrder, Status, Tree

VERSION: Final = "remote_version"
_LINES: Final = "lines[]."
_REACHED: Final[Mapping[CommandType, frozenset[str]]] = {
    CommandType.CANCEL: frozenset({Status.CANCELLED, Status.DELETED}),
    CommandType.CLOSE: frozenset({Status.CLOSED}),
    CommandType.APPROVE: frozenset({Status.APPROVED, Status.PARTIALLY_RECEIVED, Status.RECEIVED}),
    CommandType.REJECT: frozenset({Status.REJECTED}),
}
"""The statuses, of the order or of its approval, that these ask for."""
_OVER: Final = frozenset({LineStatus.CANCELLED, LineStatus.CLOSED})
"""How systems show a line of which nothing more is expected."""


class Effect(Enum):
    """Whether it took effect."""

    YES = auto()
    NO = auto()
    UNCLEAR = auto()


def state(order: PurchaseOrder) -> Tree:
    """What is kept of an order before a command is sent to it: its tree, and its version where it has one."""
    return {**order.tree(), VERSION: order.remote_version}


def effect(command: Command, before: Tree | None, now: Tree | None, capabilities: Capabilities) -> Effect:
    """Whether `command` took effect between two states of its order (None: there was, or is, none)."""
    if isinstance(command, Create) or before is None:
        return Effect.UNCLEAR
    if _done(command, before, now, _Readable(capabilities)):
        return Effect.YES
    return Effect.NO if now is not None and _untouched(command, before, now) else Effect.UNCLEAR


def _untouched(command: Command, before: Tree, now: Tree) -> bool:
    """Whether nothing has happened to the order, as far as the command is concerned.

    One that asks for a status asks for it still while the status is the same, whoever changed what else: half of an
    approval in two steps, say, has given a draft its number.
    """
    if command.type in _REACHED:
        return all(before[name] == now[name] for name in ("status", "approval_status", "remote_was_deleted"))
    return before == now


def shown(command: Command, before: Tree | None, last: Tree | None, capabilities: Capabilities) -> bool:
    """Whether an order showed what `command` asks for when it was last told."""
    return last is not None and effect(command, before, last, capabilities) is Effect.YES


def caused(  # noqa: PLR0913 - a command, and its order at three times
    command: Command,
    before: Tree | None,
    last: Tree | None,
    now: Tree,
    capabilities: Capabilities,
    *,
    written: bool = False,
) -> bool:
    """Whether what differs between an order as it was told `last` and `now` is what `command` asked for.

    Of one that is known to be `written`, the first change after what was there before it is.
    """
    if shown(command, before, last, capabilities):
        return False
    if effect(command, before, now, capabilities) is Effect.YES:
        return True
    kept = {name: part for name, part in (before or {}).items() if name != VERSION}
    return written and last is not None and last == kept


def _done(command: Command, before: Tree, now: Tree | None, readable: "_Readable") -> bool:
    if now is None or now["remote_was_deleted"]:
        return isinstance(command, Cancel)
    match command:
        case Update() | UpdateLines():
            return _holds(command, now, readable)
        case AddLines():
            known = {line["remote_id"] for line in before["lines"]}
            new = [line for line in now["lines"] if line["remote_id"] not in known]
            return _each_has_its_own(command.lines, new, readable)
        case CancelLines():
            return not any(line["remote_id"] in command.lines and _stands(line) for line in now["lines"])
        case _:
            return {now["status"], now["approval_status"]} & _REACHED[command.type] != set()


def _stands(line: Tree) -> bool:
    return line["status"] not in _OVER and not line["remote_was_deleted"]


def _holds(command: Update | UpdateLines, now: Tree, readable: "_Readable") -> bool:
    """Whether every value that can be read back is there, and there is one at all."""
    found: list[bool] = []
    if isinstance(command, Update):
        found += readable.same(given(command.order), now, "")
    lines = {line["remote_id"]: line for line in now["lines"]}
    for line in command.lines:
        there = lines.get(line.remote_id)
        found += [False] if there is None else readable.same(given(line), there, _LINES)
    return bool(found) and all(found)


def _each_has_its_own(drafts: Sequence[LineGiven], new: Sequence[Tree], readable: "_Readable") -> bool:
    """Whether every draft became a line, and no two the same one.

    A draft that says little fits many lines: one that is taken is given up when its own draft finds another.
    """
    fitting = readable.fitting(drafts, new)
    taken: dict[int, int] = {}

    def finds(draft: int, tried: set[int]) -> bool:
        # Free ones first: a thousand drafts that are all alike need no search.
        for place in sorted(fitting[draft], key=taken.__contains__):
            if place not in tried:
                tried.add(place)
                if place not in taken or finds(taken[place], tried):
                    taken[place] = draft
                    return True
        return False

    return all(finds(draft, set()) for draft in range(len(drafts)))


class _Readable:
    """The fields that can be read back, by path as in capabilities, and their types."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._types = {each.path: each.type for each in capabilities.fields if each.readable}

    def same(self, wanted: Iterable[tuple[str, Any]], part: Tree, prefix: str) -> Iterator[bool]:
        """For each wanted value that can be read back: whether it is there."""
        for path, value in wanted:
            if type_ := self._type(prefix + path):
                as_number = type_ == "amount"
                yield _meaning(value, as_number=as_number) == _meaning(_at(part, path), as_number=as_number)

    def fitting(self, drafts: Sequence[LineGiven], new: Sequence[Tree]) -> list[list[int]]:
        """For each draft: the new lines that have all its values that can be read back; none, when none can."""
        places: dict[tuple[str, ...], dict[tuple[Any, ...], list[int]]] = {}
        fitting = []
        for draft in drafts:
            wanted = {path: value for path, value in given(draft) if self._type(_LINES + path)}
            paths = tuple(wanted)
            if paths not in places:
                # By their values: a thousand drafts are not compared with a thousand lines one by one.
                found = places[paths] = defaultdict(list)
                for place, line in enumerate(new):
                    found[self._values(paths, (_at(line, path) for path in paths))].append(place)
            fitting.append(places[paths].get(self._values(paths, wanted.values()), []) if paths else [])
        return fitting

    def _values(self, paths: Sequence[str], values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(
            _meaning(value, as_number=self._type(_LINES + path) == "amount")
            for path, value in zip(paths, values, strict=True)
        )

    def _type(self, path: str) -> str | None:
        whole = path.rpartition(".")[0]
        if path in self._types or whole in self._types:
            return self._types.get(path) or self._types[whole]
        # An object that was emptied as a whole can be read when one of its parts can.
        return "object" if any(each.startswith(f"{path}.") for each in self._types) else None


def _at(part: Tree, path: str) -> Any:
    """The value at a path; None where one of its objects is none."""
    head, _, rest = path.partition(".")
    if head == "custom_fields":
        return part[head].get(rest)
    value = part.get(head)
    if not rest:
        return value
    return _at(value, rest) if isinstance(value, dict) else None


def _meaning(value: Any, *, as_number: bool) -> Any:
    """What values that mean the same have in common. Systems keep a zero, or empty text, where nothing was given."""
    if as_number:
        return _number(value)
    # They trim, and end lines in their own way; dates and codes are their own text.
    return "" if value is None else "\n".join(line.rstrip() for line in str(value).strip().splitlines())


def _number(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value or 0))
    except InvalidOperation:
        return None
