"""A wrapped data key, as it is stored: which master key wrapped it, and what it is bound to.

form (1 byte) | length of the master key's id | id | wrapped data key

form 2   by a key of the keyring, which is here (form 1: the same, from before data keys had versions)
form 3   by a key of the KMS, which never leaves it; its id begins with `transit/`
"""

import hashlib
import re

from relay.domain.errors import KeyTrouble
from relay.domain.keys import FIRST_VERSION, CustomerKey
from relay.vault.envelope import bound_to
from relay.vault.keyring import KEY_ID

UNVERSIONED, BY_KEYRING, BY_KMS = 1, 2, 3
KMS = "transit/"
KMS_KEY = re.compile(r"transit/[A-Za-z0-9._-]{1,200}")


def joined(form: int, master: str, wrapped: bytes) -> bytes:
    """As it is stored."""
    label = master.encode()
    return bytes([form, len(label)]) + label + wrapped


def split(key: CustomerKey) -> tuple[int, str, bytes]:
    """Form, id of the master key, and what that wrapped. Raises KeyTrouble when the key is damaged."""
    form, length = (*key.wrapped[:2], 0, 0)[:2]
    label = key.wrapped[2 : 2 + length].decode("ascii", "replace")
    known = form == BY_KEYRING or (form == UNVERSIONED and key.version == FIRST_VERSION)
    if not (KMS_KEY if form == BY_KMS else KEY_ID).fullmatch(label) or not (known or form == BY_KMS):
        raise KeyTrouble(
            f"the data key of customer `{key.customer_id}` is damaged: it does not name its master key; restore the "
            "row from a backup, or give the customer's secrets again"
        )
    return form, label, key.wrapped[2 + length :]


def label(key: CustomerKey) -> str:
    """The id of its master key; "" when the key is damaged."""
    try:
        return split(key)[1]
    except KeyTrouble:
        return ""


def binding(customer_id: str, version: int, master: str, form: int = BY_KEYRING) -> bytes:
    """What it is bound to: customer, version and master key."""
    if form == UNVERSIONED:
        return bound_to("data-key", customer_id, master)
    return bound_to("data-key", customer_id, str(version), master)


def digest(aad: bytes) -> bytes:
    """The same as bytes that stand beside the data key under a KMS."""
    # Not as associated data of the KMS: not every one of them takes that when it wraps anew.
    return hashlib.sha256(aad).digest()
