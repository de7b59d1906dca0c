"""Once: a POST with the header `Idempotency-Key` that comes again gets the answer of the first, and changes nothing.

    same key, same request       the same answer, for a day
    same key, other request      422
    the first is under way       409

Only answers that tell of a change (2xx) are kept: what was refused changed nothing, and may be tried again. An answer
may hold a secret that is shown once; so it is sealed with a key that is derived from the idempotency key and the
caller's token, and neither of these is stored.
"""

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import orjson
import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Request, Response

from relay.api.problems import problem
from relay.domain.callers import Caller
from relay.domain.errors import Unavailable
from relay.store.idempotency import Begun, IdempotencyStore
from relay.vault.envelope import KEY_BYTES, open_sealed, seal

log = structlog.get_logger()

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{16,200}")


@dataclass(frozen=True, slots=True)
class Derived:
    """What one idempotency key of one caller gives: its name in the store, the print of its request, its key."""

    digest: bytes
    fingerprint: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Once:
    """Requests that are done once."""

    store: IdempotencyStore

    async def answer(
        self, request: Request, caller: Caller, token: str, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        """The answer of `work`, or the one that it gave before."""
        given = request.headers.get(HEADER)
        if given is None:
            return await work()
        if not _KEY.fullmatch(given):
            return problem(
                HTTPStatus.BAD_REQUEST,
                "Idempotency-Key: give 16 to 200 visible ASCII characters that nobody can guess, such as a new UUID",
                code="idempotency_key_unreadable",
            )
        derived = await _derived(request, caller, token, given)
        found = await self.store.begin(derived.digest, derived.fingerprint)
        if isinstance(found, Begun):
            return await self._first(found, derived, work)
        if not hmac.compare_digest(found.fingerprint, derived.fingerprint):
            detail = "Idempotency-Key: another request had this key: use a new one for each new request"
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code="idempotency_key_reused")
        if found.answer is None:
            detail = "Idempotency-Key: the first request with this key is still under way: try again in a moment"
            headers = {"retry-after": "1"}
            return problem(HTTPStatus.CONFLICT, detail, code="idempotency_key_in_use", headers=headers)
        return _opened(derived, found.answer)

    async def _first(self, begun: Begun, derived: Derived, work: Callable[[], Awaitable[Response]]) -> Response:
        try:
            answer = await work()
        except Exception:
            await self.store.abandon(begun)
            raise
        try:
            if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
                await self.store.finish(begun, _sealed(derived, answer))
            else:
                await self.store.abandon(begun)
        except Unavailable as error:
            # The change is made, and its answer must reach the caller; the key stays taken for some minutes.
            log.warning("answer.unkept", problem=str(error))
        return answer


async def _derived(request: Request, caller: Caller, token: str, given: str) -> Derived:
    secret = f"{given}\n{token}".encode()

    def derive(purpose: str) -> bytes:
        info = f"relay idempotency {purpose}".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=caller.id.encode(), info=info).derive(secret)

    told = [request.method.encode(), request.url.path.encode(), request.url.query.encode(), await request.body()]
    # Keyed: a request may hold a password that could otherwise be guessed from its print.
    fingerprint = hmac.digest(derive("print"), b"\n".join(told), "sha256")
    return Derived(derive("name"), fingerprint, derive("seal"))


def _sealed(derived: Derived, answer: Response) -> bytes:
    head = [answer.status_code, answer.headers.get("content-type"), answer.headers.get("location")]
    return seal(derived.key, orjson.dumps(head) + b"\n" + bytes(answer.body), derived.digest)


def _opened(derived: Derived, sealed: bytes) -> Response:
    head, _, body = open_sealed(derived.key, sealed, derived.digest).partition(b"\n")
    status, media_type, location = orjson.loads(head)
    headers = {"cache-control": "no-store", "idempotency-replayed": "true"}
    if location:
        headers["location"] = location
    if media_type:
        headers["content-type"] = media_type
    return Response(body, status, headers)
