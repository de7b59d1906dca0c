"""docs/schemas/*.json and docs/asyncapi.json: what is on the topics and in webhooks, for machines."""

from typing import Any

from pydantic import BaseModel

from relay.domain.command_schemas import command_schema, schema_name
from relay.domain.commands import CommandType
from relay.domain.events import ChangeEvent
from relay.domain.notices import NoticeEvent
from relay.domain.orders import OrderDocument
from relay.domain.payload import ThinEvent
from relay.domain.results import CommandResult
from relay.streams import documented
from relay.wire.kafka import Topics

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PREFIX = "relay"


def change_event_schema() -> dict[str, Any]:
    """The body of a change event, on the topic and in webhooks."""
    return _schema(ChangeEvent, "change-event.v1", "Change event")


def thin_event_schema() -> dict[str, Any]:
    """The body of a thin webhook."""
    return _schema(ThinEvent, "thin-event.v1", "Thin change event")


def purchase_order_schema() -> dict[str, Any]:
    """The value on the state topic, and `data.order` of an event."""
    return _schema(OrderDocument, "purchase-order.v1", "Purchase order")


def notice_schema() -> dict[str, Any]:
    """The body of a notice on the operations topic."""
    return _schema(NoticeEvent, "notice.v1", "Operational notice")


def command_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each type of command, by name."""
    return {schema_name(kind): _named(command_schema(kind), schema_name(kind), _title(kind)) for kind in CommandType}


def command_result_schema() -> dict[str, Any]:
    """The body of a command's result, on the topic and in webhooks."""
    return _schema(CommandResult, "command-result.v1", "Result of a command")


def asyncapi() -> dict[str, Any]:
    """The topics as AsyncAPI 3."""
    described: dict[str, Any] = documented(Topics(PREFIX)).schema.to_specification().to_jsonable()
    return described


def _schema(model: type[BaseModel], name: str, title: str) -> dict[str, Any]:
    return _named(model.model_json_schema(mode="serialization"), name, title)


def _title(kind: CommandType) -> str:
    return f"Command: {kind.replace('_', ' ')}"


def _named(schema: dict[str, Any], name: str, title: str) -> dict[str, Any]:
    return {**schema, "$schema": DIALECT, "$id": f"urn:relay:schema:{name}", "title": title}
