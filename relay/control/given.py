"""Given: what people type, checked. Every error names the field and what belongs there, and repeats no secret."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from relay.domain.catalogue import TYPES
from relay.domain.errors import UserError
from relay.domain.events import EVENT_PREFIX
from relay.domain.filters import parse
from relay.domain.mapping import MappingOverrides, honoured
from relay.ports import ConnectorKind

SHORTEST_DEADLINE, LONGEST_DEADLINE = timedelta(seconds=1), timedelta(minutes=5)
MOST_AT_ONCE = 1000
SHORTEST_POLL, LONGEST_POLL = timedelta(milliseconds=100), timedelta(days=1)

_NAME = re.compile(r"[\w.@ -]{1,80}")
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@", re.IGNORECASE)


def connector_named(kinds: Mapping[str, ConnectorKind], name: str) -> ConnectorKind:
    """The connector of this name. Raises UserError listing those that there are."""
    try:
        return kinds[name]
    except KeyError:
        raise UserError(f"there is no connector {name!r}: the known ones are {', '.join(sorted(kinds))}") from None


def name_given(what: str, name: str) -> str:
    """A customer's, connection's or endpoint's name. Raises UserError."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise UserError(
            f"the {what} name {name!r} cannot be used: give 1 to 80 letters, digits, blanks or . _ - @, without / and "
            "without blanks at its ends"
        )
    return name


def settings_given(kind: ConnectorKind, given: Mapping[str, Any]) -> BaseModel:
    """The connector's settings. Raises UserError naming every field that is missing or wrong."""
    try:
        settings = kind.settings.model_validate(given)
    except ValidationError as error:
        raise UserError(told(f"settings of {kind.name}", kind.settings, error)) from None
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, str) and _USER_INFO.match(value):
            raise UserError(f"settings of {kind.name}: {name} holds a user or password before the @: remove it")
    return settings


def mapping_given(kind: ConnectorKind, given: Mapping[str, Any]) -> MappingOverrides:
    """What a connection maps otherwise than its connector. Raises UserError naming all that cannot be used."""
    try:
        overrides = MappingOverrides.model_validate(given)
    except ValidationError as error:
        raise UserError(told(f"mapping of {kind.name}", MappingOverrides, error)) from None
    return honoured(kind.overridable, overrides)


def credentials_given(kind: ConnectorKind, given: Mapping[str, Any]) -> BaseModel:
    """The connector's credentials. Raises UserError naming every field that is missing or wrong, never a value."""
    known = kind.credentials.model_fields
    if unknown := len(given.keys() - known.keys()):
        # Not by name: people paste a password where a name belongs.
        raise UserError(
            f"credentials of {kind.name}: {unknown} unknown field(s); the known ones are {', '.join(known)}"
        )
    try:
        return kind.credentials.model_validate(given)
    except ValidationError as error:
        raise UserError(told(f"credentials of {kind.name}", kind.credentials, error)) from None


def event_types_given(given: Iterable[str]) -> tuple[str, ...]:
    """Event types, whole or without `purchase_order.`. Raises UserError listing those that there are."""
    types = tuple(dict.fromkeys(each if each in TYPES else _whole(each) for each in given))
    if unknown := [each for each in types if each not in TYPES]:
        raise UserError(f"unknown event type {', '.join(unknown)}: the known ones are {', '.join(TYPES)}")
    return types


def where_given(text: str) -> str:
    """A condition on events, without the blanks around it; empty: every event.

    Raises UserError with the place of what cannot be read or can never hold.
    """
    text = text.strip()
    try:
        if text:
            parse(text)
    except UserError as error:
        raise UserError(f"where: {error}") from None
    return text


def span_given(what: str, span: timedelta, least: timedelta, most: timedelta) -> timedelta:
    """A time span within its bounds. Raises UserError."""
    if not least <= span <= most:
        raise UserError(f"{what} is {span.total_seconds():g} s: give {least.total_seconds():g} s to {_seconds(most)}")
    return span


def at_once_given(at_once: int) -> int:
    """How many attempts may be in flight. Raises UserError."""
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise UserError(f"at_once is {at_once}: give 1 to {MOST_AT_ONCE}")
    return at_once


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"


def told(what: str, model: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with each field of `what`, in words for people; no value is repeated."""
    wrong = error.errors(include_input=False, include_url=False, include_context=False)
    return "\n".join([f"the {what} cannot be used:", *(f"  {_line(model, each)}" for each in wrong)])


def _line(model: type[BaseModel], wrong: Mapping[str, Any]) -> str:
    place: Sequence[str | int] = wrong["loc"]
    name = ".".join(str(step) for step in place) or "as a whole"
    field = model.model_fields.get(str(place[0])) if place else None
    if wrong["type"] == "missing":
        return f"{name} is missing{_belongs(field.description if field else None)}"
    if wrong["type"] == "extra_forbidden":
        return f"{name} is not known; the known ones are {', '.join(model.model_fields)}"
    message = wrong["msg"].removeprefix("Value error, ")
    return f"{name}: {message}{_belongs(field.description if field else None)}"


def _belongs(description: str | None) -> str:
    return f" ({description.rstrip('.')})" if description else ""


def _whole(event_type: str) -> str:
    return event_type if event_type.startswith(EVENT_PREFIX) else EVENT_PREFIX + event_type
