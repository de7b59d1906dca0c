"""Tokens: what callers and receivers show instead of a password. Made once, shown once, kept as a digest.

rlyk_...   an operator key      rlyc_...   a connection's token      rlyp_...   an endpoint's pull token
"""

import base64
import hashlib
import re
from enum import StrEnum

TOKEN_BYTES = 32

_TOKEN = re.compile(r"(rly[kcp]_)[A-Za-z0-9_-]{43}")


class TokenKind(StrEnum):
    """How a token begins, which says what it is for."""

    OPERATOR = "rlyk_"
    CONNECTION = "rlyc_"
    PULL = "rlyp_"


def token_of(kind: TokenKind, random_bytes: bytes) -> str:
    """A token as it is shown once: its kind, and base64url. Give it 32 bytes from the system's randomness."""
    if len(random_bytes) != TOKEN_BYTES:
        raise ValueError(f"a token has {TOKEN_BYTES} bytes")
    return kind + base64.urlsafe_b64encode(random_bytes).decode("ascii").rstrip("=")


def kind_of(token: str) -> TokenKind | None:
    """What a token is for; None for what has not the shape of one."""
    found = _TOKEN.fullmatch(token)
    return TokenKind(found[1]) if found else None


def digest_of(token: str) -> bytes:
    """What is kept of a token: its SHA-256. A token is as random as a key: a plain hash gives nothing away."""
    return hashlib.sha256(token.encode()).digest()
