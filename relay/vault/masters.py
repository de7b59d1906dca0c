"""Master keys: which one wrapped a customer's data key, and how that is opened, wherever the master key is.

What is wrapped is bound to its customer and version: in another's row it does not open.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from relay.domain.errors import KeyTrouble
from relay.domain.keys import CustomerKey
from relay.vault.envelope import KEY_BYTES, open_sealed, seal
from relay.vault.keyring import Keyring
from relay.vault.remembered import Remembered
from relay.vault.wrapped import BY_KEYRING, BY_KMS, KMS, UNVERSIONED, binding, digest, joined, label, split

Renewed = CustomerKey | KeyTrouble | None
"""A key wrapped anew, why it could not be, or None when there was nothing to do."""


class Kms(Protocol):
    """A service that wraps with keys which never leave it. Keys are named; a named key may have versions of its own.

    Every method raises Unavailable and Throttled when the service gives no answer now, and KeyTrouble when it refuses
    all of it; what it refuses of several is in its place in the answer.
    """

    async def wrap(self, name: str, plain: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, encrypted under the newest version of the key of this name."""
        ...

    async def unwrap(self, name: str, wrapped: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, decrypted."""
        ...

    async def rewrap(self, name: str, wrapped: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, encrypted under the newest version; what is inside is not shown."""
        ...

    def version(self, wrapped: bytes) -> str:
        """Which version of its key wrapped it, as people write it; "" when it does not say."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All master keys that this process can use; `wanted` names the current one, when it is not the usual one."""

    keyring: Callable[[], Keyring]
    kms: Kms | None = None
    kms_key: str = ""
    """Name of the KMS's key that wraps new data keys."""
    wanted: str | None = None
    remembered: Remembered = field(default_factory=lambda: Remembered(timedelta(minutes=5)), repr=False)
    """Data keys that the KMS unwrapped."""

    @classmethod
    def of(cls, keyring: Keyring) -> "MasterKeys":
        """Those of this keyring and no others."""
        return cls(lambda: keyring)

    @property
    def current(self) -> str:
        """The id of the master key that wraps new data keys."""
        if self.wanted:
            return self.wanted
        return KMS + self.kms_key if self.kms else self.keyring().current

    def known(self) -> tuple[str, ...]:
        """The ids of the keyring's keys, and of the KMS's key for new data keys, the current one first."""
        ids = [*self.keyring().keys, *([KMS + self.kms_key] if self.kms else [])]
        return tuple(sorted(ids, key=lambda each: each != self.current))

    def opens(self, master: str) -> bool:
        """Whether there is such a master key; whether a KMS has one by that name, only the KMS can say."""
        return self.kms is not None if master.startswith(KMS) else master in self.keyring().keys

    def missing(self, master: str) -> KeyTrouble:
        """What to do about a master key that is not here."""
        if master.startswith(KMS):
            return KeyTrouble(
                f"the master key `{master}` is one of a KMS, and none is set: RELAY_VAULT__KMS_URL and its like"
            )
        there = ", ".join(self.known())
        return KeyTrouble(f"the master key `{master}` is missing (there: {there}): add it behind the current one")

    def master_of(self, key: CustomerKey) -> str:
        """The id of the master key that wrapped it. Raises KeyTrouble when the key is damaged and does not say."""
        return split(key)[1]

    def wrapped_by(self, key: CustomerKey) -> str:
        """The same, with the version of a KMS's key. Raises KeyTrouble."""
        form, master, wrapped = split(key)
        version = self.kms.version(wrapped) if form == BY_KMS and self.kms else ""
        return f"{master} {version}".rstrip()

    async def wrap(self, keys: Sequence[tuple[str, int, bytes]]) -> list[CustomerKey]:
        """Data keys (customer, version, key), wrapped by the current master key.

        Raises:
            KeyTrouble: there is no such master key, or the KMS refuses.
            Transient: the KMS does not answer.
        """
        master = self.current
        bindings = [binding(customer, version, master) for customer, version, _ in keys]
        wrapped: Sequence[bytes | KeyTrouble]
        if master.startswith(KMS):
            plain = [digest(aad) + key for aad, (_, _, key) in zip(bindings, keys, strict=True)]
            wrapped = await self._kms(master).wrap(master.removeprefix(KMS), plain)
        else:
            with_key = self._key(master)
            wrapped = [seal(with_key, key, aad) for aad, (_, _, key) in zip(bindings, keys, strict=True)]
        form = BY_KMS if master.startswith(KMS) else BY_KEYRING
        return [
            CustomerKey(customer, version, joined(form, master, _whole(each)))
            for (customer, version, _), each in zip(keys, wrapped, strict=True)
        ]

    async def unwrap(self, key: CustomerKey) -> bytes:
        """The data key.

        Raises:
            KeyTrouble: it does not open: the message names customer and master key, and what to do.
            Transient: the KMS does not answer.
        """
        form, master, wrapped = split(key)
        aad = binding(key.customer_id, key.version, master, form)
        try:
            if form != BY_KMS:
                return open_sealed(self._key(master), wrapped, aad)
            return await self.remembered.get(key, self._asking(master, wrapped, aad))
        except KeyTrouble as trouble:
            raise KeyTrouble(
                f"the data key of customer `{key.customer_id}`, wrapped by `{master}`, cannot be opened: {trouble}"
            ) from None

    async def rewrap(self, keys: Sequence[CustomerKey]) -> list[Renewed]:
        """Each wrapped by the current master key in its newest version; nothing is done to those that are already.

        Raises Transient when the KMS does not answer, and KeyTrouble when there is no current master key.
        """
        current = self.current
        renewed: dict[CustomerKey, Renewed] = dict.fromkeys(keys)
        inside, outside = list[tuple[CustomerKey, bytes]](), list[tuple[CustomerKey, bytes]]()
        for key in await self._stale(current, keys):
            try:
                form, master, wrapped = split(key)
                if form == BY_KMS and master == current:
                    inside.append((key, wrapped))
                else:
                    outside.append((key, await self.unwrap(key)))
            except KeyTrouble as trouble:
                renewed[key] = trouble
        if inside:
            answers = await self._kms(current).rewrap(current.removeprefix(KMS), [wrapped for _, wrapped in inside])
            renewed |= {key: _again(key, current, answer) for (key, _), answer in zip(inside, answers, strict=True)}
        wrapped_anew = await self.wrap([(key.customer_id, key.version, data_key) for key, data_key in outside])
        renewed |= {key: anew for (key, _), anew in zip(outside, wrapped_anew, strict=True)}
        return [renewed[key] for key in keys]

    async def close(self) -> None:
        """Forget what was unwrapped, and leave the KMS."""
        self.remembered.forget()
        if self.kms:
            await self.kms.close()

    async def _stale(self, current: str, keys: Sequence[CustomerKey]) -> list[CustomerKey]:
        """Those that the newest version of the current master key did not wrap; damaged ones, too."""
        if not current.startswith(KMS):
            self._key(current)
            return [key for key in keys if label(key) != current or key.wrapped[0] == UNVERSIONED]
        kms = self._kms(current)
        [sample] = await kms.wrap(current.removeprefix(KMS), [bytes(KEY_BYTES)])
        newest = kms.version(_whole(sample))
        return [key for key in keys if label(key) != current or kms.version(split(key)[2]) != newest]

    def _key(self, master: str) -> bytes:
        found = self.keyring().keys.get(master)
        if found is None:
            raise self.missing(master)
        return found

    def _kms(self, master: str) -> Kms:
        if self.kms is None:
            raise self.missing(master)
        return self.kms

    def _asking(self, master: str, wrapped: bytes, aad: bytes) -> Callable[[], Awaitable[bytes]]:
        async def ask() -> bytes:
            [answer] = await self._kms(master).unwrap(master.removeprefix(KMS), [wrapped])
            plain = _whole(answer)
            bound, key = plain[:-KEY_BYTES], plain[-KEY_BYTES:]
            if bound != digest(aad):
                raise KeyTrouble("it was wrapped for another customer or version: restore the row")
            return key

        return ask


def _again(key: CustomerKey, master: str, answer: bytes | KeyTrouble) -> Renewed:
    if isinstance(answer, KeyTrouble):
        return answer
    return CustomerKey(key.customer_id, key.version, joined(BY_KMS, master, answer))


def _whole(answer: bytes | KeyTrouble) -> bytes:
    if isinstance(answer, KeyTrouble):
        raise answer
    return answer
