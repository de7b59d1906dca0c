"""The generated part of docs/events.md: headers, fields, and an example of every event type."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

import orjson
from pydantic import AwareDatetime, BaseModel

from relay.docs.markdown import code, rows
from relay.domain.cloudevents import cloudevent_headers
from relay.domain.events import EVENT_TYPES, ChangeData, ChangeEvent
from relay.domain.orders import OrderDocument, order_key
from relay.domain.samples import ORIGIN, sample_event

WHOLE = "purchase_order.approved"
"""The type whose example is shown with the whole order."""
COLUMNS = ("field", "type", "may be null", "meaning")

_WORDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (AwareDatetime, "time, UTC"),
    (dt.date, "date"),
    (Decimal, "decimal as text"),
    (int, "whole number"),
    (str, "text"),
)


def events_part() -> str:
    """Headers of a message, the fields of event and order, and one example per type."""
    return "\n".join(
        (
            "### Headers on the topic\n",
            rows(("header", "example"), _headers(sample_event(WHOLE))),
            "### Fields of `data`\n",
            rows(COLUMNS, fields(ChangeData, skip=("order",))),
            "### Fields of `data.order`, and of the state topic\n",
            rows(COLUMNS, fields(OrderDocument)),
            "### Examples\n",
            *(_example(event_type) for event_type in EVENT_TYPES),
        )
    )


def _headers(event: ChangeEvent) -> Iterator[tuple[str, str]]:
    data = event.data
    key = order_key(data.connection_id, data.remote_id)
    made = cloudevent_headers(
        id=data.event_id,
        source=f"/relay/connections/{ORIGIN.connection_id}",
        type=event.type,
        time=event.timestamp,
        subject=data.order_id,
        extensions={"sequence": str(data.sequence), "partitionkey": key},
    )
    yield "(the message's key)", code(key)
    yield from ((code(name), code(value.decode())) for name, value in made)


def fields(
    model: type[BaseModel], *, prefix: str = "", skip: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, str, str]]:
    """The model's fields as rows under COLUMNS, those of its parts under their names."""
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        kinds = (field.annotation, *_leaves(field.annotation))
        part = next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)
        many = "[]" if any(getattr(each, "__origin__", None) is tuple for each in kinds) else ""
        null = "yes" if type(None) in get_args(field.annotation) else ""
        words = "object" if part else _word(kinds)
        described = (part.__doc__ or "").partition("\n")[0] if part else ""
        yield code(f"{prefix}{name}{many}"), words, null, field.description or described
        if part:
            yield from fields(part, prefix=f"{prefix}{name}{many}.")


def _leaves(annotation: Any) -> Iterator[Any]:
    for each in get_args(annotation):
        yield each
        yield from _leaves(each)


def _word(kinds: tuple[Any, ...]) -> str:
    types = [each for each in kinds if isinstance(each, type)]
    if chosen := next((each for each in types if issubclass(each, StrEnum)), None):
        return f"one of {', '.join(chosen)}"
    if literal := next((each for each in kinds if get_origin(each) is Literal), None):
        return f"one of {', '.join(get_args(literal))}"
    if any(getattr(each, "__origin__", None) is dict for each in kinds):
        return "map of text to text, true, false or null"
    return next((words for kind, words in _WORDS if any(issubclass(each, kind) for each in types)), "any JSON")


def _example(event_type: str) -> str:
    body = orjson.loads(sample_event(event_type).model_dump_json())
    note = ""
    if event_type != WHOLE:
        del body["data"]["order"]
        note = f"The whole order in `data.order` is left out here; see `{WHOLE}`.\n\n"
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()
    return f"#### `{event_type}`\n\n{note}```json\n{text}\n```\n"
