"""Standard Webhooks v1 and v1a: secrets, signatures and their check.

    signed text = webhook-id "." webhook-timestamp "." body      (the body's bytes, whatever they are)
    signature   = "v1,"  + base64(HMAC-SHA256(secret, signed text))      both sides hold whsec_...
                | "v1a," + base64(ed25519(private key, signed text))     we hold whsk_..., receivers whpk_...

Several keys give several signatures in one header, separated by spaces: that is how a secret is replaced. Every fault
of a webhook is a `SignatureRefused`, so a receiver can answer 401 and never fails on hostile input. One signature has
several base64 spellings, and only one of them is ours.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from relay.domain.deliveries import Delivery
from relay.domain.ed25519_keys import (
    PRIVATE_PREFIX,
    PUBLIC_PREFIX,
    PrivateKey,
    PublicKey,
    exact_base64,
    parse_private_key,
    parse_public_key,
)
from relay.domain.errors import RelayError, UserError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
TOLERANCE = 300
"""Seconds that a timestamp may be away from now: what the reference libraries allow."""
MOST_SIGNATURES = 32

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
DELIVERY, ATTEMPT, NUMBER, CURSOR, REPLAY = (
    "relay-delivery",
    "relay-attempt",
    "relay-number",
    "relay-cursor",
    "relay-replay",
)
"""Headers beside the standard's: for support, unsigned, never needed to handle a webhook."""

Reason: TypeAlias = Literal["missing", "malformed", "stale", "future", "mismatch"]
SigningKey: TypeAlias = bytes | PrivateKey
VerifyingKey: TypeAlias = bytes | PublicKey
"""Bytes are the key of an HMAC."""

_ID = re.compile(r"[!-\-/-~]{1,256}")  # visible ASCII without the dot, which separates the signed parts
_SECONDS, _TOO_LATE = re.compile(r"[0-9]{1,12}"), 10**12
_SHAPES = {"v1": re.compile(r"[A-Za-z0-9+/]{43}="), "v1a": re.compile(r"[A-Za-z0-9+/]{86}==")}


@dataclass(frozen=True, slots=True)
class TimedKey:
    """A key that signs from `since` on, before `until`, in unix seconds: the new and the old while one is replaced."""

    key: SigningKey = field(repr=False)
    since: int | None = None
    until: int | None = None

    def signs(self, timestamp: int) -> bool:
        """Whether that time is its own."""
        return (self.since is None or self.since <= timestamp) and (self.until is None or timestamp < self.until)


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
    if text.startswith((PRIVATE_PREFIX, PUBLIC_PREFIX)):
        raise UserError(f"the signing secret is an ed25519 key ({text[:5]}...): give the one that begins with {PREFIX}")
    if not text.startswith(PREFIX):
        raise UserError(f"the signing secret must begin with {PREFIX}: copy it whole, as it was shown")
    key = exact_base64(text.removeprefix(PREFIX))
    if key is None:
        raise UserError(f"the signing secret is not base64 after {PREFIX}: copy it whole, without spaces or line ends")
    if not SHORTEST <= len(key) <= LONGEST:
        raise UserError(f"the signing secret has {len(key)} bytes: it must have {SHORTEST} to {LONGEST}")
    return key


def signing_key(text: str) -> SigningKey:
    """The key inside `whsec_...` or `whsk_...`. Raises UserError, which never repeats the text."""
    return parse_private_key(text) if text.startswith(PRIVATE_PREFIX) else parse_secret(text)


def verifying_key(text: str) -> VerifyingKey:
    """The key inside `whsec_...` or `whpk_...`. Raises UserError, which never repeats the text."""
    if text.startswith(PRIVATE_PREFIX):
        raise UserError(f"this is the sender's private key: a receiver verifies with the one of {PUBLIC_PREFIX}...")
    if text.startswith(PUBLIC_PREFIX):
        return parse_public_key(text)
    if not text.startswith(PREFIX):
        raise UserError(
            f"the key must begin with {PREFIX} (shared secret) or {PUBLIC_PREFIX} (public key): copy it whole"
        )
    return parse_secret(text)


def sign(secrets: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one signature per key. `timestamp` is the attempt's, in unix seconds.

    Raises:
        ValueError: No secret, an id that is not visible ASCII or has a dot, or a time outside 0..10^12.
    """
    if not secrets or not _ID.fullmatch(message_id) or not 0 <= timestamp < _TOO_LATE:
        raise ValueError("signing needs a secret, an id of visible ASCII without dots, and unix seconds")
    signed = _signed_text(message_id, str(timestamp), body)
    return " ".join([_signature(secret, signed) for secret in secrets])


def signed_headers(
    secrets: Sequence[SigningKey | TimedKey], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The headers that any webhook has: what it holds, and the standard's three.

    Raises:
        ValueError: No key signs at this time, or the id cannot be signed.
    """
    return {
        "content-type": "application/json",
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(_live(secrets, timestamp), message_id, timestamp, body),
    }


def webhook_headers(secrets: Sequence[SigningKey | TimedKey], delivery: Delivery, timestamp: int) -> dict[str, str]:
    """The headers of a delivery's next attempt. `webhook-id` is the event's id, the same on every attempt.

    Raises:
        ValueError: No key signs at this time, or the delivery's id cannot be signed.
    """
    headers = signed_headers(secrets, delivery.event_id, timestamp, delivery.body)
    headers[DELIVERY], headers[ATTEMPT] = delivery.id, str(delivery.attempts + 1)
    headers[NUMBER] = str(delivery.number)
    if delivery.replay:
        headers[REPLAY] = delivery.replay
    return headers


def verify(
    secrets: Sequence[VerifyingKey], headers: Mapping[str, str], body: bytes, now: int, tolerance: int = TOLERANCE
) -> None:
    """Check a received webhook: silence means that the holder of one of the keys signed it, near `now`.

    Header names may come in any case; `now` is unix seconds, `tolerance` seconds. Signatures of a version that none of
    the keys is for are passed over.

    Raises:
        SignatureRefused: A header is missing or malformed, the time is too far away, or no signature fits.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    message_id = _header(by_name, ID, _ID)
    seconds = _header(by_name, TIMESTAMP, _SECONDS)
    given = _given(by_name.get(SIGNATURE), [_version(each) for each in secrets])
    _near(int(seconds), now, tolerance)
    signed = _signed_text(message_id, seconds, body)
    # No early end: how long it takes tells nobody which secret or signature came close.
    fits = [_fits(secret, each, signed) for secret in secrets for each in given[_version(secret)]]
    if not any(fits):
        raise SignatureRefused("mismatch", "no signature fits: another secret, or the body, id or time was changed")


def _signed_text(message_id: str, seconds: str, body: bytes) -> bytes:
    return f"{message_id}.{seconds}.".encode() + body


def _live(secrets: Sequence[SigningKey | TimedKey], timestamp: int) -> list[SigningKey]:
    return [
        each.key if isinstance(each, TimedKey) else each
        for each in secrets
        if not isinstance(each, TimedKey) or each.signs(timestamp)
    ]


def _version(key: SigningKey | VerifyingKey) -> str:
    return "v1" if isinstance(key, bytes) else "v1a"


def _signature(key: SigningKey, signed: bytes) -> str:
    made = hmac.digest(key, signed, hashlib.sha256) if isinstance(key, bytes) else key.sign(signed)
    return f"{_version(key)},{base64.b64encode(made).decode('ascii')}"


def _fits(key: VerifyingKey, given: str, signed: bytes) -> bool:
    if isinstance(key, bytes):
        return hmac.compare_digest(_signature(key, signed), f"v1,{given}")
    signature = exact_base64(given)
    return signature is not None and key.fits(signature, signed)


def _header(by_name: Mapping[str, str], name: str, shape: re.Pattern[str]) -> str:
    value = by_name.get(name)
    if not value:
        raise SignatureRefused("missing", f"the header {name} is missing")
    if not shape.fullmatch(value):
        raise SignatureRefused("malformed", f"the header {name} is malformed")
    return value


def _given(header: str | None, versions: Sequence[str]) -> dict[str, list[str]]:
    """The header's signatures of these versions (of all when there is no key); those of others are passed over."""
    if not header:
        raise SignatureRefused("missing", f"the header {SIGNATURE} is missing")
    parts = header.split(" ") if header.isascii() else []
    if not 1 <= len(parts) <= MOST_SIGNATURES or not all(part.partition(",")[2] for part in parts):
        raise SignatureRefused("malformed", f"the header {SIGNATURE} is malformed")
    ours: dict[str, list[str]] = {version: [] for version in _SHAPES if version in versions or not versions}
    for version, _, value in (part.partition(",") for part in parts):
        if version not in ours:
            continue
        if not _SHAPES[version].fullmatch(value):
            raise SignatureRefused("malformed", f"a {version} signature in the header {SIGNATURE} is malformed")
        ours[version].append(value)
    if not any(ours.values()):
        raise SignatureRefused("malformed", f"the header {SIGNATURE} has no {' or '.join(ours)} signature")
    return ours


def _near(seconds: int, now: int, tolerance: int) -> None:
    if seconds < now - tolerance:
        raise SignatureRefused("stale", f"the webhook is {now - seconds} s old: more than the {tolerance} s allowed")
    if seconds > now + tolerance:
        raise SignatureRefused("future", f"the webhook is from {seconds - now} s ahead: compare the two clocks")
