"""Operations: one method per thing that people do, checked before anything is stored.

    given -> checked -> (a first look at the ERP) -> sealed -> stored -> shown

Secrets come in and are sealed; only a new signing secret goes out, once. This is the one door; each noun has its room.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from relay.control.connection_life import ConnectionLife
from relay.control.customers import CustomerOperations
from relay.control.deliveries import DeliveryOperations
from relay.control.doctor import Doctor
from relay.control.endpoints import EndpointOperations
from relay.control.findings import Examination
from relay.control.key_views import KeysShown
from relay.control.keys import KeyCare
from relay.control.mapping import MappingOperations
from relay.control.sync import SyncOperations
from relay.domain.errors import KeyTrouble
from relay.store.keys import KeyStore


@dataclass(frozen=True, slots=True)
class Control(
    CustomerOperations, ConnectionLife, MappingOperations, SyncOperations, EndpointOperations, DeliveryOperations
):
    """All operations."""

    @property
    def keys(self) -> KeyCare:
        """Master keys and data keys."""
        return KeyCare(KeyStore(self.registry.database), self.vault)

    async def examine(self) -> Examination:
        """Look at everything that relay stands on and works for; nothing is changed and no ERP asked."""
        probes = {**self.probes, "keys": self._keys_are_here}
        return await Doctor(self.registry, probes, self.egress, self.resolve, _now).examine()

    async def _keys_are_here(self) -> None:
        shown = await self.keys.show()
        missing = [each.id for each in shown.masters if not each.here]
        if missing or shown.damaged:
            lacking = f"missing master keys: {', '.join(missing)}" if missing else "damaged data keys"
            raise KeyTrouble(f"{lacking}; of customers {', '.join(_whose(shown))}")


def _whose(shown: KeysShown) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*shown.damaged, *(each for key in shown.masters for each in key.customers)]))


def _now() -> datetime:
    return datetime.now(UTC)
