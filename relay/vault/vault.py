"""The vault: customers' data keys, and what is sealed with them.

    place + plaintext -> seal, with the newest data key of the customer -> sealed value (the row that the place names)
    place + sealed value -> open, with the data key whose version it names -> plaintext

A sealed value opens only with its customer's key and in its own place: copied to another row, customer or purpose, it
is refused. Data keys are unwrapped for each use; only those that a KMS unwraps are remembered for a while.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog

from relay.domain.errors import KeyTrouble, Transient
from relay.domain.keys import FIRST_VERSION, CustomerKey
from relay.vault.envelope import KEY_BYTES, bound_to, head_of, open_sealed, seal, version_of
from relay.vault.masters import MasterKeys

log = structlog.get_logger()

ASK_AGAIN = 2.0
"""Seconds, when a KMS does not say how long it wants to be left alone."""


class Purpose(StrEnum):
    """What a sealed value is for."""

    CREDENTIALS = "credentials"
    ACCESS = "access"
    SIGNING_SECRET = "signing-secret"  # noqa: S105 - the name of a purpose, not a secret


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs: its customer, the id of its connection or endpoint, and its purpose."""

    customer_id: str
    subject: str
    purpose: Purpose


class CustomerKeys(Protocol):
    """Where customers' data keys are stored, wrapped."""

    async def newest(self, customer_id: str) -> CustomerKey | None:
        """The one to seal with; None when there is no such customer, or it has none yet."""
        ...

    async def key(self, customer_id: str, version: int) -> CustomerKey | None:
        """The one of this version."""
        ...

    async def begin(self, key: CustomerKey) -> CustomerKey:
        """Store a customer's first key, with the customer; the newest, which may be another's who was faster."""
        ...

    async def value(self, purpose: str, subject: str) -> bytes | None:
        """What is sealed in this place now."""
        ...


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens under data keys that master keys wrap."""

    masters: MasterKeys
    keys: CustomerKeys

    async def seal(self, place: Place, plaintext: bytes) -> bytes:
        """Seal a secret for its place; a customer that is new gets a data key.

        Raises:
            KeyTrouble: there is no master key, or the customer's data key does not open.
            Transient: the KMS does not answer.
        """
        key = await self.keys.newest(place.customer_id) or await self._begun(place.customer_id)
        return sealed_with(await self.masters.unwrap(key), key.version, place, plaintext)

    async def open(self, place: Place, sealed: bytes) -> bytes:
        """The secret of this place.

        Raises:
            KeyTrouble: the customer's key does not open (naming the master key if that is missing), or the value was
                changed or belongs elsewhere.
            Transient: the KMS does not answer.
        """
        try:
            if (key := await self.keys.key(place.customer_id, version_of(sealed))) is None:
                # Sealed with a newer key since it was read? The old one goes when nothing is sealed with it any more.
                sealed = await self.keys.value(place.purpose, place.subject) or sealed
                key = await self._named_by(sealed, place.customer_id)
            return opened_with(await self.masters.unwrap(key), place, sealed)
        except KeyTrouble as trouble:
            raise KeyTrouble(f"the {place.purpose} of `{place.subject}` cannot be opened: {trouble}") from None

    async def open_patiently(self, place: Place, sealed: bytes, stopping: Callable[[], bool]) -> bytes:
        """The secret of this place, as soon as the KMS answers; Transient is raised only when the wait is to stop.

        Raises KeyTrouble as `open` does.
        """
        while True:
            try:
                return await self.open(place, sealed)
            except Transient as trouble:
                if stopping():
                    raise
                log.warning("vault.waits", subject=place.subject, problem=str(trouble))
                await asyncio.sleep(trouble.retry_after or ASK_AGAIN)

    async def new_keys(self, wanted: Sequence[tuple[str, int]]) -> list[CustomerKey]:
        """New random data keys for these customers in these versions, wrapped by the current master key.

        Raises KeyTrouble and Transient.
        """
        return await self.masters.wrap([(customer, version, os.urandom(KEY_BYTES)) for customer, version in wanted])

    async def _named_by(self, sealed: bytes, customer_id: str) -> CustomerKey:
        version = version_of(sealed)
        if key := await self.keys.key(customer_id, version):
            return key
        raise KeyTrouble(
            f"customer `{customer_id}` has no data key {version}, with which it was sealed: restore the customer's "
            "keys from a backup, or give the secret again"
        )

    async def _begun(self, customer_id: str) -> CustomerKey:
        [first] = await self.new_keys([(customer_id, FIRST_VERSION)])
        return await self.keys.begin(first)


def sealed_with(key: bytes, version: int, place: Place, plaintext: bytes) -> bytes:
    """A secret sealed for its place with this version of the customer's data key."""
    return seal(key, plaintext, _sealed_for(place), head_of(version))


def opened_with(key: bytes, place: Place, sealed: bytes) -> bytes:
    """The secret of this place, opened with the data key that its version names. Raises KeyTrouble."""
    return open_sealed(key, sealed, _sealed_for(place))


def _sealed_for(place: Place) -> bytes:
    return bound_to("sealed", place.customer_id, place.subject, place.purpose)
