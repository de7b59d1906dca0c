"""What can be known to be wrong with a filter before it has seen an event: wrong names, and what can never be equal.

Each check raises ValueError with a sentence that says what is wrong and what belongs there.
"""

import re
from difflib import get_close_matches

from relay.domain.filters.comparisons import number
from relay.domain.filters.conditions import Constant, Operand, Path, Scalar, quoted
from relay.domain.filters.event_fields import ANYTHING, COMPARED, EVENT, Kind, Shape

_EQUAL, _PARTS = ("==", "!="), ("contains", "startswith", "endswith")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = "on the other side is a whole list or object: name one of its fields, or use any(...)"
_BELONGS = {
    Kind.LIST: _WHOLE,
    Kind.OBJECT: _WHOLE,
    Kind.NUMBER: "give a number, like 1000 or 12.50",
    Kind.TRUTH: "give true or false, without quotes",
    Kind.DATE: "give a date, like " + quoted("2026-03-31"),
    Kind.TEXT: "give a text in quotes",
}


def field(shape: Shape, steps: tuple[str, ...]) -> Shape:
    """What stands at `steps`, seen from `shape`."""
    for length, step in enumerate(steps):
        done = ".".join(steps[:length])
        if shape.kind is Kind.LIST:
            raise ValueError(f"{done} is a list: look into it with any({done}, ...)")
        shape = shape.at(step) or _unknown(shape, steps, length)
    return shape


def compared(steps: tuple[str, ...]) -> None:
    """`steps` must lead to a field of the order, or of its lines, that is compared between two looks at it."""
    shape: Shape = COMPARED
    for length, step in enumerate(steps):
        inside = shape.each or shape
        shape = inside.at(step) or _unknown(inside, steps, length)


def member(path: Path, shape: Shape) -> Shape:
    """What the members of the list at `path` hold."""
    if shape.kind is Kind.ANY:
        return ANYTHING
    if shape.each is None:
        raise ValueError(f"{path} is no list: an event's lists are data.order.lines, its schedules, and data.changes")
    if shape.each.kind is not Kind.OBJECT:
        raise ValueError(f'{path} is a list of values: write {path} contains "..."')
    return shape.each


def truth(operand: Operand, shape: Shape) -> None:
    """`operand` must be a condition by itself: true or false."""
    if shape.kind not in {Kind.TRUTH, Kind.ANY} or isinstance(operand, Constant):
        raise ValueError(f"{operand} alone is no condition: compare it, as in {operand} == ...")


def comparable(left: Operand, sign: str, right: Operand) -> None:
    """The two sides must be such that `sign` can hold for some event."""
    if isinstance(left, Constant) and (isinstance(right, Constant) or sign in _PARTS):
        raise ValueError("on the left a field is expected, without quotes")
    if isinstance(right, Path) and sign in _PARTS:
        raise ValueError(f"after {sign} a value is expected, like {sign} {quoted('C7')}")


def constant(value: Scalar, sign: str, shape: Shape) -> None:
    """`value` must be one that can stand at the place of `shape`."""
    if sign == "contains" and shape.kind in {Kind.LIST, Kind.ANY}:
        # A list is asked for one of its members.
        shape, sign = (shape.each if shape.each and shape.each.kind is not Kind.OBJECT else shape), "=="
    if value is None or isinstance(value, bool):
        if sign not in _EQUAL:
            raise ValueError(f"{Constant(value)} can be compared with == and != only")
    elif sign in _PARTS and not (isinstance(value, str) and shape.kind in {Kind.TEXT, Kind.DATE, Kind.ANY}):
        raise ValueError(f"{sign} is for texts: give the text in quotes, and on the left a field that holds text")
    if value is not None and not _fits(value, sign, shape):
        raise ValueError(f"{_shown(value)} cannot stand here: {_BELONGS[shape.kind]}")
    if value is not None and shape.words and sign in _EQUAL and value not in shape.words:
        raise ValueError(f"{_shown(value)} never stands there: {_one_of(str(value), shape.words)}")


def _fits(value: Scalar, sign: str, shape: Shape) -> bool:
    match shape.kind:
        case Kind.LIST | Kind.OBJECT:
            return False
        case Kind.NUMBER:
            return number(value) is not None
        case Kind.TRUTH:
            return isinstance(value, bool)
        case Kind.DATE:
            return isinstance(value, str) and (sign in _PARTS or _DATE.match(value) is not None)
        case Kind.TEXT:
            return not isinstance(value, bool)
        case _:
            return True


def _shown(value: Scalar) -> str:
    text = str(Constant(value))
    return text if len(text) <= 50 else text[:49] + "…"  # noqa: PLR2004 - the room on a line


def _one_of(word: str, known: tuple[str, ...]) -> str:
    near = [each for each in known if each.endswith(f".{word}")] or get_close_matches(word, known, 1)
    return f"did you mean {quoted(near[0])}?" if near else "it is one of " + ", ".join(known)


def _unknown(shape: Shape, steps: tuple[str, ...], length: int) -> Shape:
    name, place = steps[length], ".".join(steps[:length])
    there = f"there is no field {'.'.join(steps[: length + 1])}"
    if shape is EVENT:
        for front in (("data",), ("data", "order")):
            if _leads(front + steps):
                raise ValueError(f"{there}; did you mean {'.'.join(front + steps)}?")
    if not shape.fields:
        raise ValueError(f"{there}: {place} has no fields")
    near = get_close_matches(name, shape.fields, 1)
    hint = f"; did you mean {near[0]}?" if near else f": the known ones are {', '.join(shape.fields)}"
    raise ValueError(there + hint)


def _leads(steps: tuple[str, ...]) -> bool:
    shape: Shape | None = EVENT
    for step in steps:
        shape = shape and shape.at(step)
    return shape is not None
