"""An endpoint's live signing secrets, and how new ones take the place of old ones.

    [{"secret": "whsec_...", "until": null}, {"secret": "whsec_...", "until": 1767225600}]     as it is sealed

A new secret signs at once, beside those before it, which end after an overlap: the receiver changes over meanwhile and
misses nothing. `until` is unix seconds. Secrets between blanks, as the first versions stored them, are read as well.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from relay.domain.ed25519_keys import PRIVATE_PREFIX, SEED_BYTES, new_private_key
from relay.domain.errors import UserError
from relay.domain.signing import EndingKey, SigningKey, new_secret, signing_key

MOST_LIVE = 5
SECRET_BYTES = 32


class Signing(StrEnum):
    """How an endpoint's webhooks are signed: with a shared secret (v1), a key pair (v1a), or both."""

    HMAC = "hmac"
    ED25519 = "ed25519"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """One secret: `whsec_...` or `whsk_...`, and when it ends; None is for good."""

    secret: str = field(repr=False)
    until: int | None = None

    @property
    def signing(self) -> Signing:
        """Which of the two it is for."""
        return Signing.ED25519 if self.secret.startswith(PRIVATE_PREFIX) else Signing.HMAC


def new_secrets(signing: Signing, randomness: Callable[[int], bytes]) -> list[str]:
    """New secrets for this kind of signing; `randomness` gives that many bytes of the system's."""
    hmac = [] if signing is Signing.ED25519 else [new_secret(randomness(SECRET_BYTES))]
    ed25519 = [] if signing is Signing.HMAC else [new_private_key(randomness(SEED_BYTES))]
    return hmac + ed25519


def written(secrets: Sequence[LiveSecret]) -> bytes:
    """The secrets as they are sealed."""
    return json.dumps([{"secret": each.secret, "until": each.until} for each in secrets]).encode()


def read(plain: bytes) -> tuple[LiveSecret, ...]:
    """The secrets that were sealed, ended ones too, each checked.

    Raises:
        UserError: It is something else, or nothing in it is for good. Never repeats the content.
    """
    try:
        text = plain.decode()
        found = _of_list(json.loads(text)) if text.startswith("[") else [LiveSecret(each) for each in text.split()]
    except (ValueError, TypeError, KeyError):
        raise UserError("the stored signing secrets cannot be read: add the endpoint anew") from None
    if all(each.until is not None for each in found):
        raise UserError("every stored signing secret has an end, so nothing would be signed: add the endpoint anew")
    for each in found:
        signing_key(each.secret)
    return tuple(found)


def live(secrets: Sequence[LiveSecret], now: int) -> tuple[LiveSecret, ...]:
    """Those that still sign at `now`, unix seconds."""
    return tuple(each for each in secrets if each.until is None or now < each.until)


def signing_keys(secrets: Sequence[LiveSecret], now: int) -> list[SigningKey | EndingKey]:
    """The keys of those that are live at `now`, each with its end, to sign with from then on."""
    return [
        signing_key(each.secret) if each.until is None else EndingKey(signing_key(each.secret), each.until)
        for each in live(secrets, now)
    ]


def signing_of(secrets: Sequence[LiveSecret]) -> Signing:
    """What those that are for good sign with."""
    kinds = {each.signing for each in secrets if each.until is None}
    return kinds.pop() if len(kinds) == 1 else Signing.BOTH


def rotated(secrets: Sequence[LiveSecret], new: Sequence[str], now: int, overlap: int) -> tuple[LiveSecret, ...]:
    """New secrets first, then the older ones that go on signing: for `overlap` seconds more at the most.

    A shorter overlap ends what an earlier rotation left sooner, too; 0 ends all older ones now.

    Raises:
        UserError: More than five would be live; says what to do.
    """
    end = now + overlap
    older = live(
        [LiveSecret(each.secret, end if each.until is None else min(each.until, end)) for each in secrets], now
    )
    if len(new) + len(older) > MOST_LIVE:
        raise UserError(
            f"{len(new) + len(older)} signing secrets would be live, and at most {MOST_LIVE} may be: wait until an "
            "older one has ended, or give --overlap 0s, which ends all older ones now"
        )
    return (*(LiveSecret(each) for each in new), *older)


def _of_list(stored: list[dict[str, object]]) -> list[LiveSecret]:
    return [_of_entry(**each) for each in stored]


def _of_entry(*, secret: object, until: object) -> LiveSecret:
    if not isinstance(secret, str) or not (until is None or type(until) is int):
        raise TypeError
    return LiveSecret(secret, until)
