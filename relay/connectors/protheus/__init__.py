"""TOTVS Protheus, reading: see `connector.py`; writing: see `writing.py`. Docs: docs/connectors/protheus.md."""

from datetime import timedelta
from typing import Final

from relay.connectors.protheus.codes import OVERRIDABLE
from relay.connectors.protheus.connector import ProtheusConnector
from relay.connectors.protheus.settings import ProtheusCredentials, ProtheusSettings
from relay.connectors.protheus.wrapper import EVERYTHING
from relay.ports import ConnectorKind, Pace

__all__ = ["PROTHEUS", "ProtheusConnector", "ProtheusCredentials", "ProtheusSettings"]

PROTHEUS: Final = ConnectorKind(
    name="protheus",
    title="TOTVS Protheus",
    settings=ProtheusSettings,
    credentials=ProtheusCredentials,
    # Each call holds one of the two to five licensed workers that a customer gives.
    pace=Pace(per_second=4, burst=4, at_once=2, floor=timedelta(milliseconds=200)),
    build=ProtheusConnector,
    overridable=OVERRIDABLE,
    shown_with={"writing": EVERYTHING},
)
