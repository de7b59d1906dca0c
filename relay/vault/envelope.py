"""One sealed value: AES-256-GCM with the place it belongs to as associated data.

    head (says what it is) | nonce (12 bytes, random) | ciphertext and tag (16 bytes more than the plaintext)

The associated data is not stored: who opens must name the same place, so a value moved elsewhere does not open. The
head is part of it, so that it cannot be exchanged either.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.domain.errors import KeyTrouble
from relay.domain.keys import FIRST_VERSION

KEY_BYTES = 32
PLAIN_HEAD = b"\x01"
"""Of what needs no version: wrapped keys, and values that were sealed before data keys had versions."""
VERSIONED = 2
"""First byte of a head that goes on with the version of the data key, in two bytes."""
NONCE_BYTES = 12
TAG_BYTES = 16


def head_of(version: int) -> bytes:
    """The head of a value that is sealed with this version of its customer's data key."""
    return bytes([VERSIONED]) + version.to_bytes(2, "big")


def version_of(sealed: bytes) -> int:
    """Which version of its customer's data key a value is sealed with. Raises KeyTrouble when it does not say."""
    if len(sealed) < len(PLAIN_HEAD) + NONCE_BYTES + TAG_BYTES:
        raise KeyTrouble(f"a sealed value is too short to be one ({len(sealed)} bytes): the row is damaged or empty")
    if sealed.startswith(PLAIN_HEAD):
        return FIRST_VERSION
    if sealed[0] != VERSIONED:
        raise KeyTrouble(f"a sealed value has the unknown form {sealed[0]}: it is damaged, or from a newer relay")
    return int.from_bytes(sealed[1:3], "big")


def seal(key: bytes, plaintext: bytes, aad: bytes, head: bytes = PLAIN_HEAD) -> bytes:
    """Seal `plaintext` under a 32-byte key for the place that `aad` names.

    Raises KeyTrouble when the key has another length.
    """
    nonce = os.urandom(NONCE_BYTES)
    return head + nonce + _cipher(key).encrypt(nonce, plaintext, head + aad)


def open_sealed(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext of a value sealed under this key for this place.

    Raises KeyTrouble when it was changed, cut, made for another place or under another key. The message says none of
    the content.
    """
    version_of(sealed)
    head = sealed[: len(PLAIN_HEAD) if sealed.startswith(PLAIN_HEAD) else len(head_of(FIRST_VERSION))]
    nonce, ciphertext = sealed[len(head) : len(head) + NONCE_BYTES], sealed[len(head) + NONCE_BYTES :]
    try:
        return _cipher(key).decrypt(nonce, ciphertext, head + aad)
    except InvalidTag:
        raise KeyTrouble(
            "it was changed, cut, moved from another row, or sealed with another key; restore the row or the master "
            "key, or give the secret again"
        ) from None


def bound_to(*parts: str) -> bytes:
    """Associated data naming a place. Each part carries its length, so ("ab", "c") is not ("a", "bc")."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise KeyTrouble(f"a key must have {KEY_BYTES} bytes, this one has {len(key)}")
    return AESGCM(key)
