"""Tryton: the connector and its models; `TRYTON` is its line in the registry."""

from relay.connectors.tryton.connector import TRYTON, TrytonConnector, TrytonCredentials, TrytonSettings

__all__ = ["TRYTON", "TrytonConnector", "TrytonCredentials", "TrytonSettings"]
