"""ed25519 keys of Standard Webhooks v1a, as text and ready for use.

    whsk_ + base64(seed, 32 bytes | public key, 32 bytes)     the sender's: it never leaves relay
    whpk_ + base64(public key, 32 bytes)                      the receiver's: anybody may know it

Both are read strictly: one exact base64 spelling, one length, and the two halves of a private key must belong together.
"""

import base64
import binascii
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.domain.errors import UserError

PRIVATE_PREFIX, PUBLIC_PREFIX = "whsk_", "whpk_"
SEED_BYTES = PUBLIC_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a receiver verifies v1a signatures with."""

    _key: Ed25519PublicKey

    def fits(self, signature: bytes, signed: bytes) -> bool:
        """Whether the holder of the private key made this signature of 64 bytes over `signed`."""
        try:
            self._key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    def text(self) -> str:
        """The key as people copy it: `whpk_...`."""
        return PUBLIC_PREFIX + base64.b64encode(self._key.public_bytes_raw()).decode("ascii")


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What v1a signatures are made with."""

    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, signed: bytes) -> bytes:
        """The signature, 64 bytes; the same for the same text."""
        return self._key.sign(signed)

    @property
    def public(self) -> PublicKey:
        """The key for the receiver."""
        return PublicKey(self._key.public_key())


def new_private_key(seed: bytes) -> str:
    """A private key `whsk_...` from 32 bytes of the system's randomness."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an ed25519 seed has {SEED_BYTES} bytes")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return PRIVATE_PREFIX + base64.b64encode(seed + public).decode("ascii")


def parse_private_key(text: str) -> PrivateKey:
    """The key of `whsk_...`. Raises UserError, which never repeats the text."""
    content = _content(text, PRIVATE_PREFIX, "private", SEED_BYTES + PUBLIC_BYTES)
    key = Ed25519PrivateKey.from_private_bytes(content[:SEED_BYTES])
    if key.public_key().public_bytes_raw() != content[SEED_BYTES:]:
        raise UserError("the two halves of the private key do not belong together: copy it whole, as it was made")
    return PrivateKey(key)


def parse_public_key(text: str) -> PublicKey:
    """The key of `whpk_...`. Raises UserError, which never repeats the text."""
    return PublicKey(Ed25519PublicKey.from_public_bytes(_content(text, PUBLIC_PREFIX, "public", PUBLIC_BYTES)))


def public_key(text: str) -> str:
    """The `whpk_...` that belongs to a `whsk_...`. Raises UserError, which never repeats the text."""
    return parse_private_key(text).public.text()


def exact_base64(text: str) -> bytes | None:
    """What this base64 text holds; None when it is not the one spelling that an encoder would give."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: text outside ASCII
        return None
    return content if base64.b64encode(content).decode("ascii") == text else None


def _content(text: str, prefix: str, which: str, size: int) -> bytes:
    if not text.startswith(prefix):
        raise UserError(f"the {which} key must begin with {prefix}: copy it whole, as it was shown")
    content = exact_base64(text.removeprefix(prefix))
    if content is None:
        raise UserError(f"the {which} key is not base64 after {prefix}: copy it whole, without spaces or line ends")
    if len(content) != size:
        raise UserError(f"the {which} key has {len(content)} bytes: it must have {size}")
    return content
