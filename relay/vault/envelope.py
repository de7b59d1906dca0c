"""One sealed value: AES-256-GCM with the place it belongs to as associated data.

    version (1 byte) | nonce (12 bytes, random) | ciphertext and tag (16 bytes more than the plaintext)

The associated data is not stored: who opens must name the same place, so a value moved elsewhere does not open.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.domain.errors import KeyTrouble

KEY_BYTES = 32
VERSION = b"\x01"
NONCE_BYTES = 12
TAG_BYTES = 16


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Seal `plaintext` under a 32-byte key for the place that `aad` names.

    Raises KeyTrouble when the key has another length.
    """
    nonce = os.urandom(NONCE_BYTES)
    return VERSION + nonce + _cipher(key).encrypt(nonce, plaintext, VERSION + aad)


def open_sealed(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext of a value sealed under this key for this place.

    Raises KeyTrouble when it was changed, cut, made for another place or under another key. The message says none of
    the content.
    """
    if len(sealed) < len(VERSION) + NONCE_BYTES + TAG_BYTES:
        raise KeyTrouble(f"a sealed value is too short to be one ({len(sealed)} bytes): the row is damaged or empty")
    if not sealed.startswith(VERSION):
        raise KeyTrouble(f"a sealed value has the unknown version {sealed[0]}: it is damaged, or from a newer relay")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return _cipher(key).decrypt(nonce, ciphertext, VERSION + aad)
    except InvalidTag:
        raise KeyTrouble(
            "it was changed, moved from another row, or sealed with another key; restore the row or the master key, "
            "or give the secret again"
        ) from None


def bound_to(*parts: str) -> bytes:
    """Associated data naming a place. Each part carries its length, so ("ab", "c") is not ("a", "bc")."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise KeyTrouble(f"a key must have {KEY_BYTES} bytes, this one has {len(key)}")
    return AESGCM(key)
