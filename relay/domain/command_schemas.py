"""The JSON Schema of each command, and its model by type."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from relay.domain.commands import COMMAND, Command, CommandType

MODELS: Final[Mapping[CommandType, type[BaseModel]]] = MappingProxyType(
    {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(Command)}
)


class GivenSchema(GenerateJsonSchema):
    """Schemas of what others give."""

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """Text or a number: relay reads both digit by digit."""
        del schema
        return {"anyOf": [{"type": "string", "pattern": r"^[+-]?\d+(\.\d+)?$"}, {"type": "number"}]}

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """No default: a program that sends it would say null, which empties, where nothing was meant."""
        inner: JsonSchemaValue = self.generate_inner(schema["schema"])
        return inner


def command_schema(kind: CommandType) -> dict[str, Any]:
    """What a command of this type looks like as JSON."""
    return MODELS[kind].model_json_schema(schema_generator=GivenSchema)


def any_command_schema(ref_template: str) -> dict[str, Any]:
    """What a command of any type looks like; its parts are under `$defs`, and referred to by the template."""
    return COMMAND.json_schema(schema_generator=GivenSchema, ref_template=ref_template)


def schema_name(kind: CommandType) -> str:
    """What its schema is called: `command-update-lines.v1`."""
    return f"command-{kind.replace('_', '-')}.v1"
