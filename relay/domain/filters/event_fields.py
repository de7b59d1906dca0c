"""The fields of an event as a tree: what conditions are checked against when a person gives them.

EVENT   type, timestamp, data.…          COMPARED   the order's fields that `data.changes` can name
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum, auto
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from relay.domain.catalogue import TYPES
from relay.domain.events import ChangeEvent
from relay.domain.notices import NoticeEvent
from relay.domain.orders import VOLATILE, PurchaseOrder
from relay.domain.results import CommandResult


class Kind(StrEnum):
    """What JSON a field holds, beside null."""

    TEXT = auto()
    NUMBER = auto()
    """A number, or a decimal as text."""
    DATE = auto()
    """A date or time as ISO 8601 text."""
    TRUTH = auto()
    LIST = auto()
    OBJECT = auto()
    ANY = auto()
    """Custom fields, raw records, values before and after: whatever the source says."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands at one place of an event."""

    kind: Kind
    fields: Mapping[str, "Shape"] = field(default_factory=dict)
    """Of an object."""
    each: "Shape | None" = None
    """Of a list: its members."""
    words: tuple[str, ...] = ()
    """The only texts that stand here; none: any text."""

    def at(self, name: str) -> "Shape | None":
        """What stands one step further; None: such a field is not known."""
        return ANYTHING if self.kind is Kind.ANY else self.fields.get(name)


ANYTHING = Shape(Kind.ANY)

_KINDS: tuple[tuple[type, Kind], ...] = (
    (bool, Kind.TRUTH),  # before int, of which it is one
    (AwareDatetime, Kind.DATE),
    (dt.date, Kind.DATE),
    (Decimal, Kind.NUMBER),
    (int, Kind.NUMBER),
    (str, Kind.TEXT),
)


def _shape(annotation: Any) -> Shape:
    parts = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _shape(parts[0])
        case origin if origin in {Union, UnionType}:
            alone = [part for part in parts if part is not NoneType]
            return _shape(alone[0]) if len(alone) == 1 else ANYTHING
        case origin if origin is tuple:
            return Shape(Kind.LIST, each=_shape(parts[0]))
        case origin if origin is Literal:
            return Shape(Kind.TEXT, words=parts)
    return _plain(annotation) if isinstance(annotation, type) else ANYTHING


def _plain(kind: type) -> Shape:
    if issubclass(kind, BaseModel):
        return Shape(Kind.OBJECT, {name: _shape(each.annotation) for name, each in kind.model_fields.items()})
    words = tuple(kind) if issubclass(kind, StrEnum) else ()
    return next((Shape(each, words=words) for known, each in _KINDS if issubclass(kind, known)), ANYTHING)


_EVENT, _RESULT, _NOTICE, _ORDER = map(_plain, (ChangeEvent, CommandResult, NoticeEvent, PurchaseOrder))
_DATA = Shape(
    Kind.OBJECT,
    {name: each for kind in (_NOTICE, _RESULT, _EVENT) for name, each in kind.fields["data"].fields.items()},
)

EVENT = replace(_EVENT, fields={**_EVENT.fields, "type": Shape(Kind.TEXT, words=TYPES), "data": _DATA})
"""A whole event: a change, or a command's result or a connection's notice, which have other fields in their data."""
COMPARED = replace(_ORDER, fields={name: each for name, each in _ORDER.fields.items() if name not in VOLATILE})
"""The fields of an order that are compared between two looks at it."""
