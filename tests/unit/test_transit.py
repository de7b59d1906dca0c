"""A KMS behind the vault, over real HTTP: what it wraps opens, and each way in which it fails is told apart."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.domain.errors import KeyTrouble, Throttled, Unavailable
from relay.domain.keys import CustomerKey
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault
from relay.vault.remembered import Remembered
from relay.vault.sources import Sources, master_keys
from relay.vault.transit import Transit, TransitAccess
from tests.fixtures.certificates import Authority
from tests.fixtures.transit import Kms, transit
from tests.fixtures.vault import KeysInMemory

PLACE = Place("acme", "con_1", Purpose.CREDENTIALS)
CANARY = b"canary-41aa"
RING = Keyring("k1", {"k1": b"1" * 32})


@pytest.fixture
async def kms():
    async with transit() as running:
        yield running


def access(kms, **values):
    return replace(TransitAccess(kms.url, token=kms.token, timeout=5.0), **values)


@pytest.fixture
async def vault_with():
    """`vault_with(kms)` -> a vault whose data keys that KMS wraps."""
    async with AsyncExitStack() as stack:

        def made(kms, keys=None, *, ring=RING, **values):
            masters = MasterKeys(lambda: ring, Transit(access(kms, **values)), "relay")
            stack.push_async_callback(masters.close)
            return Vault(masters, KeysInMemory() if keys is None else keys)

        yield made


async def trouble(work):
    with pytest.raises((KeyTrouble, Unavailable, Throttled)) as caught:
        await work
    assert "canary" not in str(caught.value)
    return caught.value


async def test_what_is_sealed_under_a_kms_opens_again_and_the_kms_never_sees_the_secret(kms, vault_with):
    vault = vault_with(kms)
    sealed = await vault.seal(PLACE, CANARY)
    assert await vault.open(PLACE, sealed) == CANARY
    key = vault.keys.kept["acme", 1]
    assert (vault.masters.master_of(key), vault.masters.wrapped_by(key)) == ("transit/relay", "transit/relay v1")
    assert vault.masters.known() == ("transit/relay", "k1")


async def test_a_data_key_is_asked_for_once_however_many_want_it_and_only_for_a_while(kms, vault_with):
    vault = vault_with(kms)
    sealed = await vault.seal(PLACE, CANARY)
    other = replace(vault, masters=replace(vault_with(kms).masters, remembered=Remembered(timedelta(milliseconds=50))))
    assert set(await asyncio.gather(*(other.open(PLACE, sealed) for _ in range(50)))) == {CANARY}
    before = kms.count("decrypt")
    async with asyncio.timeout(20):
        while len(other.masters.remembered):  # noqa: ASYNC110 - a timer of the loop rings no bell
            await asyncio.sleep(0.01)
    await other.open(PLACE, sealed)
    assert kms.count("decrypt") == before + 1
    assert repr(other.masters.remembered) == "Remembered(1 keys)"
    await other.masters.close()
    assert not len(other.masters.remembered)


async def test_the_oldest_of_too_many_remembered_keys_goes():
    remembered, fetched = Remembered(timedelta(minutes=5), most=2), []

    def fetching(name):
        async def fetch():
            fetched.append(name)
            return name.encode()

        return CustomerKey(name, 1, b""), fetch

    for name in ("a", "b", "c", "b", "a"):
        assert await remembered.get(*fetching(name)) == name.encode()
    assert (fetched, len(remembered)) == (["a", "b", "c", "a"], 2)
    assert await Remembered(timedelta(0)).get(*fetching("a")) == b"a"


async def test_what_cannot_be_fetched_is_not_remembered(kms, vault_with):
    vault = vault_with(kms)
    sealed = await vault.seal(PLACE, CANARY)
    vault.masters.remembered.forget()
    kms.answers(503, "Vault is sealed")
    troubles = await asyncio.gather(*(vault.open(PLACE, sealed) for _ in range(3)), return_exceptions=True)
    assert {type(each) for each in troubles} == {Unavailable}
    kms.works()
    assert await vault.open(PLACE, sealed) == CANARY


@pytest.mark.parametrize(
    "failure",
    [
        (503, "Vault is sealed", Unavailable, "takes no work now (status 503: Vault is sealed)"),
        (500, "internal error", Unavailable, "status 500"),
        (429, "request path: rate limit quota exceeded", Throttled, "slow down"),
        (472, "", Unavailable, "status 472"),
        (307, "", Unavailable, "status 307"),
        (403, "permission denied", KeyTrouble, "refuses the token (status 403): renew it, and allow it to update"),
        (404, "no handler for route", KeyTrouble, "no transit engine at `transit` (status 404)"),
        (400, "something new", KeyTrouble, "something new"),
        (200, "", Unavailable, "status 200"),
    ],
)
async def test_each_way_to_fail_is_told_apart(kms, vault_with, failure):
    status, error, kind, says = failure
    vault = vault_with(kms)
    kms.answers(status, *([error] if error else []), **{"retry-after": "7"})
    told = await trouble(vault.seal(PLACE, CANARY))
    assert type(told) is kind
    assert says in str(told)
    if kind is Throttled:
        assert told.retry_after == 7


async def test_a_kms_that_is_silent_or_gone_is_unavailable(kms, vault_with):
    vault = vault_with(kms, timeout=0.2)
    kms.silent = True
    assert "did not answer in 0.2 s" in str(await trouble(vault.seal(PLACE, CANARY)))
    gone = vault_with(Kms(url="http://127.0.0.1:1"))
    told = await trouble(gone.seal(PLACE, CANARY))
    assert isinstance(told, Unavailable)
    assert "127.0.0.1:1 cannot be reached" in str(told)


async def test_answers_that_are_not_transits_are_refused(kms, vault_with):
    vault = vault_with(kms)
    for body, kind in (
        (b"<html>", Unavailable),
        (b"[]", Unavailable),
        (b'{"data":{"batch_results":[]}}', Unavailable),
        (b'{"data":{"batch_results":["x"]}}', KeyTrouble),
        (b'{"data":{"batch_results":[{}]}}', KeyTrouble),
    ):
        kms.answer = (200, {}, body)
        assert isinstance(await trouble(vault.seal(PLACE, CANARY)), kind)
    kms.works()
    sealed = await vault.seal(PLACE, CANARY)
    vault.masters.remembered.forget()
    kms.answer = (200, {}, b'{"data":{"batch_results":[{"plaintext":"!"}]}}')
    assert "without a plaintext" in str(await trouble(vault.open(PLACE, sealed)))


async def test_a_key_that_was_deleted_is_named_with_what_to_do(kms, vault_with):
    vault = vault_with(kms)
    sealed = await vault.seal(PLACE, CANARY)
    vault.masters.remembered.forget()
    del kms.keys["relay"]
    told = str(await trouble(vault.open(PLACE, sealed)))
    for part in ("customer `acme`", "wrapped by `transit/relay`", "encryption key not found", "restore it"):
        assert part in told
    assert "refuses the token" in str(await trouble(vault.new_keys([("other", 1)])))


async def test_another_key_under_the_same_name_does_not_open_it(kms, vault_with):
    vault = vault_with(kms)
    sealed = await vault.seal(PLACE, CANARY)
    vault.masters.remembered.forget()
    kms.keys["relay"] = type(kms.keys["relay"])()
    assert "message authentication failed; it was changed, or wrapped by another key" in str(
        await trouble(vault.open(PLACE, sealed))
    )


async def test_a_changed_or_moved_wrapped_key_does_not_open(kms, vault_with):
    vault = vault_with(kms)
    await vault.seal(PLACE, CANARY)
    key = vault.keys.kept["acme", 1]
    flipped = bytearray(key.wrapped)
    flipped[-3] ^= 2
    for wrong, says in (
        (replace(key, customer_id="other"), "wrapped for another customer or version"),
        (replace(key, version=2), "wrapped for another customer or version"),
        (replace(key, wrapped=bytes(flipped)), "it was changed"),
        (replace(key, wrapped=key.wrapped[:-8]), "it was changed"),
        (replace(key, wrapped=key.wrapped[:17]), "invalid ciphertext"),
        (replace(key, wrapped=b"\x03\x05other"), "is damaged"),
    ):
        assert says in str(await trouble(vault.masters.unwrap(wrong)))


async def test_old_versions_are_wrapped_anew_inside_the_kms_and_then_may_go(kms, vault_with):
    vault = vault_with(kms)
    keys = await vault.new_keys([("acme", 1), ("other", 1)])
    assert await vault.masters.rewrap(keys) == [None, None]
    plain = [await vault.masters.unwrap(each) for each in keys]
    asked = kms.count("decrypt")
    kms.rotate()
    renewed = await vault.masters.rewrap(keys)
    assert [vault.masters.wrapped_by(each) for each in renewed] == ["transit/relay v2"] * 2
    assert (kms.count("rewrap"), kms.count("decrypt")) == (1, asked)
    kms.keys["relay"].least = 2
    vault.masters.remembered.forget()
    assert [await vault.masters.unwrap(each) for each in renewed] == plain
    told = str(await trouble(vault.masters.unwrap(keys[0])))
    assert "too old" in told
    assert "min_decryption_version" in told
    assert [type(each) for each in await vault.masters.rewrap(keys)] == [KeyTrouble, KeyTrouble]


async def test_keys_move_from_the_keyring_to_the_kms_and_back(kms, vault_with):
    local = Vault(MasterKeys.of(RING), KeysInMemory())
    sealed = await local.seal(PLACE, CANARY)
    there = vault_with(kms, local.keys)
    [moved] = await there.masters.rewrap([local.keys.kept["acme", 1]])
    there.keys.kept["acme", 1] = moved
    alone = vault_with(kms, local.keys, ring=Keyring("", {}))
    assert await alone.open(PLACE, sealed) == CANARY
    assert "one of a KMS, and none is set" in str(await trouble(local.open(PLACE, sealed)))
    back = replace(there, masters=replace(there.masters, wanted="k1"))
    [returned] = await back.masters.rewrap([moved])
    local.keys.kept["acme", 1] = returned
    assert await local.open(PLACE, sealed) == CANARY


async def test_the_token_is_read_from_its_file_each_time_and_the_namespace_is_named(kms, vault_with, tmp_path):
    path = tmp_path / "token"
    vault = vault_with(kms, token="", token_file=path, namespace="teams/orders", mount="transit")
    assert "cannot read the KMS's token" in str(await trouble(vault.seal(PLACE, CANARY)))
    path.write_text("\n")
    assert "holds no token" in str(await trouble(vault.seal(PLACE, CANARY)))
    path.write_bytes(b"\xff")
    assert "not text" in str(await trouble(vault.seal(PLACE, CANARY)))
    path.write_text("hvs.old-canary\n")
    assert "refuses the token" in str(await trouble(vault.seal(PLACE, CANARY)))
    path.write_text(f"{kms.token}\n")
    sealed = await vault.seal(PLACE, CANARY)
    assert await vault.open(PLACE, sealed) == CANARY
    _, _, headers = kms.calls[-1]
    assert (headers["x-vault-namespace"], headers["x-vault-request"]) == ("teams/orders", "true")


async def test_it_is_trusted_by_its_own_authority_only(tmp_path, vault_with):
    authority = Authority()
    root = tmp_path / "root.pem"
    root.write_text(authority.root)
    async with transit(authority.server(tmp_path)) as kms:
        vault = vault_with(kms, ca_file=root)
        assert await vault.open(PLACE, await vault.seal(PLACE, CANARY)) == CANARY
        await vault.masters.close()
        assert isinstance(await trouble(vault_with(kms).seal(PLACE, CANARY)), Unavailable)
    assert "KMS_CA_FILE" in str(await trouble(vault_with(kms, ca_file=tmp_path / "none").seal(PLACE, CANARY)))


def test_what_is_set_wrongly_is_said_at_once():
    for values, says in (
        ({"url": "http://vault.example:8200", "token": "t"}, "must begin with https://"),
        ({"url": "vault.example", "token": "t"}, "must begin with https://"),
        ({"url": "https://vault.example"}, "wants a token"),
    ):
        with pytest.raises(KeyTrouble, match=says):
            Transit(TransitAccess(**values))
    kms = TransitAccess("https://vault.example", token="t")
    with pytest.raises(KeyTrouble, match="KMS_KEY"):
        master_keys(Sources(kms=kms, kms_key="a/b"))


def test_a_laptop_with_a_kms_needs_no_file_of_its_own(tmp_path):
    own = tmp_path / "master.key"
    kms = TransitAccess("https://user:canary@vault.example:8200", token="canary")
    masters = master_keys(Sources(own=own, kms=kms, kms_key="relay"))
    assert not own.exists()
    assert (masters.current, masters.known()) == ("transit/relay", ("transit/relay",))
    assert "canary" not in repr(masters)
    assert "vault.example:8200" in repr(masters)
