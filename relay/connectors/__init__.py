"""The registry: every ERP that relay speaks, one line each."""

from relay.connectors.protheus import PROTHEUS
from relay.connectors.rm import RM
from relay.connectors.tryton import TRYTON
from relay.ports import ConnectorKind

CONNECTORS: dict[str, ConnectorKind] = {kind.name: kind for kind in (PROTHEUS, RM, TRYTON)}
