"""Operations: one method per thing that people do, checked before anything is stored.

    given -> checked -> (a first look at the ERP) -> sealed -> stored -> shown

Secrets come in and are sealed; only a new signing secret goes out, once. This is the one door; each noun has its room.
"""

from dataclasses import dataclass

from relay.control.connection_life import ConnectionLife
from relay.control.customers import CustomerOperations
from relay.control.deliveries import DeliveryOperations
from relay.control.endpoints import EndpointOperations
from relay.control.keys import KeyCare
from relay.control.sync import SyncOperations
from relay.store.keys import KeyStore


@dataclass(frozen=True, slots=True)
class Control(CustomerOperations, ConnectionLife, SyncOperations, EndpointOperations, DeliveryOperations):
    """All operations."""

    @property
    def keys(self) -> KeyCare:
        """Master keys and data keys."""
        return KeyCare(KeyStore(self.registry.database), self.vault)
