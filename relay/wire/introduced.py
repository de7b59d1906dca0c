"""A sender that says on whose behalf it calls, as a receiver that was asked for its permission may expect.

CloudEvents' HTTP webhook specification, section 2.1: each delivery names the origin that the handshake named.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from relay.domain.deliveries import Answer
from relay.domain.verification import REQUEST_ORIGIN
from relay.ports import Sending


@dataclass(frozen=True, slots=True)
class Introduced:
    """`sender`, with our name in each webhook."""

    sender: Sending
    origin: str

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body`; whatever happens is an answer."""
        return await self.sender.send({**headers, REQUEST_ORIGIN: self.origin}, body)
