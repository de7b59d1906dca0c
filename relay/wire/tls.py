"""TLS for calls: who is trusted, and what we prove that we are.

    context(access) -> one for all endpoints | its own, for one with an authority or a certificate of its own

The one thing to know: reading the public authorities takes 15 ms and a megabyte, so endpoints without wishes share one
context. It holds no sessions and no secrets: nothing of one endpoint reaches another by it.
"""

import asyncio
import os
import secrets
import ssl
import tempfile
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path

from relay.domain.access import Access

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that they trust, all in one file."""

_NOTHING = Access()
_FILE, _FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"


def trust_one_bundle(environment: MutableMapping[str, str], bundles: Sequence[str] = BUNDLES) -> None:
    """Name the system's file of trusted authorities, unless somebody has named a file or folder.

    A Python that was built elsewhere looks for it where it is not.
    """
    if not environment.keys() & {_FILE, _FOLDER}:
        found = next((path for path in bundles if Path(path).is_file()), None)
        if found:
            environment[_FILE] = found


class Trust:
    """The context of an endpoint with this access, made when it is first asked for."""

    def __init__(self, access: Access = _NOTHING) -> None:
        self._access = access
        self._made: ssl.SSLContext | None = None

    async def context(self) -> ssl.SSLContext:
        """Raises ValueError for what TLS cannot use."""
        if self._made is None:
            # In a thread: what it takes for thousands of endpoints must not hold up the others.
            shared = _is_usual(self._access)
            self._made = context(self._access) if shared else await asyncio.to_thread(context, self._access)
        return self._made


def context(access: Access) -> ssl.SSLContext:
    """How to call an endpoint with this access. Raises ValueError for what TLS cannot use."""
    if _is_usual(access):
        return _public(os.environ.get(_FILE), os.environ.get(_FOLDER))
    made = _trusting_the_public()
    # What a person trusts is trusted, be it a root or below one.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if access.authority:
            made.load_verify_locations(cadata=b"".join(access.authorities()))
        if access.certificate:
            _prove(made, access)
    except ssl.SSLError as error:
        raise ValueError("TLS cannot use the certificate, its key or the authority") from error
    return made


def _is_usual(access: Access) -> bool:
    return access.certificate is None and not access.authority


@lru_cache(maxsize=4)
def _public(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """For the file and folder that the environment names, which OpenSSL reads itself."""
    return _trusting_the_public()


def _trusting_the_public() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it asks for a certificate, and for the right name in it
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.hostname_checks_common_name = False
    made.set_alpn_protocols(["http/1.1"])
    made.load_default_certs()
    return made


def _prove(made: ssl.SSLContext, access: Access) -> None:
    # Python reads them from files only: so nobody else may read it, it is gone at once, and the key in it is encrypted.
    password = secrets.token_hex(32)
    with tempfile.NamedTemporaryFile() as file:
        file.write(access.identity(password.encode()) or b"")
        file.flush()
        made.load_cert_chain(file.name, password=password)
