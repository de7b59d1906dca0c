"""Systems: what a connector gives and takes as it comes, before there is a connection with settings of its own."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from relay.control.look import unconnected
from relay.domain.capabilities import Capabilities
from relay.domain.mapping import MappingOverrides
from relay.ports import ConnectorKind


async def system_of(kind: ConnectorKind) -> Capabilities:
    """Its capabilities; no ERP is asked."""
    given = _placeholder(kind.settings, kind.shown_with), _placeholder(kind.credentials, {})
    async with unconnected(kind, *given, MappingOverrides()) as connector:
        return connector.capabilities()


def _placeholder(model: type[BaseModel], shown_with: Mapping[str, Any]) -> Any:
    """A model whose required fields hold a word: it is never used to reach anything."""
    words: dict[str, Any] = {
        name: SecretStr("example") if field.annotation is SecretStr else "example"
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    return model.model_construct(**words, **shown_with)
