"""Another language on the other side: the reference library in JavaScript (v1), and Node's own ed25519 (v1a)."""

import base64
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.rotation import LiveSecret, rotated, signing_keys
from relay.domain.signing import new_secret, verify, verifying_key, webhook_headers

LOCK = json.loads((Path(__file__).parents[1] / "javascript" / "package-lock.json").read_text())
BODIES = (
    b"{}",
    '{"supplier":"Móveis São João Ltda.","note":"\\u2028 ☃ 𝄞"}'.encode(),
    b'{ "spaces" : [ 1.10, 1e2 ] }\r\n',
    json.dumps({"lines": ["x" * 1000] * 250}).encode(),
)


@pytest.fixture
def secret():
    return new_secret(os.urandom(32))


@pytest.fixture
def private():
    return new_private_key(os.urandom(32))


def signed(secrets, body, at):
    delivery = Delivery(DeliveryId("dlv_1"), "evt_01HZX", "lane", 1, datetime.now(UTC), 0, body)
    return webhook_headers(signing_keys(secrets, at), delivery, at)


def to_verify(key, headers, body):
    return {"verify": key, "headers": headers, "body": base64.b64encode(body).decode()}


@pytest.mark.parametrize("body", BODIES, ids=["empty", "unicode", "blanks", "long"])
def test_webhooks_that_relay_signed_are_verified_in_javascript(javascript, secret, private, body):
    headers = signed([LiveSecret(secret), LiveSecret(private)], body, int(time.time()))
    assert javascript([to_verify(key, headers, body) for key in (secret, public_key(private))]) == ["", ""]


def test_javascript_refuses_what_was_changed_on_the_way_and_what_others_signed(javascript, secret, private):
    body, at = BODIES[1], int(time.time())
    headers = signed([LiveSecret(secret), LiveSecret(private)], body, at)
    spoiled = [
        (headers, body + b" "),
        (headers | {"webhook-id": "evt_01HZY"}, body),
        (headers | {"webhook-timestamp": str(at + 1)}, body),
        (signed([LiveSecret(new_secret(b"o" * 32)), LiveSecret(new_private_key(b"o" * 32))], body, at), body),
    ]
    told = javascript([to_verify(key, *each) for each in spoiled for key in (secret, public_key(private))])
    assert told == ["No matching signature found"] * 8


def test_while_secrets_are_replaced_receivers_in_javascript_verify_with_the_old_and_the_new_one(
    javascript, secret, private
):
    at, new = int(time.time()), [new_secret(b"n" * 32), new_private_key(b"n" * 32)]
    secrets = rotated([LiveSecret(secret), LiveSecret(private)], new, at - 60, overlap=60, begin=at)
    old_keys, new_keys = [secret, public_key(private)], [new[0], public_key(new[1])]
    before, meanwhile, after = (signed(secrets, b"{}", at + seconds) for seconds in (-1, 30, 60))
    cases = [to_verify(key, headers, b"{}") for headers in (before, meanwhile, after) for key in old_keys + new_keys]
    fits = [not told for told in javascript(cases)]
    assert fits == [True, True, False, False] + [True] * 4 + [False, False, True, True]


@pytest.mark.parametrize("body", BODIES, ids=["empty", "unicode", "blanks", "long"])
def test_webhooks_signed_in_javascript_are_verified_by_relay(javascript, secret, private, body):
    given = {"id": "msg_1", "timestamp": int(time.time()), "body": base64.b64encode(body).decode()}
    signatures = javascript([{"sign": key, **given} for key in (secret, private)])
    for key, signature in zip((secret, public_key(private)), signatures, strict=True):
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(given["timestamp"]), "webhook-signature": signature}
        verify([verifying_key(key)], headers, body, given["timestamp"])


def test_the_lock_pins_each_javascript_package_by_its_hash_and_names_no_address():
    packages = {name: each for name, each in LOCK["packages"].items() if name}
    assert "node_modules/standardwebhooks" in packages
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert "://" not in json.dumps(packages)
