"""TOTVS RM: see `connector.py`. Docs: docs/connectors/rm.md."""

from datetime import timedelta
from typing import Final

from relay.connectors.rm.codes import OVERRIDABLE
from relay.connectors.rm.connector import RmConnector
from relay.connectors.rm.settings import RmCredentials, RmSettings
from relay.ports import ConnectorKind, Pace

__all__ = ["RM", "RmConnector", "RmCredentials", "RmSettings"]

RM: Final = ConnectorKind(
    name="rm",
    title="TOTVS RM",
    settings=RmSettings,
    credentials=RmCredentials,
    pace=Pace(per_second=4, burst=4, at_once=2, floor=timedelta(milliseconds=200)),
    build=RmConnector,
    overridable=OVERRIDABLE,
)
