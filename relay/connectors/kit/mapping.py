"""Mapping as data: which source field feeds which canonical one, by which named rule.

    Rule("lines[].quantity", "C7_QUANT", quantity(2)) ... mapped(rules, record) -> {"quantity": Decimal("100")}
                                                          capabilities(name, rules)   the field mapping page

A rule reads one source value; where none fits, `derived` says in words how the connector makes the field, and its
code does. A value that a rule cannot read raises RecordRejected naming the source field, never the value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ValidationError

from relay.domain.capabilities import Capabilities, FieldCapability
from relay.domain.errors import RecordRejected
from relay.domain.orders import Line, PurchaseOrder, Status

FieldType = Literal["text", "amount", "date", "datetime", "boolean", "code", "object"]
LINES: Final = "lines[]."
_OWN: Final = "custom_fields."
_NOTHING_TAKEN: Final[Mapping[str, "Writable"]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reader:
    """A named way to read one source value; `read` raises ValueError for what it cannot read."""

    name: str
    type: FieldType
    read: Callable[[Any], Any]
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One canonical field: `path` (lines as `lines[].quantity`), its source field, how it is read, its length."""

    path: str
    source: str
    reader: Reader
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Writable:
    """What the system takes of one field: in a new order, whether a new order needs it, and until when it may change.

    `until` is the last status in which a new value is taken; None: never once the order is there.
    """

    create: bool = True
    required: bool = False
    until: Status | None = None


def derived(words: str, type: FieldType = "text") -> Reader:  # noqa: A002 - the capability's own name
    """A field that the connector's code makes from several values; `words` say how."""
    return Reader(words, type, read=lambda value: value)


def mapped(rules: Iterable[Rule], record: Mapping[str, Any], *, remote_id: str) -> dict[str, Any]:
    """The canonical fields of one record, nested; fields that the record does not hold are left out.

    Raises RecordRejected.
    """
    fields: dict[str, Any] = {}
    for rule in rules:
        if rule.source in record:
            _place(fields, rule.path.removeprefix(LINES), _value(rule, record[rule.source], remote_id))
    return fields


def built(fields: Mapping[str, Any], *, remote_id: str, sources: Mapping[str, str]) -> PurchaseOrder:
    """The order of these canonical fields; raises RecordRejected naming the source field that is wrong."""
    try:
        return PurchaseOrder.model_validate(fields)
    except ValidationError as error:
        # Not `from error`: its text quotes the ERP's values, which belong in no log.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = path_of(first["loc"])
        raise RecordRejected(f"{path}: {first['msg']}", field=sources.get(path, path), remote_id=remote_id) from None


def path_of(place: Sequence[str | int]) -> str:
    """A pydantic location as a canonical path: `("lines", 0, "quantity")` -> `lines[].quantity`."""
    path = ""
    for step in place:
        path += "[]" if isinstance(step, int) else f".{step}" if path else step
    return path


def capabilities(
    connector: str,
    rules: Sequence[Rule],
    *,
    hidden: frozenset[str] = frozenset(),
    writable: Mapping[str, Writable] = _NOTHING_TAKEN,
) -> Capabilities:
    """What is known of every canonical field: the mapped ones, then those that this system cannot give.

    `hidden` are source fields that the ERP keeps back from this user; `writable` says by path what it takes.
    """
    known = [_capability(rule, hidden, writable.get(rule.path, Writable(create=False))) for rule in rules]
    covered = {rule.path for rule in rules}
    missing = (
        *_uncovered(PurchaseOrder, covered, "", {"lines", *_RELAYS_OWN}),
        *_uncovered(Line, covered, LINES, _RELAYS_OWN),
    )
    return Capabilities(
        connector=connector, fields=(*known, *(FieldCapability(path=path, readable=False) for path in missing))
    )


def _capability(rule: Rule, hidden: frozenset[str], writable: Writable) -> FieldCapability:
    return FieldCapability(
        path=rule.path,
        source=rule.source,
        rule=rule.reader.name,
        type=rule.reader.type,
        max_length=rule.length,
        decimals=rule.reader.decimals,
        readable=rule.source not in hidden,
        creatable=writable.create,
        required=writable.required,
        updatable=writable.until is not None,
        updatable_until=writable.until,
    )


_RELAYS_OWN: Final = frozenset({"remote_id", "remote_was_deleted", "field_presence", "raw", "custom_fields"})
"""Always there, made by the connector or by relay."""


def _uncovered(model: type[BaseModel], covered: AbstractSet[str], prefix: str, own: AbstractSet[str]) -> Iterable[str]:
    """Paths of the model that no rule feeds; an object of which nothing is fed is one path."""
    for name in model.model_fields:
        parts = {f"{prefix}{path}" for path in _paths(model, name)}
        if name not in own:
            yield from sorted(parts - covered) if parts & covered else (f"{prefix}{name}",)


def _paths(model: type[BaseModel], name: str) -> tuple[str, ...]:
    kinds = (model.model_fields[name].annotation, *get_args(model.model_fields[name].annotation))
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return tuple(f"{name}.{part}" for part in kind.model_fields)
    return (name,)


def _value(rule: Rule, value: Any, remote_id: str) -> Any:
    try:
        return rule.reader.read(value)
    except ValueError as error:
        raise RecordRejected(f"{rule.source}: {error}", field=rule.source, remote_id=remote_id) from None


def _place(fields: dict[str, Any], path: str, value: Any) -> None:
    # An extra column keeps its source name, dots and all.
    own = path.startswith(_OWN)
    *parents, last = (_OWN.removesuffix("."), path.removeprefix(_OWN)) if own else path.split(".")
    for step in parents:
        fields = fields.setdefault(step, {})
    fields[last] = value
