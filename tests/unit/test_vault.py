"""The vault: what is sealed opens only with its key and in its place, and nothing secret is ever shown."""

import base64
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.domain.errors import AlreadyThere, KeyTrouble
from relay.domain.keys import CustomerKey
from relay.vault import Keyring, MasterKeys, Place, Purpose, Vault
from relay.vault.envelope import bound_to, open_sealed, seal, version_of
from relay.vault.keyring import KeyringFile, ensure_master_key_file, new_master_key_file
from relay.vault.sources import Sources, master_keys
from tests.fixtures.vault import KeysInMemory, at_once, vault_of

CANARY = b"canary-7c1d"
KEY_CANARY = b"CANARY-KEY-BYTES-NEVER-TO-BE-SHO"
KEY_TEXT = base64.b64encode(KEY_CANARY).decode()
PLACE = Place("acme", "con_1", Purpose.CREDENTIALS)

keys = st.binary(min_size=32, max_size=32)
texts = st.text(max_size=20)
places = st.builds(Place, texts, texts, st.sampled_from(Purpose))


def keyring(*ids):
    return Keyring.from_text(
        ",".join(f"{each}:{base64.b64encode(each.encode().ljust(32, b'.')).decode()}" for each in ids)
    )


@pytest.fixture
def vault():
    return vault_of("k1")


def refusal(call, *args):
    with pytest.raises(KeyTrouble) as caught:
        call(*args)
    return str(caught.value)


# The envelope


@given(key=keys, plaintext=st.binary(max_size=2000), aad=st.binary(max_size=100))
def test_what_is_sealed_opens_again(key, plaintext, aad):
    assert open_sealed(key, seal(key, plaintext, aad), aad) == plaintext


@given(key=keys, plaintext=st.binary(max_size=40), data=st.data())
def test_every_flipped_bit_is_refused(key, plaintext, data):
    sealed = bytearray(seal(key, plaintext, b"here"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    refusal(open_sealed, key, bytes(sealed), b"here")


def test_each_single_bit_of_one_value_is_refused():
    sealed = seal(KEY_CANARY, CANARY, b"here")
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        refusal(open_sealed, KEY_CANARY, bytes(changed), b"here")


@given(key=keys, data=st.data())
def test_a_cut_or_lengthened_value_is_refused(key, data):
    sealed = seal(key, CANARY, b"here")
    refusal(open_sealed, key, sealed[: data.draw(st.integers(0, len(sealed) - 1))], b"here")
    refusal(open_sealed, key, sealed + data.draw(st.binary(min_size=1, max_size=8)), b"here")


@given(key=keys, other=keys)
def test_another_key_does_not_open_it(key, other):
    if key != other:
        assert "another key" in refusal(open_sealed, other, seal(key, CANARY, b""), b"")


def test_the_same_secret_sealed_twice_looks_different():
    assert len({seal(KEY_CANARY, CANARY, b"") for _ in range(100)}) == 100


def test_a_sealed_value_from_a_newer_relay_is_named_as_such():
    assert "unknown form 3" in refusal(open_sealed, KEY_CANARY, b"\x03" + bytes(40), b"")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length):
    assert f"this one has {length}" in refusal(seal, bytes(length), CANARY, b"")


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_different_places_are_never_written_alike(one, other):
    assert (bound_to(*one) == bound_to(*other)) == (one == other)


# The vault


def sealed_in(vault, place=PLACE, plaintext=CANARY):
    return at_once(vault.seal(place, plaintext))


def opened(vault, place, sealed):
    return at_once(vault.open(place, sealed))


def customer_key(vault, customer="acme", version=1):
    return vault.keys.kept[customer, version]


@given(place=places, plaintext=st.binary(max_size=500))
def test_a_secret_opens_in_its_own_place(place, plaintext):
    vault = vault_of("k1")
    assert opened(vault, place, sealed_in(vault, place, plaintext)) == plaintext


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("acme", "con_2", Purpose.CREDENTIALS),
        Place("acme", "con_1", Purpose.SIGNING_SECRET),
        Place("acmec", "on_1", Purpose.CREDENTIALS),
        Place("other", "con_1", Purpose.CREDENTIALS),
    ],
    ids=["row", "purpose", "shifted", "customer"],
)
def test_a_secret_moved_elsewhere_does_not_open(vault, elsewhere):
    sealed = sealed_in(vault)
    sealed_in(vault, elsewhere)
    assert f"the {elsewhere.purpose} of `{elsewhere.subject}` cannot be opened" in refusal(
        opened, vault, elsewhere, sealed
    )


def test_a_customers_key_moved_to_another_customer_does_not_open(vault):
    sealed_in(vault)
    vault.keys.put(replace(customer_key(vault), customer_id="other"))
    assert "customer `other`" in refusal(sealed_in, vault, Place("other", "con_1", Purpose.CREDENTIALS))


def test_a_customers_key_moved_to_another_version_does_not_open(vault):
    """Or new secrets could be sealed with a key that was replaced because it was known."""
    sealed_in(vault)
    vault.keys.put(replace(customer_key(vault), version=2))
    assert "customer `acme`" in refusal(sealed_in, vault)


def test_a_customer_key_under_another_key_id_does_not_open():
    keys = KeysInMemory()
    vault = Vault(MasterKeys.of(Keyring("k1", {"k1": KEY_CANARY, "k2": KEY_CANARY})), keys)
    sealed_in(vault)
    keys.kept["acme", 1] = replace(customer_key(vault), wrapped=customer_key(vault).wrapped.replace(b"k1", b"k2", 1))
    refusal(sealed_in, vault)


def test_every_flipped_bit_of_a_customers_key_is_refused(vault):
    sealed_in(vault)
    key = customer_key(vault)
    for bit in range(len(key.wrapped) * 8):
        changed = bytearray(key.wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        vault.keys.kept["acme", 1] = replace(key, wrapped=bytes(changed))
        assert "customer `acme`" in refusal(sealed_in, vault)


@given(st.binary(max_size=80))
def test_any_bytes_in_the_place_of_a_customers_key_are_refused_clearly(junk):
    vault = vault_of("k1")
    vault.keys.put(CustomerKey("acme", 1, junk))
    assert "customer `acme`" in refusal(sealed_in, vault)


def test_two_customers_have_two_keys(vault):
    one, other = at_once(vault.new_keys([("acme", 1), ("other", 1)]))
    assert at_once(vault.masters.unwrap(one)) != at_once(vault.masters.unwrap(other))


def test_a_missing_master_key_is_named(vault):
    sealed = sealed_in(vault)
    message = refusal(opened, vault_of("k2", keys=vault.keys), PLACE, sealed)
    assert "the data key of customer `acme`, wrapped by `k1`" in message
    assert "the master key `k1` is missing (there: k2)" in message


def test_a_wrong_master_key_under_the_right_id_names_that_id(vault):
    sealed = sealed_in(vault)
    impostor = Vault(MasterKeys.of(Keyring("k1", {"k1": KEY_CANARY})), vault.keys)
    assert "wrapped by `k1`" in refusal(opened, impostor, PLACE, sealed)


def test_a_new_current_master_key_still_opens_what_the_old_one_wrapped(vault):
    sealed = sealed_in(vault)
    after = vault_of("k2", "k1", keys=vault.keys)
    assert opened(after, PLACE, sealed) == CANARY
    [new] = at_once(after.new_keys([("other", 1)]))
    assert after.masters.master_of(new) == "k2"


# Versions of data keys


def test_the_newest_data_key_seals_and_the_older_ones_open_what_they_sealed(vault):
    before = sealed_in(vault)
    vault.keys.put(*at_once(vault.new_keys([("acme", 2)])))
    after = sealed_in(vault)
    assert (version_of(before), version_of(after)) == (1, 2)
    assert {opened(vault, PLACE, before), opened(vault, PLACE, after)} == {CANARY}


def test_a_value_from_before_versions_is_opened_with_the_first_key_as_it_was_wrapped_then():
    ring, data_key = Keyring("k1", {"k1": KEY_CANARY}), b"d" * 32
    wrapped = b"\x01\x02k1" + seal(KEY_CANARY, data_key, bound_to("data-key", "acme", "k1"))
    vault = Vault(MasterKeys.of(ring), KeysInMemory())
    vault.keys.put(CustomerKey("acme", 1, wrapped))
    old = seal(data_key, CANARY, bound_to("sealed", "acme", "con_1", "credentials"))
    assert opened(vault, PLACE, old) == CANARY
    [anew] = at_once(vault.masters.rewrap([customer_key(vault)]))
    assert at_once(vault.masters.unwrap(anew)) == data_key
    vault.keys.put(CustomerKey("acme", 2, wrapped))
    assert "is damaged" in refusal(sealed_in, vault)


def test_a_value_whose_key_went_after_it_was_read_is_read_again(vault):
    """A runner took the connection, and before it opened the credentials they were sealed with a newer key."""
    stale = sealed_in(vault)
    vault.keys.put(*at_once(vault.new_keys([("acme", 2)])))
    vault.keys.values["credentials", "con_1"] = sealed_in(vault)
    del vault.keys.kept["acme", 1]
    assert opened(vault, PLACE, stale) == CANARY


def test_a_value_whose_key_is_lost_names_customer_and_version(vault):
    stale = sealed_in(vault)
    vault.keys.kept.clear()
    assert "customer `acme` has no data key 1" in refusal(opened, vault, PLACE, stale)
    vault.keys.values["credentials", "con_1"] = stale
    assert "customer `acme` has no data key 1" in refusal(opened, vault, PLACE, stale)


# Wrapped anew


def test_only_what_another_master_key_wrapped_is_wrapped_anew(vault):
    sealed = sealed_in(vault)
    after = vault_of("k2", "k1", keys=vault.keys)
    [anew] = at_once(after.masters.rewrap([customer_key(vault)]))
    assert after.masters.wrapped_by(anew) == "k2"
    assert at_once(after.masters.rewrap([anew])) == [None]
    vault.keys.kept["acme", 1] = anew
    assert opened(vault_of("k2", keys=vault.keys), PLACE, sealed) == CANARY


def test_one_damaged_key_leaves_the_others_to_be_wrapped_anew(vault):
    good, bad = at_once(vault.new_keys([("acme", 1), ("other", 1)]))
    bad = replace(bad, wrapped=bad.wrapped[:-1])
    junk = CustomerKey("third", 1, b"junk")
    anew, trouble, damage = at_once(vault_of("k2", "k1").masters.rewrap([good, bad, junk]))
    assert isinstance(anew, CustomerKey)
    assert "customer `other`" in str(trouble)
    assert "customer `third` is damaged" in str(damage)


def test_the_current_master_key_may_be_named():
    masters = MasterKeys(lambda: keyring("k1", "k2"), wanted="k2")
    assert (masters.current, masters.known()) == ("k2", ("k2", "k1"))
    assert [masters.opens(each) for each in ("k1", "k3", "transit/relay")] == [True, False, False]


# The keyring


def test_the_first_key_is_the_current_one():
    assert keyring("new", "old").current == "new"


def test_keys_in_url_safe_base64_are_read_too():
    key = bytes([251, 255] * 16)
    assert Keyring.from_text("k1:" + base64.urlsafe_b64encode(key).decode()).keys["k1"] == key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no master key"),
        (" , ,", "there is no master key"),
        (KEY_TEXT, "key id is missing"),
        (f":{KEY_TEXT}", "key id is missing"),
        (f"{KEY_TEXT}:k1", "key id is missing or malformed"),
        (f"k 1:{KEY_TEXT}", "malformed"),
        (f"k1:{KEY_TEXT}!", "not base64"),
        (f"k1:{KEY_TEXT[:-1]}", "not base64"),
        (f"k1:{KEY_TEXT}é", "not base64"),
        ("k1:" + base64.b64encode(KEY_CANARY[:16]).decode(), "has 16 bytes instead of 32"),
        (f"k1:{KEY_TEXT},k1:{KEY_TEXT}", "stands twice"),
        (f"k1:{KEY_TEXT},k2", "master key 2"),
    ],
)
def test_a_malformed_master_key_is_refused_by_what_is_wrong_and_never_shown(text, says):
    message = refusal(Keyring.from_text, text)
    assert says in message
    assert KEY_TEXT[:8] not in message


def test_a_new_master_key_file_is_private_and_reads_back(tmp_path):
    path = tmp_path / "keys" / "master.key"
    made = new_master_key_file(path)
    assert Keyring.from_file(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_master_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "master.key"
    new_master_key_file(path)
    before = path.read_bytes()
    with pytest.raises(AlreadyThere):
        new_master_key_file(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_many_that_ensure_one_key_file_at_once_get_the_same_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_master_key_file(tmp_path / "master.key"), range(8)))
    assert all(each == found[0] for each in found)


def test_a_key_file_may_hold_comments_and_older_keys(tmp_path):
    path = tmp_path / "master.key"
    path.touch(mode=0o600)
    path.write_text(f"# ours\nnew:{KEY_TEXT}\n\nold:{KEY_TEXT}\n")
    assert Keyring.from_file(path).current == "new"
    assert set(Keyring.from_file(path).keys) == {"new", "old"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_file_that_others_may_use_is_refused_with_the_fix(tmp_path, mode):
    path = tmp_path / "master.key"
    new_master_key_file(path)
    path.chmod(mode)
    message = refusal(Keyring.from_file, path)
    assert f"mode {mode:04o}" in message
    assert f"chmod 600 {path}" in message


def test_a_missing_or_binary_key_file_is_refused_clearly(tmp_path):
    assert "No such file" in refusal(Keyring.from_file, tmp_path / "none")
    path = tmp_path / "binary"
    path.touch(mode=0o600)
    path.write_bytes(b"\xff" + KEY_CANARY)
    assert "is not text" in refusal(Keyring.from_file, path)


def test_a_key_file_that_cannot_be_made_is_refused_clearly(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write the master key file" in refusal(new_master_key_file, tmp_path / "file" / "master.key")


# Keys from several sources


def written(path, *ids):
    """A key file with these ids, in the place of what was there, at another time than that."""
    path.touch(mode=0o600)
    before = path.stat().st_mtime_ns
    path.write_text("\n".join(f"{each}:{base64.b64encode(keyring(each).keys[each]).decode()}" for each in ids))
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_key_file_is_read_again_when_it_changes(tmp_path):
    written(path := tmp_path / "master.key", "k1")
    file = KeyringFile(path)
    assert file.keyring().current == "k1"
    assert file.keyring() is file.keyring()
    written(path, "k2", "k1")
    assert (file.keyring().current, set(file.keyring().keys)) == ("k2", {"k1", "k2"})


def test_a_key_file_that_is_damaged_later_changes_nothing_but_the_log(tmp_path):
    written(path := tmp_path / "master.key", "k1")
    file = KeyringFile(path)
    before = file.keyring()
    path.chmod(0o644)
    with capture_logs() as logs:
        assert [file.keyring(), file.keyring()] == [before, before]
        path.unlink()
        assert file.keyring() == before
    assert [each["event"] for each in logs] == ["keyring.unread", "keyring.unread"]
    assert "chmod 600" in logs[0]["problem"]
    refusal(KeyringFile(path).keyring)


def test_keys_of_the_environment_come_before_those_of_the_file(tmp_path):
    written(path := tmp_path / "master.key", "k1", "k2")
    masters = master_keys(Sources(text="k3:" + KEY_TEXT, file=path))
    assert masters.known() == ("k3", "k1", "k2")
    assert master_keys(Sources(text="k3:" + KEY_TEXT, file=path, current="k2")).current == "k2"
    assert "the master key `k9` is missing" in refusal(master_keys, Sources(file=path, current="k9"))
    assert "names one key in the environment and another" in refusal(
        master_keys, Sources(text="k1:" + KEY_TEXT, file=path)
    )


def test_a_laptop_makes_its_own_key_only_when_no_other_is_given(tmp_path):
    own = tmp_path / "master.key"
    assert "no master key" in refusal(master_keys, Sources())
    master_keys(Sources(text="k3:" + KEY_TEXT, own=own))
    assert not own.exists()
    made = master_keys(Sources(own=own))
    assert own.exists()
    assert master_keys(Sources(own=own)).current == made.current


# Nothing secret is shown


def shown(thing):
    return f"{thing!r} {thing!s} {thing}"


def assert_clean(text):
    for secret in (CANARY, KEY_CANARY, KEY_TEXT.encode()):
        assert secret.decode() not in text
        assert secret.hex() not in text


def test_no_key_is_in_a_repr():
    ring = Keyring.from_text(f"k1:{KEY_TEXT}")
    vault = Vault(MasterKeys.of(ring), KeysInMemory())
    [key] = at_once(vault.new_keys([("acme", 1)]))
    assert_clean(shown(ring) + shown(vault) + shown([ring, {"vault": vault}]))
    assert key.wrapped.hex() not in shown(key)
    assert str(key.wrapped)[2:-1] not in shown(key)


def test_no_secret_is_in_a_refusal_or_its_whole_traceback():
    vault = Vault(MasterKeys.of(Keyring.from_text(f"k1:{KEY_TEXT}")), KeysInMemory())
    sealed = sealed_in(vault)
    damaged = KeysInMemory()
    damaged.put(replace(customer_key(vault), wrapped=customer_key(vault).wrapped[:-1]))
    attempts = [
        (opened, vault, Place("acme", "con_2", Purpose.CREDENTIALS), sealed),
        (opened, replace(vault, keys=damaged), PLACE, sealed),
        (opened, vault, PLACE, CANARY),
        (opened, vault_of("k2", keys=vault.keys), PLACE, sealed),
        (Keyring.from_text, f"k1:{KEY_TEXT}x"),
        (Keyring.from_text, f"{KEY_CANARY.decode()}:k1"),
    ]
    for call, *args in attempts:
        with pytest.raises(KeyTrouble) as caught:
            call(*args)
        assert_clean("".join(traceback.format_exception(caught.value)) + shown(caught.value))
        assert caught.value.__cause__ is None


def test_no_secret_is_in_what_is_stored():
    vault = Vault(MasterKeys.of(Keyring.from_text(f"k1:{KEY_TEXT}")), KeysInMemory())
    stored = sealed_in(vault) + customer_key(vault).wrapped
    assert CANARY not in stored
    assert KEY_CANARY not in stored
