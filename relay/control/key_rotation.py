"""New data keys: made, used for everything of their customers, and the old ones removed, some customers at a time.

    new version (from now on it seals) -> values of older versions opened and sealed anew -> older versions removed

Whoever changes a secret meanwhile wins: a value is exchanged only when it is still what was opened. One that was sealed
with the old key in the last moment is found by looking again, before PostgreSQL lets the old key go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.domain.errors import KeyTrouble, NotFound
from relay.domain.keys import CustomerKey
from relay.store.keys import DueCustomer, KeyStore
from relay.store.sealed import COLUMNS, SealedValue
from relay.vault.envelope import version_of
from relay.vault.vault import Place, Purpose, Vault, opened_with, sealed_with

CUSTOMERS = 500
"""At a time: their data keys are in memory for so long."""
VALUES = 1000
LOOKS = 5
"""Before people who keep on sealing are left to the next rotation."""


@dataclass
class Renewal:
    """One rotation of data keys. `progress` hears of customers: how many are done, of how many."""

    store: KeyStore
    vault: Vault
    progress: Callable[[int, int], None]
    done: int = 0
    values: int = 0
    troubles: list[tuple[SealedValue, KeyTrouble]] = field(default_factory=list)

    async def every(self) -> None:
        """All customers; where an earlier rotation of all broke off, it goes on."""
        began = await self.store.under_way() or await self.store.begin_rotation()
        total, _ = await self.store.count()
        before = self.done = await self.store.done(began)
        after = ""
        self.progress(self.done, total)
        while due := await self.store.due(began, after, CUSTOMERS):
            after = due[-1].customer_id
            await self._renew(due)
            self.progress(self.done, total)
        self.done -= before
        if not self.troubles:
            await self.store.finish_rotation(began)

    async def one(self, customer: str) -> None:
        """One customer. Raises NotFound."""
        keys = await self.store.of([customer])
        if not keys:
            raise NotFound(f"there is no customer {customer!r} with a data key")
        self.progress(0, 1)
        await self._renew([DueCustomer(customer, keys[-1].version, wants_new=len(keys) == 1)])
        self.progress(1, 1)

    async def _renew(self, due: Sequence[DueCustomer]) -> None:
        wanted = [(each.customer_id, each.newest + 1) for each in due if each.wants_new]
        await self.store.add(await self.vault.new_keys(wanted))
        left = [each.customer_id for each in due]
        for _ in range(LOOKS):
            troubles = await self._reseal(left)
            left = await self.store.retire(left)
            if not set(left) - {value.customer_id for value, _ in troubles}:
                break
        self.troubles += troubles
        self.done += len(due) - len(left)

    async def _reseal(self, customers: Sequence[str]) -> list[tuple[SealedValue, KeyTrouble]]:
        """Seal everything of these customers with their newest keys; what could not be."""
        keys = _DataKeys.of(self.vault, await self.store.of(customers))
        troubles: list[tuple[SealedValue, KeyTrouble]] = []
        for purpose in COLUMNS:
            after, more = "", True
            while more:
                stale = await self.store.sealed.stale(purpose, keys.newest, after, VALUES)
                if more := len(stale) == VALUES:
                    after = stale[-1].subject
                anew: list[tuple[SealedValue, bytes]] = []
                for value in stale:
                    try:
                        anew.append((value, await keys.resealed(value)))
                    except KeyTrouble as trouble:
                        troubles.append((value, trouble))
                self.values += await self.store.sealed.exchange([v for v, _ in anew], [sealed for _, sealed in anew])
        return troubles


@dataclass(frozen=True, slots=True)
class _DataKeys:
    """The opened data keys of a few customers, for as long as their values are sealed anew."""

    vault: Vault
    wrapped: dict[tuple[str, int], CustomerKey]
    newest: dict[str, int]
    opened: dict[tuple[str, int], bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, vault: Vault, keys: Sequence[CustomerKey]) -> "_DataKeys":
        # By customer and version, so a customer's last one stands.
        newest = {key.customer_id: key.version for key in keys}
        return cls(vault, {(key.customer_id, key.version): key for key in keys}, newest)

    async def resealed(self, value: SealedValue) -> bytes:
        """The same secret, sealed with the newest key. Raises KeyTrouble, Transient."""
        place = Place(value.customer_id, value.subject, Purpose(value.purpose))
        version = self.newest[value.customer_id]
        secret = opened_with(await self._key(value.customer_id, version_of(value.sealed)), place, value.sealed)
        return sealed_with(await self._key(value.customer_id, version), version, place, secret)

    async def _key(self, customer: str, version: int) -> bytes:
        name = customer, version
        if name not in self.wrapped:
            raise KeyTrouble(f"customer `{customer}` has no data key {version}")
        if name not in self.opened:
            self.opened[name] = await self.vault.masters.unwrap(self.wrapped[name])
        return self.opened[name]
