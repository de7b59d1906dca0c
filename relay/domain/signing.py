"""Standard Webhooks v1: secrets, signatures and their check.

    signed text = webhook-id "." webhook-timestamp "." body      (the body's bytes, whatever they are)
    signature   = "v1," + base64(HMAC-SHA256(secret, signed text))

Several secrets give several signatures in one header, separated by spaces: that is how a secret is replaced. Every
fault of a webhook is a `SignatureRefused`, so a receiver can answer 401 and never fails on hostile input. Signatures
are compared as text, because one signature has several base64 spellings and only one of them is ours.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from relay.domain.deliveries import Delivery
from relay.domain.errors import RelayError, UserError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
TOLERANCE = 300
"""Seconds that a timestamp may be away from now: what the reference libraries allow."""
MOST_SIGNATURES = 32

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
DELIVERY, ATTEMPT = "relay-delivery", "relay-attempt"
"""Headers beside the standard's: for support, unsigned, never needed to handle a webhook."""

Reason: TypeAlias = Literal["missing", "malformed", "stale", "future", "mismatch"]

_ID = re.compile(r"[!-\-/-~]{1,256}")  # visible ASCII without the dot, which separates the signed parts
_SECONDS = re.compile(r"[0-9]{1,12}")
_DIGEST = re.compile(r"[A-Za-z0-9+/]{43}=")


class SignatureRefused(RelayError):
    """A webhook is not what its sender signed; `reason` says which kind of fault, the message which header."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def new_secret(random_bytes: bytes) -> str:
    """A signing secret as it is shown once: `whsec_` and base64. Give it 32 bytes from the system's randomness."""
    if not SHORTEST <= len(random_bytes) <= LONGEST:
        raise ValueError(f"a signing secret has {SHORTEST} to {LONGEST} bytes")
    return PREFIX + base64.b64encode(random_bytes).decode("ascii")


def parse_secret(text: str) -> bytes:
    """The key inside `whsec_...`.

    Raises:
        UserError: It is another kind of key, is not exact base64, or has not 24 to 64 bytes. Never repeats the text.
    """
    if text.startswith(("whsk_", "whpk_")):
        raise UserError(f"the signing secret is an ed25519 key ({text[:5]}...): give the one that begins with {PREFIX}")
    if not text.startswith(PREFIX):
        raise UserError(f"the signing secret must begin with {PREFIX}: copy it whole, as it was shown")
    key = _exact_base64(text.removeprefix(PREFIX))
    if key is None:
        raise UserError(f"the signing secret is not base64 after {PREFIX}: copy it whole, without spaces or line ends")
    if not SHORTEST <= len(key) <= LONGEST:
        raise UserError(f"the signing secret has {len(key)} bytes: it must have {SHORTEST} to {LONGEST}")
    return key


def sign(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one signature per secret. `timestamp` is the attempt's, in unix seconds.

    Raises:
        ValueError: No secret, an id that is not visible ASCII or has a dot, or a time outside 0..10^12.
    """
    seconds = str(timestamp)
    if not secrets or not _ID.fullmatch(message_id) or not _SECONDS.fullmatch(seconds):
        raise ValueError("signing needs a secret, an id of visible ASCII without dots, and unix seconds")
    signed = _signed_text(message_id, seconds, body)
    return " ".join("v1," + _digest(secret, signed) for secret in secrets)


def webhook_headers(secrets: Sequence[bytes], delivery: Delivery, timestamp: int) -> dict[str, str]:
    """The headers of a delivery's next attempt. `webhook-id` is the event's id, the same on every attempt."""
    return {
        "content-type": "application/json",
        ID: delivery.event_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(secrets, delivery.event_id, timestamp, delivery.body),
        DELIVERY: delivery.id,
        ATTEMPT: str(delivery.attempts + 1),
    }


def verify(
    secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: int, tolerance: int = TOLERANCE
) -> None:
    """Check a received webhook: silence means that the holder of one of the secrets signed it, near `now`.

    Header names may come in any case; `now` is unix seconds, `tolerance` seconds.

    Raises:
        SignatureRefused: A header is missing or malformed, the time is too far away, or no signature fits.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    message_id = _header(by_name, ID, _ID)
    seconds = _header(by_name, TIMESTAMP, _SECONDS)
    given = _given(by_name.get(SIGNATURE))
    _near(int(seconds), now, tolerance)
    signed = _signed_text(message_id, seconds, body)
    wanted = [_digest(secret, signed).encode() for secret in secrets]
    # No early end: how long it takes tells nobody which secret or signature came close.
    fits = [hmac.compare_digest(one, other) for one in wanted for other in given]
    if not any(fits):
        raise SignatureRefused("mismatch", "no signature fits: another secret, or the body, id or time was changed")


def _exact_base64(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: text outside ASCII
        return None
    return key if base64.b64encode(key).decode("ascii") == text else None


def _signed_text(message_id: str, seconds: str, body: bytes) -> bytes:
    return f"{message_id}.{seconds}.".encode() + body


def _digest(secret: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode("ascii")


def _header(by_name: Mapping[str, str], name: str, shape: re.Pattern[str]) -> str:
    value = by_name.get(name)
    if not value:
        raise SignatureRefused("missing", f"the header {name} is missing")
    if not shape.fullmatch(value):
        raise SignatureRefused("malformed", f"the header {name} is malformed")
    return value


def _given(header: str | None) -> list[bytes]:
    """The v1 signatures of the header; other versions (v1a) are for other keys and are passed over."""
    if not header:
        raise SignatureRefused("missing", f"the header {SIGNATURE} is missing")
    parts = header.split(" ") if header.isascii() else []
    if not 1 <= len(parts) <= MOST_SIGNATURES or not all(part.partition(",")[2] for part in parts):
        raise SignatureRefused("malformed", f"the header {SIGNATURE} is malformed")
    ours = [part[3:] for part in parts if part.startswith("v1,")]
    if not ours:
        raise SignatureRefused("malformed", f"the header {SIGNATURE} has no v1 signature")
    if not all(_DIGEST.fullmatch(one) for one in ours):
        raise SignatureRefused("malformed", f"a v1 signature in the header {SIGNATURE} is malformed")
    return [one.encode() for one in ours]


def _near(seconds: int, now: int, tolerance: int) -> None:
    if seconds < now - tolerance:
        raise SignatureRefused("stale", f"the webhook is {now - seconds} s old: more than the {tolerance} s allowed")
    if seconds > now + tolerance:
        raise SignatureRefused("future", f"the webhook is from {seconds - now} s ahead: compare the two clocks")
