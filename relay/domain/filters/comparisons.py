"""Comparisons of two JSON values: numbers by value, texts by their characters, and whatever does not fit is false."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

LONGEST_NUMBER = 100
"""Characters: a longer text is no number."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

Comparison = Callable[[Any, Any], bool]


def number(value: Any) -> Decimal | None:
    """A JSON number, or a decimal written as text, exactly; None for all else."""
    match value:
        case bool():
            return None
        case float():
            # The number that was written, not the binary fraction next to it.
            return Decimal(repr(value)) if math.isfinite(value) else None
        case int() | Decimal():
            return Decimal(value)
        case str() if len(value) <= LONGEST_NUMBER and _NUMBER.fullmatch(value):
            return Decimal(value)
        case _:
            return None


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal: as numbers when one is a number; lists and objects never are."""
    if left is None or right is None:
        return left is right
    if _is_number(left) or _is_number(right):
        exact = number(left)
        return exact is not None and exact == number(right)
    return type(left) is type(right) and isinstance(left, str | bool) and left == right


def _is_number(value: Any) -> bool:
    return isinstance(value, Decimal | int | float) and not isinstance(value, bool)


def _different(left: Any, right: Any) -> bool:
    return not same(left, right)


def _ordered(compare: Comparison) -> Comparison:
    def holds(left: Any, right: Any) -> bool:
        if _is_number(left) or _is_number(right):
            left, right = number(left), number(right)
            return left is not None and right is not None and compare(left, right)
        return isinstance(left, str) and isinstance(right, str) and compare(left, right)

    return holds


def _text(compare: Comparison) -> Comparison:
    return lambda left, right: isinstance(left, str) and isinstance(right, str) and compare(left, right)


def _contains(left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return any(same(each, right) for each in left)
    return isinstance(left, str) and isinstance(right, str) and right in left


SIGNS: Mapping[str, Comparison] = MappingProxyType(
    {
        "==": same,
        "!=": _different,
        "<": _ordered(operator.lt),
        "<=": _ordered(operator.le),
        ">": _ordered(operator.gt),
        ">=": _ordered(operator.ge),
        "contains": _contains,
        "startswith": _text(str.startswith),
        "endswith": _text(str.endswith),
    }
)
"""What a condition may write between two values, and what it means."""
