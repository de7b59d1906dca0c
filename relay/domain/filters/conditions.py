"""Conditions on an event, as values: each says whether it holds, and prints as the text it is parsed from.

    Compare  Among  Exists  Changed        tests
    Not  Both  Either  Members             made of conditions

Nothing here raises, whatever JSON it is given: a field that is absent is null, and null equals nothing but null.
The work grows with the event's size, not faster: a list is gone through once for each condition on it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from relay.domain.filters.comparisons import SIGNS, number, same

Scalar: TypeAlias = str | bool | Decimal | None

RESERVED = frozenset(("and", "or", "not", "in", "any", "all", "exists", "changed", "true", "false", "null", *SIGNS))
"""Words that no path can begin with."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Condition(ABC):
    """Something that holds for an event, or not. Hashable; equal when it is made of the same parts."""

    __slots__ = ()

    @abstractmethod
    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether it holds for `event`, and for the `member` of the list that any() or all() looks at."""


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the event, or in the member of a list."""

    steps: tuple[str, ...]
    of_event: bool = True
    number: bool = False
    """A decimal stands there, as text."""

    def value(self, event: Mapping[str, Any], member: Any) -> Any:
        """What stands there; None for nothing."""
        place: Any = event if self.of_event else member
        for step in self.steps:
            if not isinstance(place, Mapping):
                return None
            place = place.get(step)
        return number(place) if self.number else place

    def __str__(self) -> str:
        first, *others = self.steps
        return first + "".join(f".{step}" if _NAME.fullmatch(step) else f"[{quoted(step)}]" for step in others)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the condition itself."""

    constant: Scalar

    def value(self, _event: Mapping[str, Any], _member: Any) -> Scalar:
        """Itself."""
        return self.constant

    def __str__(self) -> str:
        match self.constant:
            case None:
                return "null"
            case bool() as truth:
                return str(truth).lower()
            case str() as text:
                return quoted(text)
            case exact:
                return format(exact, "f")


Operand: TypeAlias = Path | Constant


@dataclass(frozen=True, slots=True)
class Compare(Condition):
    """Two values compared."""

    left: Operand
    sign: str
    right: Operand

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """By the sign; `!=` is the opposite of `==`, all others are false when the two have no order."""
        return SIGNS[self.sign](self.left.value(event, member), self.right.value(event, member))

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Among(Condition):
    """A value that equals one of several."""

    left: Operand
    values: tuple[Constant, ...]

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether one is equal."""
        value = self.left.value(event, member)
        return any(same(value, each.constant) for each in self.values)

    def __str__(self) -> str:
        return f"{self.left} in [{', '.join(map(str, self.values))}]"


@dataclass(frozen=True, slots=True)
class Exists(Condition):
    """A place that is not null."""

    path: Path

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether something stands there."""
        return self.path.value(event, member) is not None

    def __str__(self) -> str:
        return f"exists({self.path})"


@dataclass(frozen=True, slots=True)
class Changed(Condition):
    """A field of the order that `data.changes` names, in any of its lines when it is a line's."""

    path: Path

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether a change is there or inside, or took it along with what it stands in."""
        changes = _CHANGES.value(event, member)
        return isinstance(changes, list) and any(self._touched(each) for each in changes)

    def _touched(self, change: Any) -> bool:
        pointer = change.get("path") if isinstance(change, Mapping) else None
        if not isinstance(pointer, str):
            return False
        steps, place = self.path.steps, _place(pointer)
        if len(place) >= len(steps):
            return place[: len(steps)] == steps
        # A whole part came or went: a line, say. It changed those fields in which something stands.
        inside = steps[len(place) :]
        return steps[: len(place)] == place and any(_stands(change.get(side), inside) for side in ("before", "after"))

    def __str__(self) -> str:
        return f"changed({self.path})"


@dataclass(frozen=True, slots=True)
class Members(Condition):
    """A condition on the members of a list: `any` of them, or `all`."""

    word: str
    path: Path
    condition: Condition

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether it holds for one, or for each; `all` holds for a list without members."""
        found = self.path.value(event, member)
        members = found if isinstance(found, list) else ()
        return {"any": any, "all": all}[self.word](self.condition.holds(event, each) for each in members)

    def __str__(self) -> str:
        return f"{self.word}({self.path}, {self.condition})"


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite."""

    condition: Condition

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether the condition does not."""
        return not self.condition.holds(event, member)

    def __str__(self) -> str:
        return f"not {_grouped(self.condition)}"


@dataclass(frozen=True, slots=True)
class Both(Condition):
    """All of two or more conditions."""

    parts: tuple[Condition, ...]

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether each does."""
        return all(part.holds(event, member) for part in self.parts)

    def __str__(self) -> str:
        return " and ".join(map(_grouped, self.parts))


@dataclass(frozen=True, slots=True)
class Either(Condition):
    """One of two or more conditions."""

    parts: tuple[Condition, ...]

    def holds(self, event: Mapping[str, Any], member: Any = None) -> bool:
        """Whether one does."""
        return any(part.holds(event, member) for part in self.parts)

    def __str__(self) -> str:
        return " or ".join(map(_grouped, self.parts))


def quoted(text: str) -> str:
    """The text as a condition writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_CHANGES = Path(("data", "changes"))


def _grouped(part: Condition) -> str:
    return f"({part})" if isinstance(part, Both | Either) else str(part)


def _place(pointer: str) -> tuple[str, ...]:
    """The steps of a change's path, without the ids of lines and schedules."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    if steps[:1] == ["lines"]:
        del steps[1:2]
        if steps[1:2] == ["schedules"]:
            del steps[2:3]
    return tuple(steps)


def _stands(value: Any, steps: tuple[str, ...]) -> bool:
    """Whether something other than null stands `steps` further, in any member of the lists on the way."""
    return any(each is not None for each in _leaves(value, steps))


def _leaves(value: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    left = [(value, steps)]
    while left:
        place, steps = left.pop()
        if isinstance(place, list):
            left.extend((each, steps) for each in place)
        elif isinstance(place, Mapping):
            left.extend([(place.get(steps[0]), steps[1:])] if steps else [(each, ()) for each in place.values()])
        elif not steps:
            yield place
