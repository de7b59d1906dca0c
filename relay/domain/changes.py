"""What changed between two states of an order, as data: `apply(before, diff(before, after)) == after`.

    diff(before, after) -> changes[] of {kind, path, before, after}

Paths are JSON Pointers (RFC 6901) in which lines and schedules are named by their remote id, never by position:
`/lines/0001/quantity`. Lists known by id stay sorted by id, so a path means the same on both sides.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Literal

from pydantic import JsonValue

from relay.domain.orders import Status, Tree, Value


class ChangeKind(StrEnum):
    """What happened, in the words a subscriber filters by."""

    CREATED = "created"
    SNAPSHOT = "snapshot"
    UPDATED = "updated"
    STATUS_CHANGED = "status_changed"
    APPROVED = "approved"
    REJECTED = "rejected"
    LINE_ADDED = "line_added"
    LINE_UPDATED = "line_updated"
    LINE_REMOVED = "line_removed"
    QUANTITY_RECEIVED = "quantity_received"
    QUANTITY_INVOICED = "quantity_invoiced"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    REOPENED = "reopened"
    DELETED = "deleted"
    RESTORED = "restored"
    MAPPING_CHANGED = "mapping_changed"


HEADLINES = (
    ChangeKind.DELETED,
    ChangeKind.RESTORED,
    ChangeKind.CREATED,
    ChangeKind.SNAPSHOT,
    ChangeKind.MAPPING_CHANGED,
    ChangeKind.CANCELLED,
    ChangeKind.CLOSED,
    ChangeKind.REOPENED,
    ChangeKind.REJECTED,
    ChangeKind.APPROVED,
    ChangeKind.QUANTITY_INVOICED,
    ChangeKind.QUANTITY_RECEIVED,
    ChangeKind.STATUS_CHANGED,
)
"""The kinds that may name an event, strongest first; any other change makes it `updated`."""

FINAL = frozenset({Status.CLOSED, Status.CANCELLED, Status.REJECTED})


class Change(Value):
    """One changed place: its kind, its path, and its value before and after (null where there was none)."""

    kind: ChangeKind
    op: Literal["add", "remove", "replace"]
    path: str
    before: JsonValue = None
    after: JsonValue = None


def diff(before: Tree | None, after: Tree, *, first: ChangeKind = ChangeKind.CREATED) -> tuple[Change, ...]:
    """The changes that turn `before` into `after`; empty when nothing did.

    An order not seen before gives one change of the kind `first` (created, or snapshot on a first sync).
    """
    if before is None:
        return (Change(kind=first, op="add", path="", after=after),)
    return tuple(
        Change(kind=_kind(path, old, new), op=op, path=_pointer(path), before=old, after=new)
        for op, path, old, new in _walk((), before, after)
    )


def apply(before: Tree | None, changes: Iterable[Change]) -> Tree | None:
    """`before` with the changes made: what a subscriber does who keeps a copy of each order."""
    tree: Any = _copy(before)
    for change in changes:
        if not change.path:
            tree = _copy(change.after)
            continue
        *parents, last = (_unescape(step) for step in change.path[1:].split("/"))
        place: Any = tree
        for step in parents:
            place = _member(place, step)
        _put(place, last, change)
    return None if tree is None else dict(tree)


def headline(changes: Iterable[Change]) -> ChangeKind:
    """The one kind that names the event."""
    kinds = {change.kind for change in changes}
    return next((kind for kind in HEADLINES if kind in kinds), ChangeKind.UPDATED)


Step = tuple[Literal["add", "remove", "replace"], tuple[str, ...], Any, Any]


def _walk(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Step]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _walk_members(path, before, after)
    elif _known_by_id(path):
        yield from _walk_members(path, _by_id(before), _by_id(after))
    else:
        yield "replace", path, before, after


def _known_by_id(path: tuple[str, ...]) -> bool:
    """Whether the members of the list at `path` are known by `remote_id`; a custom field may bear the same name."""
    match path:
        case ("lines",) | ("lines", _, "schedules"):
            return True
        case _:
            return False


def _walk_members(path: tuple[str, ...], before: Tree, after: Tree) -> Iterator[Step]:
    for name, old in before.items():
        if name not in after:
            yield "remove", (*path, name), old, None
        else:
            yield from _walk((*path, name), old, after[name])
    for name, new in after.items():
        if name not in before:
            yield "add", (*path, name), None, new


def _kind(path: tuple[str, ...], old: Any, new: Any) -> ChangeKind:
    if path[0] == "lines":
        return _line_kind(path, old, new)
    if path == ("remote_was_deleted",):
        return ChangeKind.DELETED if new else ChangeKind.RESTORED
    if path == ("status",):
        return _status_kind(old, new)
    if path == ("approval_status",) and new in {"approved", "rejected"}:
        return ChangeKind(new)
    return ChangeKind.UPDATED


def _status_kind(old: str, new: str) -> ChangeKind:
    if new in {Status.CANCELLED, Status.CLOSED, Status.REJECTED, Status.DELETED}:
        return ChangeKind(new)
    if old == Status.DELETED:
        return ChangeKind.RESTORED
    if old in FINAL:
        return ChangeKind.REOPENED
    if old == Status.PENDING_APPROVAL and new == Status.APPROVED:
        return ChangeKind.APPROVED
    return ChangeKind.STATUS_CHANGED


def _line_kind(path: tuple[str, ...], old: Any, new: Any) -> ChangeKind:
    match path[2:]:
        case ():
            return _line_presence(_stands(old), _stands(new))
        case ("remote_was_deleted",):
            return _line_presence(not old, not new)
        case ("received_quantity",) | ("schedules", _, "received_quantity"):
            return ChangeKind.QUANTITY_RECEIVED
        case ("invoiced_quantity",):
            return ChangeKind.QUANTITY_INVOICED
        case _:
            return ChangeKind.LINE_UPDATED


def _line_presence(before: bool, after: bool) -> ChangeKind:  # noqa: FBT001 - two sides of one fact
    # A line that its system had already marked as deleted may come or go without anybody missing it.
    if before == after:
        return ChangeKind.LINE_UPDATED
    return ChangeKind.LINE_ADDED if after else ChangeKind.LINE_REMOVED


def _stands(line: Tree | None) -> bool:
    return line is not None and not line["remote_was_deleted"]


def _by_id(parts: list[Tree]) -> Tree:
    return {part["remote_id"]: part for part in parts}


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _copy(member) for name, member in tree.items()}
    return [_copy(member) for member in tree] if isinstance(tree, list) else tree


def _member(place: Any, step: str) -> Any:
    return _by_id(place)[step] if isinstance(place, list) else place[step]


def _put(place: Any, name: str, change: Change) -> None:
    if isinstance(place, list):
        kept = [part for part in place if part["remote_id"] != name]
        if change.op != "remove":
            kept.append(_copy(change.after))
        place[:] = sorted(kept, key=lambda part: (len(part["remote_id"]), part["remote_id"]))
    elif change.op == "remove":
        del place[name]
    else:
        place[name] = _copy(change.after)


def _pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def _unescape(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
