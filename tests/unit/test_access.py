"""What relay shows a receiver: what may be written down, what is refused without being repeated, what comes back."""

import base64
import json
import re
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, PrivateFormat
from hypothesis import given as over
from hypothesis import strategies as st

from relay.domain.access import (
    LONGEST_VALUE,
    MOST_HEADERS,
    Access,
    Basic,
    Bearer,
    ClientCertificate,
    ClientCredentials,
    given,
    read,
    written,
)
from relay.domain.certificates import MOST_CERTIFICATES
from relay.domain.errors import UserError
from tests.fixtures.certificates import Authority, key_pem

CANARY = "canary"
AUTHORITY = Authority()
OAUTH2 = {"kind": "oauth2", "token_url": "https://login.example/token", "client_id": "us", "client_secret": CANARY}


def refusal(**values):
    with pytest.raises(UserError) as caught:
        given(values)
    for text in (str(caught.value), repr(caught.value), repr(caught.value.__cause__)):
        assert CANARY not in text
    return str(caught.value)


def test_nothing_is_no_bytes_and_no_headers():
    nothing = given({})
    assert (nothing, written(nothing), read(b"")) == (Access(), b"", Access())
    assert (nothing.sent_headers(), nothing.identity(), nothing.authorities()) == ({}, None, ())


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
texts = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=40)
names = st.from_regex(r"x-[a-z0-9-]{1,20}", fullmatch=True)
auths = st.one_of(
    st.just({"kind": "none"}),
    st.builds(
        lambda user, password: {"kind": "basic", "username": user, "password": password},
        texts.filter(lambda text: ":" not in text),
        texts,
    ),
    words.map(lambda token: {"kind": "bearer", "token": token}),
    st.builds(
        lambda secret, where: {**OAUTH2, "client_secret": secret, "authenticates": where, "scope": "a b"},
        texts,
        st.sampled_from(["basic", "body"]),
    ),
)


@over(st.dictionaries(names, words, max_size=5), auths)
def test_what_is_written_is_read_again(headers, auth):
    access = given({"headers": headers, "auth": auth})
    assert read(written(access)) == access
    assert access.sent_headers().items() >= headers.items()


def test_no_secret_is_in_a_repr():
    certificate, key = AUTHORITY.issued()
    every = [
        given({"headers": {"x-key": CANARY}, "certificate": {"chain": certificate, "key": key}}),
        *(given({"auth": each}) for each in (
            {"kind": "basic", "username": "us", "password": CANARY}, {"kind": "bearer", "token": CANARY}, OAUTH2)),
    ]  # fmt: skip
    for access in every:
        assert CANARY not in repr(access) + str(access)
        assert key.splitlines()[1] not in repr(access)


def test_basic_is_base64_of_utf8_and_bearer_is_the_token():
    basic = given({"auth": {"kind": "basic", "username": "münchen", "password": "a:b"}})
    login = basic.sent_headers()["authorization"].removeprefix("Basic ")
    assert base64.b64decode(login).decode() == "münchen:a:b"
    assert given({"auth": {"kind": "bearer", "token": "t.o-k"}}).sent_headers() == {"authorization": "Bearer t.o-k"}
    assert given({"auth": OAUTH2}).sent_headers() == {}


def test_names_are_lower_case_and_a_name_twice_is_refused():
    assert given({"headers": {"X-Api-Key": "1", "Authorization": "Key 2"}}).sent_headers() == {
        "x-api-key": "1",
        "authorization": "Key 2",
    }
    assert "twice" in refusal(headers={"x-key": CANARY, "X-Key": CANARY})


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Content-Type", "transfer-encoding", "connection", "TE", "upgrade", "accept-encoding",
     "expect", "trailer", "webhook-id", "Webhook-Signature", "relay-delivery", "proxy-authorization"],
)  # fmt: skip
def test_headers_that_are_relays_are_refused_by_name(name):
    assert re.search(
        rf"headers: header 2 (is|begins with) {name.lower()[:5]}", refusal(headers={"a": "b", name: CANARY})
    )


@pytest.mark.parametrize("name", ["", "two words", "a:b", "a\r\nb", "ä", "(x)", CANARY * 30, f"x {CANARY}", "a\x00"])
def test_a_name_that_is_none_is_refused(name):
    assert "headers: header 1 has a name that is none" in refusal(headers={name: "1"})


@pytest.mark.parametrize(
    "value", ["", " ", "a\r\nx: y", "a\nb", "a\x00b", " canary", "canary\t", "cänary", "c" * (LONGEST_VALUE + 1)]
)
def test_a_value_that_cannot_be_sent_is_refused(value):
    assert "headers: header 1 has a value that cannot be sent" in refusal(headers={"x-key": value})


@over(st.text(min_size=1), st.text(min_size=1))
def test_no_header_breaks_out_of_its_line(name, value):
    try:
        headers = given({"headers": {name: value}}).sent_headers()
    except UserError:
        return
    [(name, value)] = headers.items()
    assert not set("\r\n\0: ") & set(name)
    assert not set("\r\n\0") & set(value)
    assert f"{name}{value}".isascii()


def test_headers_have_a_number_and_a_size():
    assert f"at most {MOST_HEADERS}" in refusal(headers={f"x-{n}": "1" for n in range(MOST_HEADERS + 1)})
    assert "together" in refusal(headers={f"x-{n}": "1" * LONGEST_VALUE for n in range(5)})


def test_authorization_has_one_source():
    words = refusal(headers={"authorization": CANARY}, auth={"kind": "bearer", "token": CANARY})
    assert "the header authorization is set by bearer auth" in words


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"auth": {"kind": CANARY}}, "auth: kind must be none, basic, bearer or oauth2"),
        ({"auth": {}}, "auth: kind must be none, basic, bearer or oauth2"),
        ({"auth": CANARY}, "auth: "),
        ({"auth": {"kind": "basic", "username": "us"}}, "auth.basic.password: Field required"),
        (
            {"auth": {"kind": "basic", "username": "a:canary", "password": ""}},
            "auth.basic.username: must have no colon",
        ),
        (
            {"auth": {"kind": "basic", "username": "a", "password": "canary\n"}},
            "auth.basic.password: must have no contr",
        ),
        ({"auth": {"kind": "bearer", "token": "Bearer canary"}}, "auth.bearer.token: must be printable ASCII"),
        ({"auth": {"kind": "bearer", "token": ""}}, "auth.bearer.token: "),
        ({"auth": OAUTH2 | {"token_url": "ftp://canary"}}, "auth.oauth2.token_url: "),
        ({"auth": OAUTH2 | {"scope": "a  canary"}}, "auth.oauth2.scope: must be printable ASCII words"),
        ({"auth": OAUTH2 | {"scope": 'a "canary"'}}, "auth.oauth2.scope: must be printable ASCII words"),
        ({"auth": OAUTH2 | {"authenticates": "canary"}}, "auth.oauth2.authenticates: "),
        ({"headers": {"x-key": [CANARY]}}, "headers: "),
        ({"headers": {CANARY: 5}}, "headers: "),
        ({"header": {}}, "header: is not known; access has the parts headers, auth, "),
        ({"authority": CANARY}, "authority: the authority is not PEM"),
        (
            {"authority": "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----"},
            "authority: the authority is",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(values, place):
    assert place in refusal(**values)


def test_what_was_not_written_by_us_cannot_be_read():
    for wrong in (b"\x00", b"[]", b'{"auth":{"kind":"canary"}}'):
        with pytest.raises(UserError, match="cannot be read: set it again") as caught:
            read(wrong)
        assert CANARY not in str(caught.value)


KEYS = {
    "an elliptic curve, SEC 1": (ec.generate_private_key(ec.SECP384R1()), PrivateFormat.TraditionalOpenSSL),
    "RSA, PKCS 1": (rsa.generate_private_key(65537, 2048), PrivateFormat.TraditionalOpenSSL),
    "RSA, PKCS 8": (rsa.generate_private_key(65537, 2048), PrivateFormat.PKCS8),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8),
}


@pytest.mark.parametrize(("key", "form"), KEYS.values(), ids=KEYS)
def test_a_client_certificate_is_kept_with_its_key_in_one_form(key, form):
    certificate, _ = AUTHORITY.issued(key)
    text = "issued by us\n" + certificate + AUTHORITY.root
    access = given({"certificate": {"chain": text, "key": key_pem(key, form)}, "authority": AUTHORITY.root})
    assert read(written(access)) == access
    assert access.identity() == (key_pem(key) + certificate + AUTHORITY.root).encode()
    assert len(access.authorities()) == 1
    assert access.tls() == access


def test_only_tls_is_for_others():
    access = given({"headers": {"x-key": CANARY}, "auth": OAUTH2, "authority": AUTHORITY.root})
    assert access.tls() == Access(authority=AUTHORITY.root)


def of_no_known_kind():
    """A certificate whose key has an algorithm that nobody knows."""
    certificate, _ = AUTHORITY.issued(ed25519.Ed25519PrivateKey.generate())
    der = ssl.PEM_cert_to_DER_cert(certificate)
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\x06\x03\x2b\x65\x70", b"\x06\x03\x2b\x65\x7f"))


def test_a_certificate_that_cannot_be_used_is_refused_with_the_reason():
    certificate, key = AUTHORITY.issued()
    _, other = AUTHORITY.issued()
    secret = key_pem(ec.generate_private_key(ec.SECP256R1()), encryption=BestAvailableEncryption(b"canary"))
    odd = dsa.generate_private_key(2048)

    def why(chain, key):
        words = refusal(certificate={"chain": chain, "key": key})
        assert key.splitlines()[1] not in words
        return words

    assert "certificate: the private key does not belong to the first certificate" in why(certificate, other)
    assert "the private key does not belong" in why(AUTHORITY.root + certificate, key)
    assert "the private key does not belong" in why(AUTHORITY.issued(odd)[0], key)
    assert "the private key does not belong" in why(of_no_known_kind(), key)
    assert "the private key is encrypted: take its passphrase off" in why(certificate, secret)
    assert "the private key is not PEM" in why(certificate, certificate)
    assert "the private key must be RSA" in why(AUTHORITY.issued(odd)[0], key_pem(odd))
    assert "the certificate is not PEM" in why(key, key)
    assert f"at most {MOST_CERTIFICATES}" in why(certificate * (MOST_CERTIFICATES + 1), key)


def test_the_parts_are_what_they_are_called():
    certificate, key = AUTHORITY.issued()
    assert isinstance(given({"auth": OAUTH2}).auth, ClientCredentials)
    assert isinstance(given({"auth": {"kind": "bearer", "token": "t"}}).auth, Bearer)
    assert isinstance(given({"auth": {"kind": "basic", "username": "u", "password": ""}}).auth, Basic)
    assert isinstance(given({"certificate": {"chain": certificate, "key": key}}).certificate, ClientCertificate)


def test_the_page_shows_access_that_can_be_given_and_names_every_part():
    section = (Path(__file__).parents[2] / "docs/webhooks.md").read_text().partition("## Access to your endpoint")[2]
    (example,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert given(json.loads(example)).auth.kind == "oauth2"
    for model in (Access, Basic, Bearer, ClientCredentials, ClientCertificate):
        assert all(f"`{name}`" in section for name in model.model_fields if name != "kind"), model
    for kind in ("basic", "bearer", "oauth2"):
        assert f"kind `{kind}`" in section
