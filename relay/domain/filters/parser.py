"""Filters: the conditions that people write, read and checked against the fields that an event has.

    text -> tokens -> parse -> Condition          data.order.total > 1000 and changed(delivery_date)

    either = both {"or" both}      both = test {"and" test}
    test   = "not" test | "(" either ")" | ("any" | "all") "(" path "," either ")" | "exists" "(" path ")"
           | "changed" "(" path ")" | path | value sign value | path ["not"] "in" "[" constant {"," constant} "]"

What can be known to be wrong is refused when it is given, with its place: a filter that never holds loses events.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import ParamSpec, TypeVar

from relay.domain.errors import UserError
from relay.domain.filters import checks
from relay.domain.filters.comparisons import SIGNS
from relay.domain.filters.conditions import (
    RESERVED,
    Among,
    Both,
    Changed,
    Compare,
    Condition,
    Constant,
    Either,
    Exists,
    Members,
    Not,
    Operand,
    Path,
)
from relay.domain.filters.event_fields import ANYTHING, EVENT, Kind, Shape
from relay.domain.filters.tokens import Tokens, unquoted

LONGEST = 2000
"""Characters of a filter."""
DEEPEST = 20
"""Conditions in each other."""
MOST_VALUES = 250
"""Fields and constants."""
REMEMBERED = 10_000
"""Filters that need not be read again."""

_WORDS = {"true": True, "false": False, "null": None}

Part = TypeVar("Part")
Given = ParamSpec("Given")


@lru_cache(REMEMBERED)
def parse(text: str) -> Condition:
    """The condition that `text` writes.

    Raises:
        UserError: it cannot be read, names a field that no event has, compares what can never be equal, or is too
            large. The message shows the place, and what belongs there.
    """
    if len(text) > LONGEST:
        raise UserError(f"the condition has {len(text)} characters: give {LONGEST} at most")
    return _Reading(text).whole()


class _Reading:
    """One text, read once from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = Tokens(text)
        self._depth = self._values = 0
        self._member: Shape | None = None
        """What any() or all() looks at, while inside of one."""

    def whole(self) -> Condition:
        condition = self._either()
        if self._tokens.now.kind != "end":
            self._tokens.refuse("`and`, `or` or the end is expected")
        return condition

    def _either(self) -> Condition:
        parts = self._several(self._both, "or")
        return Either(parts) if len(parts) > 1 else parts[0]

    def _both(self) -> Condition:
        parts = self._several(self._test, "and")
        return Both(parts) if len(parts) > 1 else parts[0]

    def _test(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            self._tokens.refuse(f"conditions stand more than {DEEPEST} deep in each other")
        match self._tokens.now.text:
            case "not":
                self._tokens.take()
                made: Condition = Not(self._test())
            case "(":
                made = self._between("(", self._either, ")")
            case "exists":
                self._tokens.take()
                made = Exists(self._between("(", self._path, ")")[0])
            case "changed":
                self._tokens.take()
                made = Changed(self._between("(", self._compared_path, ")"))
            case "any" | "all":
                word = self._tokens.take().text
                made = self._between("(", lambda: self._members(word), ")")
            case _:
                made = self._comparison()
        self._depth -= 1
        return made

    def _members(self, word: str) -> Condition:
        at, (path, shape) = self._tokens.now.at, self._path()
        if self._member and path.of_event:
            # Otherwise a list would be gone through once for each member of another.
            self._tokens.refuse("inside any(...) and all(...) only lists of the member can be looked into", at)
        outer, self._member = self._member, self._checked(at, checks.member, path, shape)
        self._tokens.expect(",")
        condition = self._either()
        self._member = outer
        return Members(word, path, condition)

    def _compared_path(self) -> Path:
        at, steps = self._tokens.now.at, self._steps()
        if self._member:
            self._tokens.refuse("changed(...) is about the whole order: write it outside of any(...) and all(...)", at)
        steps = steps[2:] if steps[:2] == ("data", "order") and steps[2:] else steps
        self._checked(at, checks.compared, steps)
        return Path(steps)

    def _comparison(self) -> Condition:
        at, (left, shape) = self._tokens.now.at, self._operand()
        match self._tokens.now.text:
            case "in":
                return self._among(left, shape, at)
            case "not":
                self._tokens.take()
                return Not(self._among(left, shape, at))
            case sign if sign in SIGNS:
                return self._compare(left, shape, at)
            case _:
                self._checked(at, checks.truth, left, shape)
                return Compare(left, "==", Constant(True))

    def _compare(self, left: Operand, shape: Shape, at: int) -> Condition:
        sign, there, (right, other) = self._tokens.take().text, self._tokens.now.at, self._operand()
        self._checked(at, checks.comparable, left, sign, right)
        if sign.isalpha() and self._member and isinstance(left, Path) and left.of_event:
            # Otherwise a long text would be searched once for each member of a list.
            self._tokens.refuse(f"inside any(...) and all(...) {sign} can only look at fields of the member", at)
        return Compare(self._fitted(left, sign, other, at), sign, self._fitted(right, sign, shape, there))

    def _among(self, left: Operand, shape: Shape, at: int) -> Condition:
        self._tokens.expect("in")
        if isinstance(left, Constant):
            self._tokens.refuse("on the left a field is expected, without quotes", at)
        return Among(left, self._between("[", lambda: self._several(lambda: self._listed(shape), ","), "]"))

    def _listed(self, shape: Shape) -> Constant:
        at, (value, _) = self._tokens.now.at, self._operand()
        fitted = self._fitted(value, "==", shape, at)
        if isinstance(fitted, Path):
            self._tokens.refuse("a list holds values only, not fields", at)
        return fitted

    def _fitted(self, operand: Operand, sign: str, other: Shape, at: int) -> Operand:
        """A constant as the other side holds it: a number even when it was written as text."""
        if isinstance(operand, Path):
            return operand
        self._checked(at, checks.constant, operand.constant, sign, other)
        if other.kind is Kind.NUMBER and isinstance(operand.constant, str):
            return Constant(Decimal(operand.constant))
        return operand

    def _operand(self) -> tuple[Operand, Shape]:
        token = self._tokens.now
        match token.kind:
            case "name" if token.text not in _WORDS:
                return self._path()
            case "name":
                made = Constant(_WORDS[token.text])
            case "number":
                made = Constant(Decimal(token.text))
            case "text":
                made = Constant(unquoted(token.text))
            case _:
                self._tokens.refuse("a field or a value is expected, like data.order.total or 1000")
        self._tokens.take()
        self._count()
        return made, ANYTHING

    def _path(self) -> tuple[Path, Shape]:
        at, steps = self._tokens.now.at, self._steps()
        of_event = self._member is None or steps[0] == "data"
        shape = self._checked(at, checks.field, EVENT if of_event or not self._member else self._member, steps)
        return Path(steps, of_event, number=shape.kind is Kind.NUMBER), shape

    def _steps(self) -> tuple[str, ...]:
        if self._tokens.now.kind != "name" or self._tokens.now.text in RESERVED:
            self._tokens.refuse("a field is expected, like data.order.total")
        self._count()
        steps = [self._tokens.take().text]
        while self._tokens.now.text in {".", "["}:
            if self._tokens.take().text == ".":
                steps.append(self._tokens.expect_kind("name", "the name of a field"))
            else:
                steps.append(unquoted(self._tokens.expect_kind("text", "a name in quotes")))
                self._tokens.expect("]")
        return tuple(steps)

    def _several(self, read: Callable[[], Part], separator: str) -> tuple[Part, ...]:
        parts = [read()]
        while self._tokens.now.text == separator:
            self._tokens.take()
            parts.append(read())
        return tuple(parts)

    def _between(self, opening: str, read: Callable[[], Part], closing: str) -> Part:
        self._tokens.expect(opening)
        part = read()
        self._tokens.expect(closing)
        return part

    def _count(self) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            self._tokens.refuse(f"the condition has more than {MOST_VALUES} fields and values")

    def _checked(self, at: int, check: Callable[Given, Part], *given: Given.args, **named: Given.kwargs) -> Part:
        try:
            return check(*given, **named)
        except ValueError as error:
            self._tokens.refuse(str(error), at)
