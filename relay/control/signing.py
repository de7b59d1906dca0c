"""The signing secrets of endpoints: made, opened, rotated and shown; only what a receiver needs goes out."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from relay.control import given
from relay.control.endpoint_views import EndpointView, KeyView, SecretRotated
from relay.domain.ed25519_keys import PRIVATE_PREFIX, public_key
from relay.domain.endpoints import Endpoint
from relay.domain.errors import UserError
from relay.domain.rotation import (
    LiveSecret,
    Signing,
    live,
    new_secrets,
    public_keys,
    read,
    rotated,
    signing_keys,
    signing_of,
    written,
)
from relay.domain.signing import SigningKey, TimedKey
from relay.store.registry import Registry
from relay.vault.vault import Place, Purpose, Vault

OVERLAP, LONGEST_OVERLAP = timedelta(hours=24), timedelta(days=90)
LONGEST_AHEAD = timedelta(days=90)


def made(signing: str) -> list[str]:
    """New secrets for `hmac`, `ed25519` or `both`. Raises UserError for another word."""
    try:
        return new_secrets(Signing(signing), os.urandom)
    except ValueError:
        raise UserError(f"unknown signing {signing!r}: the known ones are {', '.join(Signing)}") from None


def sealable(secrets: Sequence[str]) -> bytes:
    """New secrets as they are sealed."""
    return written([LiveSecret(each) for each in secrets])


def public_of(secrets: Sequence[str]) -> list[str]:
    """The public keys of those that are private."""
    return [public_key(each) for each in secrets if each.startswith(PRIVATE_PREFIX)]


def for_receiver(secrets: Sequence[str]) -> dict[str, str | None]:
    """The shared secret, and the public key of the private one, as the fields of a view."""
    hmac = next((each for each in secrets if not each.startswith(PRIVATE_PREFIX)), None)
    return {"secret": hmac, "public_key": next(iter(public_of(secrets)), None)}


@dataclass(frozen=True, slots=True)
class EndpointSecrets:
    """The secrets that endpoints have."""

    registry: Registry
    vault: Callable[[], Vault]

    async def keys(self, name: str) -> list[KeyView]:
        """The live and the planned ones, the newest first. Raises NotFound, UserError, KeyTrouble."""
        secrets = await self._opened((await self.registry.endpoint(name)).subject)
        return [KeyView.of(each) for each in live(secrets, int(time.time()))]

    async def signing(self, subject: Endpoint) -> list[SigningKey | TimedKey]:
        """What its webhooks are signed with now. Raises UserError, KeyTrouble."""
        return signing_keys(await self._opened(subject), int(time.time()))

    async def rotate(
        self, name: str, *, overlap: timedelta, signing: str | None, begin: datetime | None
    ) -> SecretRotated:
        """New secrets that sign from now on, or from `begin`; those before end `overlap` later.

        `signing` changes what is signed with.

        Raises:
            NotFound: no such endpoint.
            UserError: the overlap, beginning or signing cannot be used, more than five secrets would be live, or
                somebody else rotated at the same time; nothing was changed.
            KeyTrouble: there is no master key, or not the one that was sealed with.
        """
        given.span_given("overlap", overlap, timedelta(0), LONGEST_OVERLAP)
        since, now = None if begin is None else _beginning(begin), int(time.time())
        subject: Endpoint = (await self.registry.endpoint(name)).subject
        before = await self._opened(subject)
        new = made(signing_of(before) if signing is None else signing)
        secrets = rotated(before, new, now, int(overlap.total_seconds()), since)
        sealed = await self.vault().seal(_place(subject), written(secrets))
        await self.registry.set_signing(subject.id, subject.sealed, sealed, public_keys(secrets, now))
        return SecretRotated(
            **for_receiver(new),
            endpoint=EndpointView.of(await self.registry.endpoint(subject.id)),
            keys=tuple(map(KeyView.of, secrets)),
        )

    async def _opened(self, subject: Endpoint) -> tuple[LiveSecret, ...]:
        return read(await self.vault().open(_place(subject), subject.sealed))


def _beginning(begin: datetime) -> int:
    """In unix seconds. Raises UserError for a time without a zone, that has passed, or that is far off."""
    if begin.tzinfo is None:
        raise UserError(
            f"begin is {begin.isoformat()}, which names no time zone: end it with Z, or with one like +02:00"
        )
    now = datetime.now(UTC)
    if not now < begin <= now + LONGEST_AHEAD:
        raise UserError(
            f"begin is {begin.isoformat()}: give a time after now ({now.isoformat(timespec='seconds')}), "
            f"{LONGEST_AHEAD.days} days ahead at the most"
        )
    return math.ceil(begin.timestamp())


def _place(subject: Endpoint) -> Place:
    return Place(subject.customer_id, subject.id, Purpose.SIGNING_SECRET)
