"""An endpoint's live signing secrets, and how new ones take the place of old ones.

    [{"secret": "whsec_...", "since": 1767225600, "until": null},        as it is sealed
     {"secret": "whsec_...", "since": null, "until": 1767312000}]

A new secret signs at once or from a planned moment on, beside those before it, which end an overlap later: the receiver
changes over meanwhile and misses nothing. Times are unix seconds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from relay.domain.ed25519_keys import PRIVATE_PREFIX, SEED_BYTES, new_private_key, public_key
from relay.domain.errors import UserError
from relay.domain.signing import SigningKey, TimedKey, new_secret, signing_key

MOST_LIVE = 5
SECRET_BYTES = 32


class Signing(StrEnum):
    """How an endpoint's webhooks are signed: with a shared secret (v1), a key pair (v1a), or both."""

    HMAC = "hmac"
    ED25519 = "ed25519"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """One secret: `whsec_...` or `whsk_...`, when it begins (None: it has) and when it ends (None: it is for good)."""

    secret: str = field(repr=False)
    since: int | None = None
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
    return json.dumps([asdict(each) for each in secrets]).encode()


def read(plain: bytes) -> tuple[LiveSecret, ...]:
    """The secrets that were sealed, ended ones too, each checked.

    Raises:
        UserError: It is something else, or nothing in it is for good. Never repeats the content.
    """
    try:
        found = [_of_entry(**each) for each in json.loads(plain)]
    except (ValueError, TypeError, KeyError):
        raise UserError("the stored signing secrets cannot be read: add the endpoint anew") from None
    if all(each.until is not None for each in found):
        raise UserError("every stored signing secret has an end, so nothing would be signed: add the endpoint anew")
    for each in found:
        signing_key(each.secret)
    return tuple(found)


def live(secrets: Sequence[LiveSecret], now: int) -> tuple[LiveSecret, ...]:
    """Those that have not ended at `now`, unix seconds: they sign, or will."""
    return tuple(each for each in secrets if each.until is None or now < each.until)


def signing_keys(secrets: Sequence[LiveSecret], now: int) -> list[SigningKey | TimedKey]:
    """The keys of those that are live at `now`, each with its time, to sign with from then on."""
    return [TimedKey(signing_key(each.secret), each.since, each.until) for each in live(secrets, now)]


def public_keys(secrets: Sequence[LiveSecret], now: int) -> dict[str, datetime | None]:
    """The public keys, `whpk_...`, of the key pairs among those that are live at `now`, each with its end."""
    return {
        public_key(each.secret): None if each.until is None else datetime.fromtimestamp(each.until, UTC)
        for each in live(secrets, now)
        if each.signing is Signing.ED25519
    }


def signing_of(secrets: Sequence[LiveSecret]) -> Signing:
    """What those that are for good sign with."""
    kinds = {each.signing for each in secrets if each.until is None}
    return kinds.pop() if len(kinds) == 1 else Signing.BOTH


def rotated(
    secrets: Sequence[LiveSecret], new: Sequence[str], now: int, overlap: int, begin: int | None = None
) -> tuple[LiveSecret, ...]:
    """New secrets first, then the older ones that go on signing: until `overlap` seconds after `begin` at the most.

    The new ones begin at once when there is no `begin`. A shorter overlap ends what an earlier rotation left sooner,
    too; 0 ends all older ones as the new ones begin. One that was planned, and would end before it began, is left out.

    Raises:
        UserError: More than five would be live; says what to do.
    """
    end = (now if begin is None else begin) + overlap
    ending = [replace(each, until=end if each.until is None else min(each.until, end)) for each in secrets]
    older = [each for each in live(ending, now) if each.since is None or each.since < end]
    if len(new) + len(older) > MOST_LIVE:
        raise UserError(
            f"{len(new) + len(older)} signing secrets would be live, and at most {MOST_LIVE} may be: wait until an "
            "older one has ended, or rotate now with --overlap 0s, which ends all older ones"
        )
    return (*(LiveSecret(each, since=begin) for each in new), *older)


def _of_entry(*, secret: object, since: object, until: object) -> LiveSecret:
    if not isinstance(secret, str):
        raise TypeError
    return LiveSecret(secret, _seconds(since), _seconds(until))


def _seconds(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise TypeError
