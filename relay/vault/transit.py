"""A KMS: the transit engine of HashiCorp Vault or OpenBao, over HTTP.

    POST /v1/<mount>/encrypt|decrypt|rewrap/<name>   {"batch_input": [...]} -> {"data": {"batch_results": [...]}}

Keys never leave it; what it wraps says which version of the key did it (`vault:v3:...`). No answer, a sealed server or
too many requests are Transient: whoever asked waits and tries again. What it refuses is KeyTrouble, with what to do.
"""

import asyncio
import base64
import binascii
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from relay.domain.errors import KeyTrouble, Throttled, Unavailable

AT_ONCE = 16
TOO_MANY, REFUSED, NOT_THERE, BAD = 429, (401, 403), 404, 400
LONGEST_QUOTE = 200
LOOPBACK = ("127.0.0.1", "::1", "localhost")
ADVICE = {
    "key not found": "it was deleted, or never made: restore it, or make it when nothing was wrapped by it yet",
    "too old": "the key's min_decryption_version is above it: lower it, then `relay keys rotate`, then raise it again",
    "message authentication failed": "it was changed, or wrapped by another key of that name: restore the row or key",
    "invalid ciphertext": "it was changed, or wrapped by another key of that name: restore the row or key",
}


@dataclass(frozen=True, slots=True)
class TransitAccess:
    """How to reach it. Of the token, the text is used when there is one, and else the file, as it is then."""

    url: str
    mount: str = "transit"
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    namespace: str | None = None
    ca_file: Path | None = None
    timeout: float = 5.0


class Transit:
    """Wraps and unwraps with the keys of one transit engine, of which it is asked for a few things at once."""

    def __init__(self, access: TransitAccess) -> None:
        parts = urlsplit(access.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise KeyTrouble("RELAY_VAULT__KMS_URL must begin with https:// (http:// only on this machine's loopback)")
        if not (access.token or access.token_file):
            raise KeyTrouble("the KMS wants a token: set RELAY_VAULT__KMS_TOKEN_FILE or RELAY_VAULT__KMS_TOKEN")
        self._access = access
        self._client: httpx.AsyncClient | None = None
        self._turn = asyncio.Semaphore(AT_ONCE)

    def __repr__(self) -> str:
        return f"Transit({self._place})"

    async def wrap(self, name: str, plain: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, encrypted under the newest version of the key."""
        items = [{"plaintext": base64.b64encode(each).decode()} for each in plain]
        return [_ciphertext(each) for each in await self._all("encrypt", name, items)]

    async def unwrap(self, name: str, wrapped: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, decrypted."""
        return [_plaintext(each) for each in await self._all("decrypt", name, _items(wrapped))]

    async def rewrap(self, name: str, wrapped: Sequence[bytes]) -> list[bytes | KeyTrouble]:
        """Each, encrypted under the newest version; what is inside is not shown."""
        return [_ciphertext(each) for each in await self._all("rewrap", name, _items(wrapped))]

    def version(self, wrapped: bytes) -> str:
        """Such as `v3`."""
        return wrapped.partition(b":")[2].partition(b":")[0].decode("ascii", "replace")

    async def close(self) -> None:
        """Close the connections."""
        if self._client:
            await self._client.aclose()
            self._client = None

    @property
    def _place(self) -> str:
        return urlsplit(self._access.url).netloc.rpartition("@")[2]

    async def _all(
        self, verb: str, name: str, items: Sequence[Mapping[str, str]]
    ) -> Sequence[Mapping[str, Any] | KeyTrouble]:
        if not items:
            return []
        async with self._turn:
            reply = await self._posted(f"/v1/{self._access.mount.strip('/')}/{verb}/{name}", {"batch_input": items})
        body = _json(reply)
        data = body.get("data")
        results = data.get("batch_results") if isinstance(data, Mapping) else None
        # With some of them refused the status is an error's, but all answers are there.
        if isinstance(results, list) and len(results) == len(items):
            return [self._judged(each, name) for each in results]
        raise self._trouble(reply, body, verb, name)

    def _judged(self, result: Any, name: str) -> Mapping[str, Any] | KeyTrouble:
        if not isinstance(result, Mapping):
            return KeyTrouble(f"the KMS at {self._place} answers in a form that is not transit's")
        if error := result.get("error"):
            return self._refused(str(error), name)
        return result

    async def _posted(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"x-vault-token": self._token(), "x-vault-request": "true"}
        if self._access.namespace:
            headers["x-vault-namespace"] = self._access.namespace
        try:
            return await self._http().post(path, json=body, headers=headers)
        except httpx.TimeoutException:
            raise Unavailable(f"the KMS at {self._place} did not answer in {self._access.timeout:g} s") from None
        except httpx.TransportError as error:
            raise Unavailable(f"the KMS at {self._place} cannot be reached: {error or type(error).__name__}") from None

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            # Nothing of the environment: no proxy sees the token, and no redirect takes it elsewhere.
            self._client = httpx.AsyncClient(
                base_url=self._access.url.rstrip("/"),
                verify=self._trusted(),
                timeout=self._access.timeout,
                trust_env=False,
                follow_redirects=False,
            )
        return self._client

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._access.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise KeyTrouble(f"RELAY_VAULT__KMS_CA_FILE `{self._access.ca_file}` cannot be read: {error}") from None

    def _token(self) -> str:
        path = self._access.token_file
        if self._access.token or path is None:
            return self._access.token
        try:
            token = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise KeyTrouble(f"cannot read the KMS's token in `{path}`: {reason}") from None
        if not token or not token.isprintable():
            raise KeyTrouble(f"`{path}` holds no token for the KMS")
        return token

    def _trouble(self, reply: httpx.Response, body: Mapping[str, Any], verb: str, name: str) -> Exception:
        status, said = reply.status_code, _said(body)
        where = f"the KMS at {self._place}"
        if status == TOO_MANY:
            asked = reply.headers.get("retry-after", "")
            return Throttled(f"{where} asks to slow down", retry_after=float(asked) if asked.isdecimal() else None)
        if status in REFUSED:
            return KeyTrouble(
                f"{where} refuses the token (status {status}): renew it, and allow it to update "
                f"{self._access.mount}/{verb}/{name}"
            )
        if status == NOT_THERE:
            return KeyTrouble(
                f"{where} has no transit engine at `{self._access.mount}` (status 404): see RELAY_VAULT__KMS_MOUNT and "
                "RELAY_VAULT__KMS_NAMESPACE"
            )
        if status == BAD:
            return self._refused(said or "status 400", name)
        return Unavailable(f"{where} takes no work now (status {status}{': ' if said else ''}{said})")

    def _refused(self, said: str, name: str) -> KeyTrouble:
        advice = next((text for sign, text in ADVICE.items() if sign in said), "")
        said = _printable(said)
        return KeyTrouble(f"the KMS at {self._place} says of its key `{name}`: {said}{'; ' if advice else ''}{advice}")


def _items(wrapped: Sequence[bytes]) -> list[dict[str, str]]:
    return [{"ciphertext": each.decode("ascii", "replace")} for each in wrapped]


def _ciphertext(result: Mapping[str, Any] | KeyTrouble) -> bytes | KeyTrouble:
    if isinstance(result, KeyTrouble):
        return result
    text = result.get("ciphertext")
    return text.encode() if isinstance(text, str) and text else KeyTrouble("the KMS answers without a ciphertext")


def _plaintext(result: Mapping[str, Any] | KeyTrouble) -> bytes | KeyTrouble:
    if isinstance(result, KeyTrouble):
        return result
    try:
        return base64.b64decode(str(result.get("plaintext")), validate=True)
    except binascii.Error:
        return KeyTrouble("the KMS answers without a plaintext")


def _json(reply: httpx.Response) -> Mapping[str, Any]:
    try:
        body = reply.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _said(body: Mapping[str, Any]) -> str:
    errors = body.get("errors")
    return _printable(str(errors[0])) if isinstance(errors, list) and errors else ""


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text.strip())[:LONGEST_QUOTE]
