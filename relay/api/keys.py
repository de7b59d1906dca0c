"""Public keys: what anybody may verify an endpoint's webhooks with, as a JWKS and in the form of Standard Webhooks."""

import base64
import hashlib
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from relay.api.problems import documented
from relay.api.reading import EndpointId, Reading
from relay.domain.ed25519_keys import PUBLIC_PREFIX
from relay.store.log import LogStore

FRESH = 300
"""Seconds that a copy may be used: a rotation's overlap is longer."""


class Key(BaseModel):
    """An ed25519 key as a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    x: str = Field(description="The key's 32 bytes, base64url.")
    kid: str = Field(description="The key's thumbprint (RFC 7638).")
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"


class Keys(BaseModel):
    """The keys of one endpoint; none when its webhooks are signed with a shared secret only."""

    keys: tuple[Key, ...]
    public_keys: tuple[str, ...] = Field(description="The same keys as `whpk_...`.")


def keys_router(log: LogStore, reading: Reading) -> APIRouter:
    """The path of the keys. It needs no token: these keys verify, and cannot sign."""
    router = APIRouter(prefix="/v1/endpoints", tags=["keys"])

    @router.get(
        "/{endpoint_id}/keys",
        summary="The public keys that an endpoint's webhooks are verified with",
        responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    async def keys(endpoint_id: EndpointId, response: Response) -> Keys:
        async with reading.turn():
            texts = await log.public_keys(endpoint_id)
        response.headers["cache-control"] = f"public, max-age={FRESH}"
        return Keys(keys=tuple(map(_key, texts)), public_keys=texts)

    return router


def _key(text: str) -> Key:
    x = text.removeprefix(PUBLIC_PREFIX).translate(str.maketrans("+/", "-_")).rstrip("=")
    thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
    return Key(x=x, kid=base64.urlsafe_b64encode(thumbprint).decode("ascii").rstrip("="))
