"""Pull tokens: what a receiver shows to read its endpoint's log. Made here, shown once, kept as a digest."""

import os
from dataclasses import dataclass

from pydantic import Field

from relay.control.endpoint_views import EndpointView
from relay.control.views import View
from relay.domain.tokens import TOKEN_BYTES, TokenKind, digest_of, token_of
from relay.store.registry import Registry


class PullToken(View):
    """An endpoint's new pull token, in the one answer that shows it."""

    token: str = Field(repr=False)
    path: str
    """Where it is good for, on any relay's HTTP address."""
    endpoint: EndpointView


@dataclass(frozen=True, slots=True)
class PullTokens:
    """The tokens of endpoints: each has one or none."""

    registry: Registry

    async def issue(self, name: str) -> PullToken:
        """A new token; the one before it ends now. Raises NotFound, or UserError when several have that name."""
        endpoint = EndpointView.of(await self.registry.endpoint(name))
        token = token_of(TokenKind.PULL, os.urandom(TOKEN_BYTES))
        await self.registry.set_pull_token(endpoint.id, digest_of(token))
        return PullToken(token=token, path=f"/v1/endpoints/{endpoint.id}/events", endpoint=endpoint)

    async def revoke(self, name: str) -> EndpointView:
        """No token is good any more. Raises NotFound, or UserError when several have that name."""
        endpoint = EndpointView.of(await self.registry.endpoint(name))
        await self.registry.set_pull_token(endpoint.id, None)
        return endpoint
