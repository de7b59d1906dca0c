"""The keys in people's hands: what is wrapped by which master key, whether all of it opens, and both kinds replaced.

    show    master keys, and how many data keys each wrapped      check   every data key and sealed value is opened
    rewrap  every data key by the current master key              renew   new data keys, everything sealed anew

None of it stops a worker. Each can be killed anywhere and begun again: what is done is stored, and is not done twice.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from relay.control.key_rotation import Renewal
from relay.control.key_views import KeyProblem, KeysChecked, KeysRotated, KeysShown, MasterKeyView
from relay.domain.errors import KeyTrouble
from relay.domain.keys import CustomerKey
from relay.store.keys import KeyStore
from relay.store.sealed import COLUMNS, SealedValue
from relay.vault.envelope import version_of
from relay.vault.masters import MasterKeys
from relay.vault.vault import Place, Purpose, Vault, opened_with

AT_A_TIME = 500
MOST_NAMED = 20
"""Customers that are named where there may be thousands."""

Progress = Callable[[int, int], None]
"""How many are done, of how many."""


@dataclass(frozen=True, slots=True)
class KeyCare:
    """What people do with keys."""

    store: KeyStore
    vault: Callable[[], Vault]

    async def show(self) -> KeysShown:
        """Which master key wrapped how many data keys, and what is missing; no KMS is asked. Raises KeyTrouble."""
        masters = self.vault().masters
        wrapped, users, damaged = Counter[str](), defaultdict[str, list[str]](list), list[str]()
        async for keys in _pages(self.store):
            for key in keys:
                try:
                    master, label = masters.master_of(key), masters.wrapped_by(key)
                except KeyTrouble:
                    damaged.append(key.customer_id)
                    continue
                wrapped[label] += 1
                if not masters.opens(master):
                    users[label].append(key.customer_id)
        idle = [each for each in masters.known() if not any(_id(label) == each for label in wrapped)]
        customers, data_keys = await self.store.count()
        return KeysShown(
            masters=tuple(
                MasterKeyView(
                    id=label,
                    current=_id(label) == masters.current,
                    here=label not in users,
                    data_keys=wrapped[label],
                    customers=tuple(sorted(set(users[label])))[:MOST_NAMED],
                )
                for label in sorted([*wrapped, *idle], key=lambda each: (_id(each) != masters.current, each))
            ),
            customers=customers,
            data_keys=data_keys,
            damaged=tuple(damaged),
            exchanging=tuple((await self.store.in_exchange())[:MOST_NAMED]),
            rotation_began=await self.store.under_way(),
        )

    async def check(self, progress: Progress = lambda _done, _all: None) -> KeysChecked:
        """Open every data key and every sealed value, and keep none; what does not open is named.

        Raises:
            KeyTrouble: there are no master keys at all.
            Transient: the KMS does not answer.
        """
        masters, values, problems = self.vault().masters, 0, list[KeyProblem]()
        broken: dict[tuple[str, int], KeyProblem] = {}
        total, done = (await self.store.count())[1], 0
        async for keys in _pages(self.store):
            for key in keys:
                if problem := await _problem_of(masters, key):
                    broken[key.customer_id, key.version] = problem
            progress(done := done + len(keys), total)
        unopened = Counter[tuple[str, int]]()
        for purpose in COLUMNS:
            after = ""
            while page := await self.store.sealed.page(purpose, after, AT_A_TIME):
                after = page[-1].subject
                values += len(page)
                for value, problem in await self._opened(page):
                    if (key_of := _key_of(value)) in broken:
                        unopened[key_of] += 1
                    elif problem:
                        problems.append(problem)
        told = [each.model_copy(update={"values": unopened[key]}) for key, each in broken.items()]
        return KeysChecked(ok=not (told or problems), data_keys=done, values=values, problems=(*told, *problems))

    async def rewrap(self, progress: Progress = lambda _done, _all: None) -> KeysRotated:
        """Wrap every data key by the current master key, in its newest version; then the others may go.

        Raises:
            KeyTrouble: there is no current master key.
            Transient: the KMS does not answer; what was done before is stored.
        """
        masters, problems = self.vault().masters, list[KeyProblem]()
        total, done, rewrapped = (await self.store.count())[1], 0, 0
        progress(0, total)
        async for keys in _pages(self.store):
            pairs = list(zip(keys, await masters.rewrap(keys), strict=True))
            changed = [(before, after) for before, after in pairs if isinstance(after, CustomerKey)]
            if changed:
                rewrapped += await self.store.rewrap(*zip(*changed, strict=True))
            problems += [_of_key(key, each) for key, each in pairs if isinstance(each, KeyTrouble)]
            progress(done := done + len(keys), total)
        return KeysRotated(ok=not problems, done=rewrapped, problems=tuple(problems))

    async def renew(self, customer: str | None = None, progress: Progress = lambda _done, _all: None) -> KeysRotated:
        """A new data key for one customer or for all, everything sealed anew with it, and the older keys removed.

        One that broke off before goes on where it was, and makes no second new key.

        Raises:
            NotFound: no such customer.
            KeyTrouble: there is no current master key.
            Transient: the KMS does not answer; what was done before is stored.
        """
        renewal = Renewal(self.store, self.vault(), progress)
        await (renewal.every() if customer is None else renewal.one(customer))
        problems = tuple(
            KeyProblem(customer=each.customer_id, subject=each.subject, purpose=each.purpose, problem=str(trouble))
            for each, trouble in renewal.troubles
        )
        return KeysRotated(ok=not problems, done=renewal.done, values=renewal.values, problems=problems)

    async def missing(self) -> dict[str, list[str]]:
        """The master keys that data keys need and that are not here, with their customers. Raises KeyTrouble."""
        masters, found = self.vault().masters, defaultdict[str, list[str]](list)
        async for keys in _pages(self.store):
            for key in keys:
                try:
                    master = masters.master_of(key)
                except KeyTrouble:
                    continue
                if not masters.opens(master):
                    found[master].append(key.customer_id)
        return dict(found)

    async def _opened(self, page: Sequence[SealedValue]) -> list[tuple[SealedValue, KeyProblem | None]]:
        vault = self.vault()
        keys = {(key.customer_id, key.version): key for key in await self.store.of([v.customer_id for v in page])}
        found: list[tuple[SealedValue, KeyProblem | None]] = []
        for value in page:
            problem = None
            try:
                key = keys.get((value.customer_id, version_of(value.sealed)))
                place = Place(value.customer_id, value.subject, Purpose(value.purpose))
                if key:
                    opened_with(await vault.masters.unwrap(key), place, value.sealed)
                else:
                    # Gone since the value was read, perhaps: then it was sealed anew.
                    await vault.open(place, value.sealed)
            except KeyTrouble as trouble:
                problem = KeyProblem(
                    customer=value.customer_id, subject=value.subject, purpose=value.purpose, problem=str(trouble)
                )
            found.append((value, problem))
        return found


async def _pages(store: KeyStore) -> AsyncIterator[list[CustomerKey]]:
    last: CustomerKey | None = None
    while page := await store.page(last, AT_A_TIME):
        yield page
        last = page[-1]


async def _problem_of(masters: MasterKeys, key: CustomerKey) -> KeyProblem | None:
    try:
        await masters.unwrap(key)
    except KeyTrouble as trouble:
        return _of_key(key, trouble)
    return None


def _of_key(key: CustomerKey, trouble: KeyTrouble) -> KeyProblem:
    return KeyProblem(customer=key.customer_id, version=key.version, problem=str(trouble))


def _key_of(value: SealedValue) -> tuple[str, int] | None:
    try:
        return value.customer_id, version_of(value.sealed)
    except KeyTrouble:
        return None


def _id(label: str) -> str:
    """A master key's id without the version of a KMS's key."""
    return label.partition(" ")[0]
