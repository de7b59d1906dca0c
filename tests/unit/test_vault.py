"""The vault: what is sealed opens only with its key and in its place, and nothing secret is ever shown."""

import base64
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.errors import AlreadyThere, KeyTrouble
from relay.vault import Keyring, Place, Purpose, Vault
from relay.vault.envelope import bound_to, open_sealed, seal
from relay.vault.keyring import ensure_master_key_file, new_master_key_file

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
    return Vault(keyring("k1"))


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
    assert "unknown version 2" in refusal(open_sealed, KEY_CANARY, b"\x02" + bytes(40), b"")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length):
    assert f"this one has {length}" in refusal(seal, bytes(length), CANARY, b"")


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_different_places_are_never_written_alike(one, other):
    assert (bound_to(*one) == bound_to(*other)) == (one == other)


# The vault


@given(place=places, plaintext=st.binary(max_size=500))
def test_a_secret_opens_in_its_own_place(place, plaintext):
    vault = Vault(keyring("k1"))
    wrapped = vault.new_customer_key(place.customer_id)
    assert vault.open(wrapped, place, vault.seal(wrapped, place, plaintext)) == plaintext


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
    wrapped = vault.new_customer_key("acme")
    sealed = vault.seal(wrapped, PLACE, CANARY)
    refusal(vault.open, wrapped, elsewhere, sealed)


def test_a_secret_moved_to_another_customer_opens_neither_with_that_customers_key(vault):
    sealed = vault.seal(vault.new_customer_key("acme"), PLACE, CANARY)
    moved = Place("other", PLACE.subject, PLACE.purpose)
    assert "credentials of `con_1`" in refusal(vault.open, vault.new_customer_key("other"), moved, sealed)


def test_a_customers_key_moved_to_another_customer_does_not_open(vault):
    wrapped = vault.new_customer_key("acme")
    assert "customer `other`" in refusal(vault.seal, wrapped, Place("other", "con_1", Purpose.CREDENTIALS), CANARY)


def test_a_customer_key_under_another_key_id_does_not_open():
    same_key_twice = Keyring("k1", {"k1": KEY_CANARY, "k2": KEY_CANARY})
    vault = Vault(same_key_twice)
    wrapped = vault.new_customer_key("acme")
    refusal(vault.seal, wrapped.replace(b"k1", b"k2", 1), PLACE, CANARY)


def test_every_flipped_bit_of_a_customers_key_is_refused(vault):
    wrapped = vault.new_customer_key("acme")
    for bit in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        refusal(vault.seal, bytes(changed), PLACE, CANARY)


@given(st.binary(max_size=80))
def test_any_bytes_in_the_place_of_a_customers_key_are_refused_clearly(junk):
    assert "customer `acme`" in refusal(Vault(keyring("k1")).seal, junk, PLACE, CANARY)


def test_two_customers_have_two_keys(vault):
    assert vault.new_customer_key("acme") != vault.new_customer_key("acme")


def test_a_missing_master_key_is_named(vault):
    wrapped = vault.new_customer_key("acme")
    assert "the master key `k1` is missing (there: k2)" in refusal(Vault(keyring("k2")).seal, wrapped, PLACE, CANARY)


def test_a_wrong_master_key_under_the_right_id_names_that_id(vault):
    sealed = vault.seal(wrapped := vault.new_customer_key("acme"), PLACE, CANARY)
    impostor = Vault(Keyring("k1", {"k1": KEY_CANARY}))
    assert "wrapped by `k1`" in refusal(impostor.open, wrapped, PLACE, sealed)


def test_a_new_current_master_key_still_opens_what_the_old_one_wrapped(vault):
    wrapped = vault.new_customer_key("acme")
    sealed = vault.seal(wrapped, PLACE, CANARY)
    after = Vault(keyring("k2", "k1"))
    assert after.open(wrapped, PLACE, sealed) == CANARY
    assert b"k2" in after.new_customer_key("acme")[:4]


# The keyring


def test_the_first_key_is_the_current_one():
    assert keyring("new", "old").current == "new"


def test_keys_in_url_safe_base64_are_read_too():
    key = bytes([251, 255] * 16)
    assert Keyring.from_text("k1:" + base64.urlsafe_b64encode(key).decode()).key("k1") == key


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


# Nothing secret is shown


def shown(thing):
    return f"{thing!r} {thing!s} {thing}"


def assert_clean(text):
    for secret in (CANARY, KEY_CANARY, KEY_TEXT.encode()):
        assert secret.decode() not in text
        assert secret.hex() not in text


def test_no_key_is_in_a_repr():
    ring = Keyring.from_text(f"k1:{KEY_TEXT}")
    assert_clean(shown(ring) + shown(Vault(ring)) + shown([ring, {"vault": Vault(ring)}]))


def test_no_secret_is_in_a_refusal_or_its_whole_traceback():
    vault = Vault(Keyring.from_text(f"k1:{KEY_TEXT}"))
    wrapped = vault.new_customer_key("acme")
    sealed = vault.seal(wrapped, PLACE, CANARY)
    attempts = [
        (vault.open, wrapped, Place("acme", "con_2", Purpose.CREDENTIALS), sealed),
        (vault.open, wrapped[:-1], PLACE, sealed),
        (vault.open, wrapped, PLACE, CANARY),
        (Vault(keyring("k2")).open, wrapped, PLACE, sealed),
        (Keyring.from_text, f"k1:{KEY_TEXT}x"),
        (Keyring.from_text, f"{KEY_CANARY.decode()}:k1"),
    ]
    for call, *args in attempts:
        with pytest.raises(KeyTrouble) as caught:
            call(*args)
        assert_clean("".join(traceback.format_exception(caught.value)) + shown(caught.value))
        assert caught.value.__cause__ is None


def test_no_secret_is_in_what_is_stored():
    vault = Vault(Keyring.from_text(f"k1:{KEY_TEXT}"))
    wrapped = vault.new_customer_key("acme")
    stored = wrapped + vault.seal(wrapped, PLACE, CANARY)
    assert CANARY not in stored
    assert KEY_CANARY not in stored
