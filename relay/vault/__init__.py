"""Sealed credentials: envelope encryption with a data key per customer.

    master key (file, environment or KMS)  wraps  a customer's data key  seals  credentials and signing secrets

The database holds wrapped keys and sealed values only: without the master key it tells nobody anything.
"""

from relay.vault.keyring import Keyring
from relay.vault.masters import MasterKeys
from relay.vault.vault import Place, Purpose, Vault

__all__ = ["Keyring", "MasterKeys", "Place", "Purpose", "Vault"]
