"""`relay verify`: a webhook checked by hand."""

import io
import time

import pytest

from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.signing import new_secret, sign, signing_key

pytest_plugins = ["tests.fixtures.cli"]

SECRET, PRIVATE = new_secret(b"canary, a secret of 32 bytes...."), new_private_key(b"canary, a seed of just 32 bytes.")
BODY = b'{"type":"t"}'


@pytest.fixture
def checked(relay, environment, tmp_path):
    def call(*more, keys=SECRET, body=BODY, key=SECRET, age=0, **changed):
        file = tmp_path / "keys"
        file.write_text(f"{keys}\n")
        now = int(time.time()) - age
        given = {"id": "evt_1", "timestamp": str(now), "signature": sign([signing_key(key)], "evt_1", now, BODY)}
        options = [part for name, value in (given | changed).items() for part in (f"--{name}", value)]
        environment.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body)))
        return relay("verify", "--secret-file", file, *options, *more)

    return call


@pytest.mark.parametrize(
    ("keys", "key"),
    [(SECRET, SECRET), (public_key(PRIVATE), PRIVATE), (f"{public_key(PRIVATE)}\n{SECRET}", SECRET)],
    ids=["shared secret", "public key", "several keys"],
)
def test_what_was_signed_is_verified(checked, keys, key):
    told = checked(keys=keys, key=key)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("verified: evt_1, a body of 12 bytes, signed ")
    shown = checked("--json", keys=keys, key=key)
    assert (shown.code, shown.json["verified"], shown.json["bytes"]) == (0, True, 12)


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        ({"id": "a.b"}, "malformed", "the header webhook-id is malformed"),
        ({"id": ""}, "missing", "the header webhook-id is missing"),
        ({"timestamp": "yesterday"}, "malformed", "the header webhook-timestamp is malformed"),
        ({"signature": "v1,junk"}, "malformed", "a v1 signature in the header"),
        ({"age": 3600}, "stale", " s old: more than the 300 s allowed"),
        ({"age": -3600}, "future", "s ahead: compare the two clocks"),
        ({"body": BODY + b" "}, "mismatch", "no signature fits"),
        ({"keys": new_secret(b"x" * 32)}, "mismatch", "no signature fits"),
        ({"keys": public_key(PRIVATE)}, "malformed", "has no v1a signature"),
    ],
)
def test_what_is_refused_says_why_and_ends_with_1(checked, given, reason, says):
    told = checked(**given)
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith(f"relay: refused ({reason}): ")
    assert says in told.err
    assert "without the line end" not in told.err
    shown = checked("--json", **given)
    assert (shown.code, shown.out, shown.error["code"], shown.error["exit_code"]) == (1, "", reason, 1)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_end_that_was_added_behind_the_body_is_pointed_out(checked, end):
    assert "It fits without the line end behind the body" in checked(body=BODY + end).err
    assert "without the line end" not in checked(body=BODY + b"!" + end).err


def test_an_old_webhook_is_verified_with_a_longer_tolerance(checked):
    assert checked("--tolerance", "2h", age=3600).code == 0


@pytest.mark.parametrize(
    ("keys", "says"),
    [(PRIVATE, "the sender's private key"), ("whsec_short", "not base64"), ("", "there is no signing secret")],
)
def test_keys_that_cannot_be_used_are_named_and_not_repeated(checked, keys, says):
    told = checked(keys=keys)
    assert (told.code, told.out) == (2, "")
    assert says in told.err
    assert PRIVATE[5:] not in told.err


def test_keys_do_not_come_where_the_body_comes(relay):
    told = relay("verify", "--secret-file", "-", "--id", "a", "--timestamp", "1", "--signature", "v1,a")
    assert (told.code, "standard input is for the body" in told.err) == (2, True)
