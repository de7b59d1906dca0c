"""Forms: what a connector asks for, field by field, told from its models."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from relay.control.views import View
from relay.ports import ConnectorKind


class FormField(View):
    """One setting or credential. `default` is JSON-shaped; `secret` ones are asked for without being shown."""

    name: str
    type: str
    required: bool
    default: Any
    description: str
    secret: bool


class ConnectorForm(View):
    """Everything that a new connection of this connector needs."""

    name: str
    title: str
    settings: tuple[FormField, ...]
    credentials: tuple[FormField, ...]


def connector_form(kind: ConnectorKind) -> ConnectorForm:
    """The form of a connector."""
    return ConnectorForm(
        name=kind.name, title=kind.title, settings=form_fields(kind.settings), credentials=form_fields(kind.credentials)
    )


def form_fields(model: type[BaseModel]) -> tuple[FormField, ...]:
    """What a model asks for, field by field."""
    schema = model.model_json_schema()
    return tuple(
        FormField(
            name=name,
            type=schema_words(schema["properties"][name], schema.get("$defs", {})),
            required=field.is_required(),
            default=_default(model, name),
            description=field.description or "",
            secret=SecretStr in (field.annotation, *get_args(field.annotation)),
        )
        for name, field in model.model_fields.items()
    )


def _default(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    return model.model_construct(**{name: value}).model_dump(mode="json", include={name}, warnings=False)[name]


def schema_words(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:  # noqa: PLR0911 - a table
    """A JSON Schema in a few words: `text`, `whole number`, `one of a, b`, `map of text to text`."""
    match schema:
        case {"$ref": str(name)}:
            return schema_words(known[name.rpartition("/")[2]], known)
        case {"anyOf": choices}:
            given = [each for each in choices if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(schema_words(each, known) for each in given))
        case {"enum": values}:
            return f"one of {', '.join(map(str, values))}"
        case {"const": value}:
            return str(value)
        case {"type": "array", "items": part}:
            return f"list of {schema_words(part, known)}"
        case {"type": "object", "patternProperties": parts} if parts:
            return f"map of text to {schema_words(next(iter(parts.values())), known)}"
        case {"type": "object", "additionalProperties": dict() as part}:
            return f"map of text to {schema_words(part, known)}"
        case _:
            return _WORDS.get(str(schema.get("format"))) or _WORDS.get(str(schema.get("type"))) or "any"


_WORDS = {
    "uri": "URL",
    "date": "date",
    "date-time": "time",
    "duration": "time span",
    "password": "secret text",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "map",
}
