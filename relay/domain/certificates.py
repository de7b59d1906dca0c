"""Certificates in PEM, read strictly, and written in the one form that the client takes.

The one thing to know: nothing here looks at the clock. A certificate that has ended is refused by the other side.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

MOST_CERTIFICATES = 20


def identity(chain: str, key: str, password: bytes = b"") -> bytes:
    """A certificate chain and its key (PKCS 8, PKCS 1 or SEC 1) as one PEM text, with nothing around them.

    With a password the key is encrypted.

    Raises:
        ValueError: they are no certificates, no key, or do not belong together. Repeats nothing of them.
    """
    certificates, private = _certificates(chain, "the certificate"), _private_key(key)
    if _public(certificates[0]) != private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ValueError("the private key does not belong to the first certificate")
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    parts = [private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)]
    return b"".join([*parts, *(each.public_bytes(Encoding.PEM) for each in certificates)])


def authorities(text: str) -> tuple[bytes, ...]:
    """Certificates in DER; none for an empty text. Raises ValueError when there is anything else in it."""
    certificates = _certificates(text, "the authority") if text.strip() else []
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


def _certificates(text: str, what: str) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError(f"{what} is not PEM: it must have -----BEGIN CERTIFICATE----- and its end") from None
    if len(certificates) > MOST_CERTIFICATES:
        raise ValueError(f"{what} has {len(certificates)} certificates: at most {MOST_CERTIFICATES} are allowed")
    return certificates


def _private_key(text: str) -> RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ValueError("the private key is encrypted: take its passphrase off") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the private key is not PEM: it must have -----BEGIN PRIVATE KEY----- and its end") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise ValueError("the private key must be RSA, of an elliptic curve, or ed25519")  # noqa: TRY004 - a text's fault
    return key


def _public(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None  # of a kind that no key here belongs to
