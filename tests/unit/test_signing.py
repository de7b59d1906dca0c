import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from relay.domain.deliveries import Delivery, DeliveryId
from relay.domain.ed25519_keys import new_private_key, public_key
from relay.domain.errors import UserError
from relay.domain.signing import (
    SignatureRefused,
    TimedKey,
    new_secret,
    parse_secret,
    sign,
    signing_key,
    verify,
    verifying_key,
    webhook_headers,
)

# The vector of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
THEN = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
ASYMMETRIC = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
KEY = parse_secret(SECRET)
PRIVATE_KEY, PUBLIC_KEY = signing_key(PRIVATE), verifying_key(PUBLIC)

keys = st.binary(min_size=24, max_size=64)
seeds = st.binary(min_size=32, max_size=32)
secret_texts = st.one_of(keys.map(new_secret), seeds.map(new_private_key))
ids = st.from_regex(r"[!-\-/-~]{1,40}", fullmatch=True)
times = st.integers(0, 2_000_000_000)


def headers(**changes):
    good = {"webhook-id": MESSAGE, "webhook-timestamp": str(THEN), "webhook-signature": SIGNATURE}
    changed = good | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


def refusal(now=THEN, body=BODY, secrets=(KEY,), **changes):
    with pytest.raises(SignatureRefused) as caught:
        verify(secrets, headers(**changes), body, now)
    return caught.value


def test_the_vector_of_the_specification_is_signed_and_verified():
    assert sign([KEY], MESSAGE, THEN, BODY) == SIGNATURE
    verify([KEY], headers(), BODY, THEN)


def test_header_names_come_in_any_case():
    verify([KEY], {name.title(): value for name, value in headers().items()}, BODY, THEN)


@given(st.lists(keys, min_size=1, max_size=4, unique=True), ids, times, st.binary(max_size=300), st.data())
def test_what_is_signed_with_several_secrets_verifies_with_any_of_them(secrets, message, now, body, data):
    given_headers = headers(
        webhook_id=message, webhook_timestamp=str(now), webhook_signature=sign(secrets, message, now, body)
    )
    verify([data.draw(st.sampled_from(secrets))], given_headers, body, now)
    verify([b"another secret, 24 bytes or more", *secrets], given_headers, body, now)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_flipped_bit_of_the_body_is_refused(body, data):
    signature = sign([KEY], MESSAGE, THEN, body)
    at = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[at // 8] ^= 1 << at % 8
    assert refusal(body=bytes(changed), webhook_signature=signature).reason == "mismatch"


@given(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.data())
def test_any_changed_character_of_a_header_is_refused(name, data):
    value = headers()[name]
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters().filter(lambda each: each != value[at]))
    changed = headers() | {name: value[:at] + other + value[at + 1 :]}
    with pytest.raises(SignatureRefused):
        verify([KEY], changed, BODY, THEN)


@pytest.mark.parametrize("name", ["webhook_id", "webhook_timestamp", "webhook_signature"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_header_is_named(name, value):
    refused = refusal(**{name: value})
    assert refused.reason == "missing"
    assert name.replace("_", "-") in str(refused)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook_id", "msg.with.dots"),
        ("webhook_id", "müll"),
        ("webhook_id", "two words"),
        ("webhook_id", "x" * 257),
        ("webhook_timestamp", "1614265330.0"),
        ("webhook_timestamp", "-1"),
        ("webhook_timestamp", "+1614265330"),
        ("webhook_timestamp", "1_614_265_330"),
        ("webhook_timestamp", "١٦١٤٢٦٥٣٣٠"),
        ("webhook_timestamp", "9" * 5000),
        ("webhook_timestamp", "nan"),
        ("webhook_timestamp", "1614265330\n"),
        ("webhook_signature", "v1"),
        ("webhook_signature", "v1,"),
        ("webhook_signature", ","),
        ("webhook_signature", " "),
        ("webhook_signature", "v1,ünïcode"),
        ("webhook_signature", "v1,not-base64"),
        ("webhook_signature", SIGNATURE + " "),
        ("webhook_signature", SIGNATURE + "=" * 4),
        ("webhook_signature", " ".join([SIGNATURE] * 33)),
        ("webhook_signature", ASYMMETRIC),
    ],
)
def test_a_malformed_header_is_refused_by_name_and_never_fails_otherwise(name, value):
    refused = refusal(**{name: value})
    assert refused.reason == "malformed"
    assert name.replace("_", "-") in str(refused)


def test_signatures_of_other_versions_are_passed_over():
    verify([KEY], headers(webhook_signature=f"{ASYMMETRIC} v9,whatever {SIGNATURE}"), BODY, THEN)


def test_another_spelling_of_the_same_signature_is_refused():
    twin = SIGNATURE[:-2] + "F="
    assert base64.b64decode(twin[3:]) == base64.b64decode(SIGNATURE[3:])
    assert refusal(webhook_signature=twin).reason == "mismatch"


def test_the_tolerance_is_exact_on_both_sides():
    verify([KEY], headers(), BODY, THEN + 300)
    verify([KEY], headers(), BODY, THEN - 300)
    verify([KEY], headers(), BODY, THEN + 301, tolerance=301)
    assert refusal(now=THEN + 301).reason == "stale"
    assert refusal(now=THEN - 301).reason == "future"


def test_without_secrets_nothing_verifies():
    assert refusal(secrets=()).reason == "mismatch"


def test_a_body_that_is_not_text_is_signed_and_verified():
    body = bytes(range(256))
    verify([KEY], headers(webhook_signature=sign([KEY], MESSAGE, THEN, body)), body, THEN)


@pytest.mark.parametrize(
    ("secrets", "message", "timestamp"),
    [([], MESSAGE, THEN), ([KEY], "a.b", THEN), ([KEY], "", THEN), ([KEY], "é", THEN), ([KEY], MESSAGE, -1)],
)
def test_what_no_receiver_could_verify_is_not_signed(secrets, message, timestamp):
    with pytest.raises(ValueError, match="signing needs"):
        sign(secrets, message, timestamp, BODY)


def test_a_delivery_keeps_its_id_and_counts_its_attempts():
    delivery = Delivery(DeliveryId("dlv_1"), MESSAGE, "lane", 1, datetime.now(UTC), 2, BODY, number=7)
    assert webhook_headers([KEY], delivery, THEN) == {
        "content-type": "application/json",
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(THEN),
        "webhook-signature": SIGNATURE,
        "relay-delivery": "dlv_1",
        "relay-attempt": "3",
        "relay-number": "7",
    }


def test_a_delivery_that_is_replayed_says_so():
    delivery = Delivery(DeliveryId("dlv_1"), MESSAGE, "lane", 1, datetime.now(UTC), 2, BODY, replay="rpl_1")
    assert webhook_headers([KEY], delivery, THEN)["relay-replay"] == "rpl_1"


@given(keys)
def test_a_new_secret_is_read_back(key):
    assert parse_secret(new_secret(key)) == key


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_of_another_size_is_neither_made_nor_read(size):
    with pytest.raises(ValueError, match="24 to 64"):
        new_secret(b"x" * size)
    with pytest.raises(UserError, match="24 to 64"):
        parse_secret("whsec_" + base64.b64encode(b"x" * size).decode())


@pytest.mark.parametrize(
    "text",
    [
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        SECRET + "\n",
        SECRET[:12] + " " + SECRET[12:],
        SECRET[:-1],
        SECRET + "====",
        SECRET[:-4] + "-_-_",
        "whsec_Mfü",
        "whsec_" + "TWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3cA"[:-1] + "B=",
        "",
    ],
)
def test_what_is_not_a_secret_is_refused_without_repeating_it(text):
    with pytest.raises(UserError) as caught:
        parse_secret(text)
    assert text[8:] not in str(caught.value) or not text
    assert "MfKQ" not in repr(caught.value)


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(codec="utf-8"), max_size=200))
def test_the_reference_library_verifies_what_we_sign(key, text):
    now = int(datetime.now(UTC).timestamp())
    signed = headers(webhook_timestamp=str(now), webhook_signature=sign([key], MESSAGE, now, text.encode()))
    standardwebhooks.Webhook(new_secret(key)).verify(text.encode(), signed, json_parse=False)


@given(st.binary(min_size=24, max_size=64), times, st.text(st.characters(codec="utf-8"), max_size=200))
def test_we_verify_what_the_reference_library_signs(key, now, text):
    signature = standardwebhooks.Webhook(new_secret(key)).sign(MESSAGE, datetime.fromtimestamp(now, UTC), text)
    verify([key], headers(webhook_timestamp=str(now), webhook_signature=signature), text.encode(), now)


# Keys of ed25519


def for_receiver(secret):
    return verifying_key(public_key(secret) if secret.startswith("whsk_") else secret)


def test_the_ed25519_vector_is_signed_and_verified():
    assert public_key(PRIVATE) == PUBLIC
    assert sign([PRIVATE_KEY], MESSAGE, THEN, BODY) == ASYMMETRIC
    verify([PUBLIC_KEY], headers(webhook_signature=ASYMMETRIC), BODY, THEN)


def test_both_kinds_sign_in_the_order_of_the_keys():
    assert sign([KEY, PRIVATE_KEY], MESSAGE, THEN, BODY) == f"{SIGNATURE} {ASYMMETRIC}"
    assert sign([PRIVATE_KEY, KEY], MESSAGE, THEN, BODY) == f"{ASYMMETRIC} {SIGNATURE}"


@given(st.lists(secret_texts, min_size=1, max_size=5, unique=True), ids, times, st.binary(max_size=100), st.data())
def test_what_is_signed_with_keys_of_both_kinds_verifies_with_any_of_them(secrets, message, now, body, data):
    signature = sign([signing_key(each) for each in secrets], message, now, body)
    given_headers = headers(webhook_id=message, webhook_timestamp=str(now), webhook_signature=signature)
    known = for_receiver(data.draw(st.sampled_from(secrets)))
    verify([known], given_headers, body, now)
    verify([b"another secret, 24 bytes or more", PUBLIC_KEY, known], given_headers, body, now)
    refused = refusal(now, body + b"!", [known], **{name.replace("-", "_"): v for name, v in given_headers.items()})
    assert refused.reason == "mismatch"


@given(st.data())
def test_any_changed_character_of_an_ed25519_signature_is_refused(data):
    at = data.draw(st.integers(0, len(ASYMMETRIC) - 1))
    other = data.draw(st.characters().filter(lambda each: each != ASYMMETRIC[at]))
    assert refusal(secrets=[PUBLIC_KEY], webhook_signature=ASYMMETRIC[:at] + other + ASYMMETRIC[at + 1 :])


@pytest.mark.parametrize(
    "signature",
    [SIGNATURE, "v1a,not-base64", "v1a," + SIGNATURE[3:], ASYMMETRIC + "=", ASYMMETRIC[:-1], "v1a", "v1a,"],
)
def test_a_malformed_ed25519_signature_is_refused_and_never_fails_otherwise(signature):
    refused = refusal(secrets=[PUBLIC_KEY], webhook_signature=signature)
    assert refused.reason == "malformed"
    assert "webhook-signature" in str(refused)


def test_a_malformed_signature_of_a_version_without_a_key_is_passed_over():
    verify([PUBLIC_KEY], headers(webhook_signature=f"v1,junk {ASYMMETRIC}"), BODY, THEN)
    verify([KEY], headers(webhook_signature=f"v1a,junk {SIGNATURE}"), BODY, THEN)


def test_another_spelling_of_the_same_ed25519_signature_is_refused():
    twin = ASYMMETRIC[:-3] + "h=="
    assert base64.b64decode(twin[4:]) == base64.b64decode(ASYMMETRIC[4:])
    assert refusal(secrets=[PUBLIC_KEY], webhook_signature=twin).reason == "mismatch"


def test_a_signature_with_another_ed25519_key_is_refused():
    other = verifying_key(public_key(new_private_key(b"another seed, which has 32 bytes")))
    assert refusal(secrets=[other], webhook_signature=ASYMMETRIC).reason == "mismatch"


def test_a_public_key_is_no_secret_of_an_hmac():
    by_public = sign([base64.b64decode(PUBLIC[5:])], MESSAGE, THEN, BODY)
    assert refusal(secrets=[PUBLIC_KEY], webhook_signature=by_public).reason == "malformed"


def test_an_old_key_signs_beside_the_new_one_until_it_ends():
    delivery = Delivery(DeliveryId("dlv_1"), MESSAGE, "lane", 1, datetime.now(UTC), 2, BODY)
    secrets = [PRIVATE_KEY, TimedKey(KEY, until=THEN + 1)]
    assert webhook_headers(secrets, delivery, THEN)["webhook-signature"] == f"{ASYMMETRIC} {SIGNATURE}"
    assert webhook_headers(secrets, delivery, THEN + 1)["webhook-signature"].startswith("v1a,")
    assert " " not in webhook_headers(secrets, delivery, THEN + 1)["webhook-signature"]


def test_a_new_key_signs_beside_the_old_one_from_the_moment_it_begins():
    delivery = Delivery(DeliveryId("dlv_1"), MESSAGE, "lane", 1, datetime.now(UTC), 2, BODY)
    secrets = [TimedKey(PRIVATE_KEY, since=THEN), TimedKey(KEY, until=THEN + 9)]
    assert webhook_headers(secrets, delivery, THEN)["webhook-signature"] == f"{ASYMMETRIC} {SIGNATURE}"
    assert webhook_headers(secrets, delivery, THEN - 1)["webhook-signature"].startswith("v1,")
    assert " " not in webhook_headers(secrets, delivery, THEN - 1)["webhook-signature"]


@given(seeds)
def test_a_new_private_key_is_read_back_with_its_public_key(seed):
    text = new_private_key(seed)
    assert base64.b64decode(text[5:])[:32] == seed
    assert signing_key(text).public.text() == public_key(text)
    assert verifying_key(public_key(text)) is not None


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_private_key_is_made_of_exactly_one_seed(size):
    with pytest.raises(ValueError, match="32 bytes"):
        new_private_key(b"x" * size)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (signing_key, PUBLIC, "ed25519 key"),
        (signing_key, PRIVATE[:-3] + "h==", "not base64"),
        (signing_key, PRIVATE + "\n", "not base64"),
        (signing_key, PRIVATE[:-8], "must have 64"),
        (signing_key, "whsk_" + PUBLIC[5:], "must have 64"),
        (signing_key, PRIVATE[:9] + "A" + PRIVATE[10:], "do not belong together"),
        (signing_key, "WHSK_" + PRIVATE[5:], "must begin with whsec_"),
        (public_key, SECRET, "must begin with whsk_"),
        (public_key, PUBLIC, "must begin with whsk_"),
        (verifying_key, PRIVATE, "whpk_"),
        (verifying_key, PUBLIC[:-1], "not base64"),
        (verifying_key, PUBLIC[:-2] + "5=", "not base64"),
        (verifying_key, "whpk_" + PRIVATE[5:], "must have 32"),
        (verifying_key, "whpk_1Sü", "not base64"),
        (verifying_key, PUBLIC[5:], "must begin with whsec_"),
    ],
)
def test_what_is_not_a_key_is_refused_without_repeating_it(read, text, says):
    with pytest.raises(UserError, match=says) as caught:
        read(text)
    assert text[7:] not in str(caught.value)


def test_a_private_key_is_not_in_any_repr():
    seed = base64.b64decode(PRIVATE[5:])[:32]
    assert seed.hex() not in repr(PRIVATE_KEY)
    assert repr(TimedKey(KEY, until=1)) == "TimedKey(since=None, until=1)"
    assert repr(PRIVATE_KEY) == "PrivateKey()"


@given(seeds, st.text(st.characters(codec="utf-8"), max_size=100))
def test_the_reference_library_verifies_the_hmac_beside_an_ed25519_signature(seed, text):
    now, secrets = int(datetime.now(UTC).timestamp()), [signing_key(new_private_key(seed)), KEY]
    signed = headers(webhook_timestamp=str(now), webhook_signature=sign(secrets, MESSAGE, now, text.encode()))
    standardwebhooks.Webhook(SECRET).verify(text.encode(), signed, json_parse=False)
