"""The vault: customers' data keys, and what is sealed with them.

    new_customer_key -> wrapped key (customer's row)
    wrapped key + place + plaintext -> seal -> sealed value (the row that the place names) -> open -> plaintext

A sealed value opens only with its customer's key and in its own place: copied to another row, customer or purpose, it
is refused. Data keys are unwrapped for each use and kept nowhere; that takes microseconds.
"""

import os
from dataclasses import dataclass
from enum import StrEnum

from relay.domain.errors import KeyTrouble
from relay.vault.envelope import KEY_BYTES, bound_to, open_sealed, seal
from relay.vault.keyring import KEY_ID, Keyring

WRAPPED_VERSION = 1


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


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens under data keys that the keyring's master keys wrap."""

    keyring: Keyring

    def new_customer_key(self, customer_id: str) -> bytes:
        """A new random data key, wrapped by the current master key: for the customer's row."""
        key_id = self.keyring.current
        label = key_id.encode()
        wrapped = seal(self.keyring.key(key_id), os.urandom(KEY_BYTES), _wrapped_for(customer_id, key_id))
        return bytes([WRAPPED_VERSION, len(label)]) + label + wrapped

    def seal(self, wrapped_key: bytes, place: Place, plaintext: bytes) -> bytes:
        """Seal a secret for its place. Raises KeyTrouble when the customer's key does not open."""
        return seal(self._data_key(wrapped_key, place.customer_id), plaintext, _sealed_for(place))

    def open(self, wrapped_key: bytes, place: Place, sealed: bytes) -> bytes:
        """The secret of this place.

        Raises KeyTrouble when the customer's key does not open (naming the master key if that is missing), or the
        value was changed or belongs elsewhere.
        """
        key = self._data_key(wrapped_key, place.customer_id)
        try:
            return open_sealed(key, sealed, _sealed_for(place))
        except KeyTrouble as trouble:
            raise KeyTrouble(f"the {place.purpose} of `{place.subject}` cannot be opened: {trouble}") from None

    def _data_key(self, wrapped_key: bytes, customer_id: str) -> bytes:
        key_id, wrapped = _split(wrapped_key, customer_id)
        try:
            return open_sealed(self.keyring.key(key_id), wrapped, _wrapped_for(customer_id, key_id))
        except KeyTrouble as trouble:
            raise KeyTrouble(
                f"the data key of customer `{customer_id}`, wrapped by `{key_id}`, cannot be opened: {trouble}"
            ) from None


def _split(wrapped_key: bytes, customer_id: str) -> tuple[str, bytes]:
    version, length = (*wrapped_key[:2], 0, 0)[:2]
    label = wrapped_key[2 : 2 + length].decode("ascii", "replace")
    if version != WRAPPED_VERSION or not KEY_ID.fullmatch(label):
        raise KeyTrouble(f"the data key of customer `{customer_id}` is damaged: it does not name its master key")
    return label, wrapped_key[2 + length :]


def _wrapped_for(customer_id: str, key_id: str) -> bytes:
    return bound_to("data-key", customer_id, key_id)


def _sealed_for(place: Place) -> bytes:
    return bound_to("sealed", place.customer_id, place.subject, place.purpose)
